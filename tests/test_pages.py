"""The pages in a real browser: pictures load, controls work, the console is quiet."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, run_test, run_train, write

from util.compare import main as compare
from util.html import HTML, chart, directions
from util.progress import Progress
from util.sinks.log_file import LogFile
from util.sinks.page import PATIENCE, Page

SEEN = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
DRAWN = "[...document.querySelectorAll('polyline')].filter(p => p.getBBox().width > 20).length"
WEB = Path("checkpoints/experiment_name/web/index.html")
RESULTS = Path("results/experiment_name/test_latest/index.html")


def seen(tab, count):
    """Wait until that many pictures are there."""
    tab.wait_for_function(f"{SEEN} == {count}")


def names(tab, table=0):
    """The images of a table in the order of its rows, without those that are hidden."""
    rows = "rows => rows.map(row => row.dataset.name)"
    return tab.locator("table.pictures").nth(table).locator("tbody tr:not([hidden])").evaluate_all(rows)


def test_the_page_of_a_training(strips, visit):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", 3, "--print_freq", 1, "--display_samples", 2,
              "--name", "<b>run #1 & ?")
    run_test("--dataroot", f"{strips}/test", "--name", "<b>run #1 & ?")
    tab = visit("checkpoints/<b>run #1 & ?/web/index.html")
    seen(tab, 2 * (3 + 3) + 3)  # each image: input, translation, truth, three epochs; the last step
    assert tab.evaluate(DRAWN) == 5               # four losses, the learning rate
    assert tab.inner_text(".state") == "Finished. Epoch 3, 9 images seen."
    shown = tab.locator(".row >> nth=0").locator("img").nth(1)
    assert shown.get_attribute("src") == "images/epoch003_sample1_fake_B.png"
    tab.locator("input.scrubber").fill("0")
    assert shown.get_attribute("src") == "images/epoch001_sample1_fake_B.png"
    assert tab.inner_text("output.epoch") == "epoch 1"
    tab.locator(".strip img").nth(1).click()
    assert shown.get_attribute("src") == "images/epoch002_sample1_fake_B.png"
    tab.locator("input.smoothing").fill("0.8")
    assert tab.locator("polyline.raw").count() == 5
    tab.locator("figure.chart svg >> nth=0").hover()
    assert re.fullmatch(r"D_fake [\d.]+ at epoch [\d.]+", tab.locator("figure.chart figcaption >> nth=0").inner_text())
    tab.get_by_text("results: test_latest").click()
    tab.get_by_text("training page").click()
    tab.wait_for_load_state("load")
    assert tab.inner_text("h1") == "Training of <b>run #1 & ?"


def test_the_same_images_at_every_save(strips):
    """The inputs of the samples stay, whatever was trained on last, and belong to the validation if there is one."""
    for i in range(5):
        write(Path(strips) / "val" / f"v{i}.png", picture(128, 64, seed=50 + i))
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", 2, "--display_samples", 3, "--val_freq", 1)
    images = WEB.parent / "images"
    assert {path.name for path in images.glob("*sample2*")} == {
        "sample2_real_A.png", "sample2_real_B.png", "epoch001_sample2_fake_B.png", "epoch002_sample2_fake_B.png"}
    import PIL.Image

    run_test("--model", "pix2pix", "--dataroot", strips, "--phase", "val")
    for label, saved in (("real_A", "sample2_real_A"), ("fake_B", "epoch002_sample2_fake_B")):
        written = RESULTS.parents[1] / "val_latest" / "images" / f"v1_{label}.png"  # 5 images: 0, 1 and 3 are shown
        assert (np.asarray(PIL.Image.open(images / f"{saved}.png")) == np.asarray(PIL.Image.open(written))).all()


def test_a_run_that_lives_and_one_that_has_died(tmp_path, visit):
    LogFile(tmp_path, Progress()).scalars(Progress(1, 4, 4), {"G": 0.5})
    page = Page(tmp_path, "run", 64, epochs=7, images=70)
    page.scalars(Progress(2, 5, 6), {"G": 1.0})
    html = tmp_path / "web/index.html"
    assert visit(html).inner_text(".state") == "Training: epoch 2 of 7, 21%"
    past = int(time.time()) - PATIENCE - 60
    html.write_text(re.sub(r'data-written="\d+"', f'data-written="{past}"', html.read_text()))
    state = visit(html).locator(".state")
    assert state.inner_text().startswith("No sign of life for 4 minutes: the training has died, or its machine")
    assert "--continue_train --name run" in state.inner_text() and "bad" in state.get_attribute("class")
    page._beaten -= 100
    page.beat()  # it was only slow
    assert visit(html).inner_text(".state") == "Training: epoch 2 of 7, 21%"


@pytest.mark.parametrize(("argv", "text"), (
    (("--n_epochs", 9, "--patience", 1, "--val_freq", 1, "--lr", 1e-9), r"Stopped early \(--patience 1\)\. Epoch \d, "),
    (("--max_bad_images", 0), r"Failed: strips/train/2.png: can't be read: .* Epoch 1, ")))
def test_how_a_run_ended(strips, visit, argv, text):
    write(Path(strips) / "val" / "0.png", picture(128, 64, seed=9))
    if "--max_bad_images" in argv:
        Path(strips, "train/2.png").write_bytes(Path(strips, "train/2.png").read_bytes()[:200])
    try:
        run_train("--model", "pix2pix", "--dataroot", strips, *argv, "--print_freq", 1, "--serial_batches")
    except Exception as error:
        assert "--max_bad_images" in argv, error
    assert re.match(text, visit(WEB).inner_text(".state"))


def test_health_is_shown_where_it_happened(tmp_path, visit):
    log, page = LogFile(tmp_path, Progress()), Page(tmp_path, "run", 64)
    for epoch in (1, 2, 3):
        page.images(Progress(epoch), {"sample1_real_A": picture(), "sample1_fake_B": picture(seed=epoch)})
        log.scalars(Progress(epoch, 4, 4 * epoch), {"G": 1.0 / epoch})
        if epoch == 2:
            log.note(Progress(2, 4, 8), "health: outputs collapse to one picture")
    page.close()
    tab = visit(tmp_path / "web/index.html")
    assert tab.locator(".strip .note").count() == 1
    assert tab.locator(".strip figure:has(.note)").inner_text() == "epoch 2 ⚠"
    assert "collapse" in tab.locator("path.health title").first.text_content()
    assert tab.locator("p.note").inner_text() == "epoch 2: health: outputs collapse to one picture"


def test_results_are_sorted_filtered_and_compared(strips, visit):
    for i in range(2, 12):
        write(Path(strips) / "test" / f"{i}.png", picture(128, 64, seed=i))
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_test("--model", "pix2pix", "--dataroot", strips, "--metrics", "l1,ssim")
    values = json.loads(RESULTS.with_name("metrics.json").read_text())["images"]
    tab = visit(RESULTS)
    by_name = [str(i) for i in range(12)]
    assert names(tab) == by_name
    seen(tab, 36)
    heads = tab.locator("thead th").all_inner_texts()
    assert heads == ["image", "input\n…_real_A.png", "translation\n…_fake_B.png", "truth\n…_real_B.png", "l1 ↓",
                     "ssim ↑"]
    assert "0 (equal) to 1" in tab.locator("thead button").nth(1).get_attribute("title")
    for metric, sign in (("l1", 1), ("ssim", -1)):
        best = sorted(by_name, key=lambda name: sign * values[name][f"fake_B/{metric}"])
        tab.get_by_role("button", name=metric).click()
        assert names(tab) == best
        tab.get_by_role("button", name=metric).click()
        assert names(tab) == sorted(by_name, key=lambda name: -sign * values[name][f"fake_B/{metric}"])
    tab.get_by_role("button", name="image").click()
    assert names(tab) == by_name
    assert names(visit(RESULTS, "#worst")) == sorted(by_name, key=lambda name: -values[name]["fake_B/l1"])
    tab.fill("input.filter", "1")
    assert names(tab) == sorted(["1", "10", "11"], key=lambda name: -values[name]["fake_B/l1"])
    assert tab.inner_text(".count") == "3 shown"
    tab.get_by_role("button", name="image").click()
    tab.locator("tbody tr:not([hidden]) td img").nth(1).click()
    view = tab.locator("dialog")
    assert [image.get_attribute("src").split("/")[-1] for image in view.locator("img").all()] == [
        "1_real_A.png", "1_fake_B.png"]
    view.locator("input[type=range]").fill("20")
    assert "--split: 20%" in view.locator(".stage").get_attribute("style")
    view.get_by_role("button", name="flicker").click()
    assert view.locator(".stage.flicker").count() == 1
    view.get_by_role("button", name="next").click()
    view.locator("select").nth(1).select_option("truth")
    assert view.locator("img").nth(1).get_attribute("src").endswith("10_real_B.png")
    for key, name in (("ArrowRight", "11"), ("ArrowLeft", "10"), ("ArrowLeft", "1")):
        tab.keyboard.press(key)
        assert view.locator("strong").inner_text() == name
    tab.keyboard.press("Escape")
    assert not view.is_visible()


def test_two_directions_are_two_tables(domains, visit):
    run_train("--model", "cycle_gan", "--dataroot", domains, "--netG", "resnet_1blocks")
    run_test("--model", "cycle_gan", "--dataroot", domains, "--metrics", "l1,swd")
    tab = visit(RESULTS)
    assert tab.locator("h2").all_inner_texts() == ["A to B: 3 images of domains/testA",
                                                   "B to A: 2 images of domains/testB"]
    assert tab.locator("table.pictures").nth(0).locator("thead th").all_inner_texts() == [
        "image", "input\n…_real_A.png", "translation\n…_fake_B.png", "translated back\n…_rec_A.png", "rec_A l1 ↓"]
    assert names(tab, 1) == ["0 0", "1 1"]  # the file of B, and what its results are called
    seen(tab, 3 * 3 + 2 * 3)


def test_results_without_scores_are_side_by_side(strips, visit):
    Path(strips, "test", "0.png").rename(Path(strips, "test", f"{'L' * 200}.png"))
    run_train("--model", "pix2pix", "--dataroot", strips, "--display_samples", 1)
    run_test("--dataroot", f"{strips}/test")
    tab = visit(RESULTS)
    tops = "images => images.map(image => image.getBoundingClientRect().y)"
    one, other = tab.locator("tbody tr").first.locator("img").evaluate_all(tops)
    assert one == other
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1400
    assert visit(WEB).inner_text("output.epoch") == "epoch 1"  # the only one


def test_a_small_screen_and_a_dark_one(strips, visit):
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_test("--dataroot", f"{strips}/test")
    tab = visit(RESULTS)
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.emulate_media(color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != light == "rgb(255, 255, 255)"


def test_the_page_of_a_comparison(strips, visit):
    for name in ("one", "two"):
        run_train("--model", "pix2pix", "--dataroot", strips, "--name", name, "--n_epochs", 2, "--print_freq", 1)
        run_test("--model", "pix2pix", "--dataroot", strips, "--name", name)
    compare(["one", "two"])
    tab = visit("comparison/index.html")
    seen(tab, 2 * 4)  # of each image: input, two translations, truth
    assert tab.evaluate(DRAWN) == 2 * 5
    tab.get_by_text("results of two").click()
    assert tab.inner_text("h1") == "two: test, checkpoint latest"


@pytest.mark.parametrize("content", ("", "[1", '{"labels": 3}', '{"labels": [], "state": {"kind": 1}}', "[" * 10 ** 5))
def test_a_damaged_state_of_the_page_is_made_anew(tmp_path, content):
    (tmp_path / "web").mkdir()
    for name in ("page.json", "results.json"):
        (tmp_path / "web" / name).write_text(content)
    Page(tmp_path, "run", 64).ended(Progress(2, 1, 5), "Finished.", True)
    assert "Finished. Epoch 2, 5 images seen." in (tmp_path / "web/index.html").read_text()


@pytest.mark.parametrize(("low", "high"), [("0.173", "1.2"), ("0.1731", "0.1732"), ("2", "2")])
def test_the_ends_of_a_curve_are_told_apart(tmp_path, visit, low, high):
    page = HTML(tmp_path, "curve")
    page.add(chart("l1", {"": ([1, 2, 3], [float(low), float(high), float("nan")])}))
    page.save()
    drawn = visit(tmp_path / "index.html").locator("svg text").all_text_contents()
    assert low in drawn and high in drawn


@pytest.mark.parametrize(("labels", "parts"), (
    ("real_A fake_B real_B", ["real_A fake_B real_B"]),
    ("real fake", ["real fake"]),
    ("real_A fake_B rec_A real_B fake_A rec_B", ["real_A fake_B rec_A", "real_B fake_A rec_B"]),
    ("real_A real_B fake_B", ["real_A real_B fake_B"]),
    ("answer", ["answer"])))
def test_directions(labels, parts):
    assert [" ".join(part) for part in directions(labels.split())] == parts
