"""test.py: one-sided, sizes, depths, names, and independence of the batch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import cli, picture, run_test, run_train, write
from PIL import Image

from data.reading import read_image
from models.engine.results import ResultNames, write_visual
from networks import define_G
from util.errors import UsageError
from util.images import ValueRange

IMAGES = Path("results/experiment_name/test_latest/images")


class Copy(torch.nn.Module):
    """Puts out what it gets."""

    def forward(self, x):
        return x


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_every_trained_run_is_translated_from_its_name_alone(strips, domains):
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "p", "--netG", "resnet_6blocks", "--norm", "batch")
    run_train(
        "--model",
        "cycle_gan",
        "--dataroot",
        domains,
        "--name",
        "c",
        "--norm",
        "batch",
        "--input_nc",
        "1",
        "--lambda_identity",
        "0",
    )
    for run in "pc":
        assert run_test("--model", "test", "--name", run, "--dataroot", "domains/testA") == 0
        assert len(list(Path(f"results/{run}/test_latest/images").glob("*_fake.png"))) == 3


def test_the_direction_finds_the_generator_and_the_channels(domains, capsys):
    run_train(
        "--model",
        "cycle_gan",
        "--dataroot",
        domains,
        "--input_nc",
        "1",
        "--lambda_identity",
        "0",
        "--direction",
        "BtoA",
    )
    for more, name in (
        ((), "G_A"),
        (("--direction", "BtoA"), "G_A"),
        (("--direction", "AtoB"), "G_B"),
        (("--model_suffix", "_B"), "G_B"),
    ):
        capsys.readouterr()
        assert run_test("--dataroot", "domains/testB", *more) == 0
        assert f"latest_net_{name}.pth" in capsys.readouterr().out
        folder = IMAGES if name == "G_A" else Path("results/experiment_name/test_latest_AtoB/images")
        assert pixels(folder / "0_fake.png").ndim == (3 if name == "G_A" else 2)  # G_A: 1 channel -> 3


@pytest.mark.parametrize(
    ("netG", "norm", "dropout"),
    [("resnet_6blocks", "batch", True), ("unet_64", "instance", False), ("resnet_9blocks", "none", False)],
)
def test_bare_weights_describe_themselves(domains, netG, norm, dropout):
    net = define_G(3, 1, 5, netG, norm, dropout)
    Path("checkpoints/published").mkdir(parents=True)
    torch.save(net.state_dict(), "checkpoints/published/latest_net_G.pth")
    assert run_test("--name", "published", "--dataroot", "domains/testA", "--crop_size", "64") == 0
    assert pixels("results/published/test_latest/images/0_fake.png").shape == (64, 64)


def test_bare_weights_of_both_directions(domains):
    Path("checkpoints/two").mkdir(parents=True)
    for name, channels in (("G_A", (3, 1)), ("G_B", (1, 3))):
        torch.save(
            define_G(*channels, 4, "resnet_6blocks", "instance").state_dict(), f"checkpoints/two/latest_net_{name}.pth"
        )
    run_test("--name", "two", "--dataroot", "domains/testB", "--direction", "BtoA", "--crop_size", "32")
    assert pixels("results/two/test_latest_BtoA/images/0_real.png").ndim == 2


@pytest.mark.parametrize(
    "more", [("--netG", "resnet_9blocks"), ("--norm", "batch"), ("--ngf", "3"), ("--input_nc", "1")]
)
def test_a_mismatch_names_the_option(strips, domains, more):
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "instance")
    with pytest.raises(UsageError, match=f"does not fit the network: it was trained with .*{more[0]}.*here: {more[1]}"):
        run_test("--dataroot", "domains/testA", *more)


@pytest.mark.parametrize("netG", ["unet_64", "resnet_6blocks"])
def test_size_out_is_size_in(strips, netG):
    run_train("--model", "pix2pix", "--dataroot", strips, "--netG", netG)
    for width, height in ((65, 31), (100, 70), (64, 64), (7, 200)):
        write(f"in/{width}.png", picture(width, height))
    assert run_test("--dataroot", "in", "--preprocess", "none", "--batch_size", "3") == 0
    for width, height in ((65, 31), (100, 70), (64, 64), (7, 200)):
        assert pixels(IMAGES / f"{width}_fake.png").shape == (height, width, 3)


def test_results_do_not_depend_on_batch_order_or_threads(strips):
    """With batch norm and dropout, in training mode as pix2pix has it."""
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "batch", "--n_epochs", "2")
    for i in range(5):
        write(f"in/{i}.png", picture(64, 64 + 8 * (i % 2), seed=i))
    for run, more in (("one", ()), ("two", ("--batch_size", "3", "--num_threads", "2"))):
        assert run_test("--dataroot", "in", "--preprocess", "none", "--results_dir", run, *more) == 0
    write("alone/3.png", picture(64, 72, seed=3))
    run_test("--dataroot", "alone", "--preprocess", "none", "--results_dir", "three")
    folder = Path("experiment_name/test_latest/images")
    for i in range(5):
        difference = pixels("one" / folder / f"{i}_fake.png") - pixels("two" / folder / f"{i}_fake.png")
        assert abs(difference).max() <= 1
    assert abs(pixels("one" / folder / "3_fake.png") - pixels("three" / folder / "3_fake.png")).max() <= 1


def test_an_image_that_is_no_file_has_a_name_too():
    assert ResultNames(None, []).of("made/up/a.png", ["made"]) == "up/a"


def test_names_mirror_the_tree_and_never_meet(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    for name in ("x/a.jpg", "y/a.png", "y/a.bmp", "b [1].png"):
        write(f"in/{name}", picture())
    run_test("--dataroot", "in")
    assert {str(path.relative_to(IMAGES)) for path in IMAGES.rglob("*_fake.png")} == {
        "x/a_fake.png",
        "y/a.png_fake.png",
        "y/a.bmp_fake.png",
        "b [1]_fake.png",
    }
    run_test("--dataroot", "in", "--num_test", "2", "--results_dir", "few")
    assert len(list(Path("few").rglob("*_fake.png"))) == 2


def test_unequal_domains_show_the_longer_one_alone(domains):
    run_train("--model", "cycle_gan", "--dataroot", domains)
    run_test("--model", "cycle_gan", "--dataroot", domains, "--batch_size", "4")
    labels = {i: {p.name.removeprefix(f"{i}_") for p in IMAGES.glob(f"{i}_*")} for i in range(3)}
    both = {"real_A.png", "fake_B.png", "rec_A.png", "real_B.png", "fake_A.png", "rec_B.png"}
    assert labels == {0: both, 1: both, 2: {"real_A.png", "fake_B.png", "rec_A.png"}}


def test_two_sided_results_never_meet(tmp_path):
    """Where A has run out, B's images keep their folder's name."""
    for name in ("testA/2", "testA/3", "testB/1", "testB/2", "testB/3", "trainA/1", "trainB/1"):
        write(tmp_path / "d" / f"{name}.png", picture())
    run_train("--model", "cycle_gan", "--dataroot", "d")
    run_test("--model", "cycle_gan", "--dataroot", "d", "--batch_size", "2")
    assert {str(path.relative_to(IMAGES)) for path in IMAGES.rglob("*_fake_*")} == {
        "2_fake_B.png",
        "2_fake_A.png",
        "3_fake_B.png",
        "3_fake_A.png",
        "testB/3_fake_A.png",
    }


def test_a_two_sided_data_root_gives_the_side_of_the_direction(domains):
    run_train("--model", "cycle_gan", "--dataroot", domains)
    for direction, count in (("AtoB", 3), ("BtoA", 2)):
        assert run_test("--dataroot", domains, "--direction", direction, "--results_dir", direction) == 0
        assert len(list(Path(direction).rglob("*_fake.png"))) == count


def test_a_test_of_broken_images_alone_leaves_an_earlier_page(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_test("--dataroot", f"{strips}/test")
    page = (IMAGES.parent / "index.html").read_text()
    Path("in").mkdir()
    Path("in/x.png").write_bytes(b"")
    assert run_test("--dataroot", "in") == 1
    assert (IMAGES.parent / "index.html").read_text() == page


def test_a_run_is_not_tested_against_its_direction(strips, domains):
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "p")
    run_train("--model", "cycle_gan", "--dataroot", domains, "--name", "c")
    for run, model, root in (("p", "pix2pix", strips), ("c", "cycle_gan", domains)):
        with pytest.raises(UsageError, match=f"run {run} was trained with --direction AtoB"):
            run_test("--model", model, "--name", run, "--dataroot", root, "--direction", "BtoA")


def test_a_colorization_run_is_translated_in_colour(tmp_path):
    write(tmp_path / "photos/train/x.png", picture())
    write(tmp_path / "in/grey.png", picture(channels=1))
    run_train("--model", "colorization", "--dataroot", "photos")
    assert run_test("--model", "test", "--dataroot", "in") == 0
    assert pixels(IMAGES / "grey_fake_B_rgb.png").shape == (64, 64, 3)


def test_deep_images_through_bare_weights_stay_deep(tmp_path):
    Path("checkpoints/bare").mkdir(parents=True)
    torch.save(define_G(1, 1, 2, "resnet_6blocks", "instance").state_dict(), "checkpoints/bare/latest_net_G.pth")
    Path("in").mkdir()
    Path("in/broken.png").write_bytes(b"")
    Image.fromarray((np.random.default_rng(0).random((32, 32)) * 4095).astype(np.uint16)).save("in/x.png")
    assert run_test("--name", "bare", "--dataroot", "in", "--preprocess", "none") == 1
    assert pixels("results/bare/test_latest/images/x_fake.png").max() > 255


def test_broken_images_are_skipped_and_named(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    write("in/good.png", picture())
    Path("in/empty.png").write_bytes(b"")
    Path("in/torn.png").write_bytes(Path("in/good.png").read_bytes()[:300])
    done = cli("test.py", "--dataroot", "in", "--name", "experiment_name")
    assert done.returncode == 1
    assert "skipped in/empty.png: is empty" in done.stderr
    assert "skipped in/torn.png: can't be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert (IMAGES / "good_fake.png").exists()


@pytest.mark.parametrize(
    ("ending", "dtype", "channels"),
    [
        ("png", "uint16", 1),
        ("tif", "uint16", 3),
        ("tif", "float32", 1),
        ("npy", "float32", 4),
        ("npy", "uint16", 1),
        ("tif", "uint16", 6),
    ],
)
def test_depth_goes_through_a_trained_run_and_back(tmp_path, monkeypatch, ending, dtype, channels):
    """Train on deep images, then translate with the identity as generator: what comes out is what went in."""
    generator = np.random.default_rng(0)
    arrays = {}
    for i in range(2):
        shape = (64, 64) if channels == 1 else (64, 64, channels)
        arrays[i] = (generator.random(shape) * 5000 - (100 if dtype == "float32" else 0)).astype(dtype)
        for domain in "AB":
            path = Path(f"deep/train{domain}/{i}.{ending}")
            path.parent.mkdir(parents=True, exist_ok=True)
            if ending == "npy":
                np.save(path, arrays[i])
            elif ending == "tif":
                tifffile.imwrite(
                    path,
                    arrays[i],
                    **({"planarconfig": "contig"} if channels > 1 else {}),
                    photometric="rgb" if channels == 3 else "minisblack",
                )
            else:
                Image.fromarray(arrays[i]).save(path)
    run_train("--model", "pix2pix", "--dataroot", "deep", "--input_nc", channels, "--output_nc", channels)
    record = json.loads(Path("checkpoints/experiment_name/train_opt.json").read_text())["options"]
    assert (record["depth_A"], record["depth_B"]) == (dtype, dtype)
    monkeypatch.setattr("models.engine.building.define_G", lambda *_: Copy())
    monkeypatch.setattr("models.engine.saving.load_network", lambda *_: None)
    assert run_test("--dataroot", "deep/trainA", "--preprocess", "none") == 0
    for i, array in arrays.items():
        preview = pixels(IMAGES / f"{i}_fake.png")
        if ending == "png":
            written = preview
            assert pixels(IMAGES / f"{i}_fake_8bit.png").shape == (64, 64, 3)  # what the page shows
        else:
            assert preview.shape == (64, 64, 3)
            exact = IMAGES / f"{i}_fake.{ending}"
            written = np.load(exact)[:, :, :] if ending == "npy" else tifffile.imread(exact)
            assert written.dtype == dtype
        np.testing.assert_allclose(written.squeeze(), array, atol=5e-3 if dtype == "float32" else 0)


def test_an_eight_bit_picture_for_a_sixteen_bit_run_is_refused_by_name(tmp_path):
    for domain in "AB":
        for i in range(2):
            path = Path(f"d/train{domain}/{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((np.random.default_rng(i).random((64, 64)) * 4095).astype(np.uint16)).save(path)
    run_train("--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1")
    write("in/x.png", picture(channels=1))
    assert run_test("--dataroot", "in") == 1
    assert run_test("--dataroot", "in", "--depth_A", "uint8", "--range_A", "0:255") == 0


def test_aspect_ratio_and_one_file(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    write("x.png", picture())
    run_test("--dataroot", "x.png", "--aspect_ratio", "1.5")
    assert pixels(IMAGES / "x_fake.png").shape == (64, 96, 3)
    run_test("--dataroot", "x.png", "--aspect_ratio", "0.5")
    assert pixels(IMAGES / "x_fake.png").shape == (128, 64, 3)


@pytest.mark.parametrize(("source", "exact"), [("x.npy", "y.npy"), ("x.tif", "y.tif")])
def test_aspect_ratio_is_that_of_the_exact_file_too(tmp_path, source, exact):
    value = torch.rand(4, 8, 6)
    assert write_visual(tmp_path, "y", value, ValueRange.parse("float32", "0:1"), source, 2.0) == ("y.png", exact)
    assert read_image(str(tmp_path / exact), None).shape == (8, 12, 4)
    assert pixels(tmp_path / "y.png").shape == (8, 12, 3)


def test_names_with_markup_are_escaped_and_names_that_lead_out_refused(strips):
    name = "<img src=x onerror=alert(1)>"
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", name)
    write("in/<b>&'\".png", picture())
    run_test("--dataroot", "in", "--name", name)
    for page in (Path("checkpoints") / name / "web/index.html", Path("results") / name / "test_latest/index.html"):
        text = page.read_text()
        assert "<img src=x" not in text
        assert "<b>" not in text
        assert "&lt;img src=x" in text
    for bad in ("../out", "/abs", "a/../../out", "."):
        for more in ((), ("--results_dir", "r")):
            with pytest.raises(UsageError, match="leads out of"):
                run_test("--dataroot", "in", "--name", bad, *more)
    shutil.copytree(Path("checkpoints") / name, "checkpoints/plain")
    with pytest.raises(UsageError, match="leads out of"):
        run_test("--dataroot", "in", "--name", "plain", "--phase", "../../../x")
