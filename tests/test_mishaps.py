"""What people met: runs that start wrong, plugins with a slip, results that collide, outputs that are closed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, equal, model_file, picture, run_on, run_test, run_train, train_options, weights, write

import train
from models import create_model
from models.engine.results import ResultNames
from networks.layers import check_size
from util.errors import UsageError
from util.metrics.set_metrics import patches, swd

RUN = Path("checkpoints/experiment_name")
IMAGES = Path("results/experiment_name/test_latest/images")


def start(*argv):
    train.train(train.parse([*TINY, *map(str, argv)]))


# Starts.

def test_a_failed_start_takes_nothing_away(strips, domains):
    kept = weights(run_train("--model", "pix2pix", "--dataroot", strips))
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    for i, width in enumerate((64, 66, 70)):
        write(f"odd/train/{i}.png", picture(2 * width))
    for wrong in (("--dataroot", "odd", "--preprocess", "none", "--batch_size", "3"),
                  ("--dataroot", strips, "--input_nc", "7"), ("--dataroot", domains, "--dataset_mode", "unaligned")):
        with pytest.raises(UsageError):
            start("--model", "pix2pix", *wrong)
        after = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
        assert {path: content for path, content in after.items() if path.name != ".lock"} == {
            path: content for path, content in before.items() if path.name != ".lock"}
    assert equal(kept, weights(run_on("--n_epochs", "2"))[:len(kept)]) is False  # it went on


@pytest.mark.parametrize(("model", "mode", "message"), [
    ("pix2pix", "unaligned", "--model pix2pix needs pairs, and --dataset_mode unaligned has none; use"),
    ("pix2pix", "single", "--model pix2pix needs a second domain, and --dataset_mode single has none"),
    ("cycle_gan", "single", "--model cycle_gan needs a second domain.*; use --dataset_mode unaligned"),
])
def test_models_say_what_they_need(domains, model, mode, message):
    with pytest.raises(UsageError, match=message):
        start("--model", model, "--dataset_mode", mode, "--dataroot", domains)


def test_pairs_for_a_model_without_pairs_are_told(strips, capsys):
    run_train("--model", "cycle_gan", "--dataset_mode", "aligned", "--dataroot", strips)
    assert "--model cycle_gan learns without pairs; --dataset_mode aligned shows it each image with its partner" in (
        capsys.readouterr().err)


# Plugins.

def test_a_loss_that_is_none_names_the_method_and_its_line(strips):
    argv = model_file("slip", "Pix2Pix", "    def generator_loss(self):\n        super().generator_loss()\n")
    with pytest.raises(UsageError, match=r"SlipModel\.generator_loss \(.*slip_model\.py line \d+\) gives "
                                         r"minimize\('G', \.\.\.\) None; it must return the loss"):
        start(*argv, "--dataroot", strips)


def test_a_misspelt_visual_is_told_once(strips, capsys):
    body = ("    def __init__(self, opt):\n        super().__init__(opt)\n"
            "        self.visual_names = ['real_A', 'fake_b']\n")
    argv = model_file("misspelt", "Pix2Pix", body)
    run_train(*argv, "--dataroot", strips)
    told = "MisspeltModel has 'fake_b' in visual_names, but sets no such attribute. Did you mean 'fake_B'?"
    assert capsys.readouterr().err.count(told) == 1


@pytest.mark.parametrize("word", ["nan", "-1", "inf"])
def test_weights_of_losses_are_numbers_from_0(word):
    with pytest.raises(UsageError, match="--lambda_L1"):
        train_options("--model", "pix2pix", "--dataroot", "x", f"--lambda_L1={word}")


def test_a_penalty_of_recomputed_activations_has_the_right_gradient(strips):
    found = []
    for more in ((), ("--checkpoint_activations",)):
        opt = train_options("--model", "pix2pix", "--dataroot", "x", "--gan_mode", "wgangp", *more)
        torch.manual_seed(0)
        model = create_model(opt)
        model.setup(opt)
        torch.manual_seed(1)
        images = {domain: torch.rand(1, 3, 64, 64) for domain in "AB"}
        model.set_input({**images, "A_paths": ["a"], "B_paths": ["b"]})
        model.forward()
        torch.manual_seed(2)
        model.discriminator_loss().backward()
        found.append([p.grad for p in model.netD.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_steps_that_are_all_skipped_end_the_run(strips):
    body = "    def generator_loss(self):\n        return super().generator_loss() * float('nan')\n"
    body += "    def discriminator_loss(self):\n        return super().discriminator_loss() * float('nan')\n"
    argv = model_file("hopeless", "Pix2Pix", body)
    with pytest.raises(UsageError, match="no step (was finite, nothing is trained|is finite any more)"):
        start(*argv, "--dataroot", strips)


# Results.

def test_two_inputs_never_share_a_name(tmp_path):
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png"):
        write(Path("x") / name, picture())
    for folder in ("test", "testA"):
        write(Path(folder) / "same.png", picture())
    names = ResultNames(None, [])
    found = [names.of(f"x/{name}", ["x"]) for name in ("a.jpg", "a.png", "a.jpg.png", "b.png")]
    assert found == ["a.jpg", "a.png", "a.jpg.png", "b"]
    assert [names.of(f"{folder}/same.png", ["test", "testA"]) for folder in ("test", "testA")] == ["same", "testA/same"]


def test_results_of_an_earlier_test_do_not_stay(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    for i in range(2):
        write(f"one/{i}.png", picture(seed=i))
    assert run_test("--dataroot", "one") == 0
    (IMAGES / "mine.txt").touch()
    os.remove("one/0.png")
    assert run_test("--dataroot", "one") == 0
    assert {path.name for path in IMAGES.iterdir()} == {"1_real.png", "1_fake.png", "mine.txt"}
    listed = IMAGES.parent / "images.json"
    listed.write_text(json.dumps({"x": {"fake": ["../../../../one/1.png"] * 2}}))
    with pytest.raises(UsageError, match="leads out of"):
        run_test("--dataroot", "one")
    assert Path("one/1.png").exists()


def test_both_directions_of_a_cycle_have_results(domains):
    run_train("--model", "cycle_gan", "--dataroot", domains)
    for direction, folder in (("AtoB", "test_latest"), ("BtoA", "test_latest_BtoA")):
        assert run_test("--dataroot", domains, "--direction", direction) == 0
        assert list(Path(f"results/experiment_name/{folder}/images").glob("*_fake.png"))


def test_a_result_that_cannot_be_written_is_named_and_passed_over(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    write(f"x/{'a' * 250}.png", picture())
    write("x/b.png", picture())
    assert run_test("--dataroot", "x") == 1
    done = capsys.readouterr()
    assert "aaa.png: its result can't be written: " in done.err
    assert "1 images translated, 1 skipped: results/" in done.out
    assert (IMAGES / "b_fake.png").exists()


def test_no_page_is_named_if_there_is_none(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    Path("x").mkdir()
    Path("x/a.png").write_bytes(b"no image")
    assert run_test("--dataroot", "x") == 1
    assert capsys.readouterr().out.rstrip().endswith("0 images translated, 1 skipped")


def test_strips_given_to_a_run_of_pairs_are_recognised(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    assert run_test("--dataroot", f"{strips}/test") == 0
    assert "is twice as wide as high, like the strips {A|B}" in capsys.readouterr().err


# Outputs that are closed.

@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
def test_a_closed_output_stops_nothing(strips, closed):
    words = " ".join([sys.executable, str(ROOT / "train.py"), "--model", "pix2pix", "--dataroot", str(strips), *TINY])
    done = subprocess.run(f"{words} {closed}", shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (RUN / "latest_net_G.pth").exists()


def test_a_list_may_be_cut_off():
    command = f"{sys.executable} -m data.download list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Metrics.

def test_swd_of_plain_pictures_is_a_number_of_their_size():
    plain = torch.full((3, 3, 32, 32), 0.5)
    noise = torch.as_tensor(np.random.default_rng(0).random((3, 3, 32, 32)))
    assert swd(patches(plain), patches(plain)) == 0
    assert 0 < swd(patches(noise), patches(plain)) < 1e6


def test_one_pixel_is_refused_by_name():
    with pytest.raises(UsageError, match="--netD pixel needs images of at least 2x2, not 1x1"):
        opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--netD", "pixel", "--netG", "resnet_6blocks",
                            "--crop_size", "1", "--load_size", "1")
        check_size(create_model(opt).netD_A, 1, 1)
