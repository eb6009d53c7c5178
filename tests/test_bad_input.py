"""What a user can get wrong: one line, exit code 2, no traceback, nothing half-written."""

import re
from pathlib import Path

import pytest
import torch
from conftest import TINY, cli, picture, run_test, run_train, train_options, write

from data import create_dataset
from util import checkpoint
from util.errors import UsageError

WRONG = {
    "model": (["--model", "cycle_gann"], "Unknown model 'cycle_gann'. Did you mean 'cycle_gan'? Known: "),
    "dataset": (["--dataset_mode", "alined"], "Unknown dataset 'alined'. Did you mean 'aligned'? Known: "),
    "generator": (
        ["--netG", "resnet_9block"],
        "Unknown generator 'resnet_9block'. Did you mean 'resnet_9blocks'? Known: ",
    ),
    "discriminator": (["--netD", "basics"], "Unknown discriminator 'basics'. Did you mean 'basic'? Known: "),
    "norm": (["--norm", "btach"], "Unknown norm 'btach'. Did you mean 'batch'? Known: "),
    "objective": (["--gan_mode", "wgann"], "Unknown GAN objective 'wgann'. Did you mean 'wgan'? Known: "),
    "policy": (["--lr_policy", "cosin"], "Unknown value for --lr_policy 'cosin'. Did you mean 'cosine'? Known: "),
    "option": (["--lamda_L1", "3"], "unknown option '--lamda_L1' for --model pix2pix. Did you mean '--lambda_L1'?"),
    "required, misspelt": (
        ["--dataroott", "x"],
        "unknown option '--dataroott' for --model pix2pix. Did you mean '--dataroot'",
    ),
    "number": (["--lr", "fast"], "argument --lr: 'fast' is not a finite number from 0"),
    "seed": (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 to 4294967295"),
    "negative": (["--batch_size", "0"], "argument --batch_size: '0' is not a whole number from 1"),
    "size": (
        ["--crop_size", "64x64x64"],
        "argument --crop_size: '64x64x64' is not a size: one number for a square, or WIDTHxHEIGHT",
    ),
    "load smaller than crop": (["--load_size", "32"], "--load_size 32 is smaller than --crop_size 64"),
    "epochs": (["--epoch_count", "9"], "--epoch_count 9 is after the last epoch, 1"),
    "device": (["--device", "cuda:77"], "--device cuda:77 is not there"),
    "name": (["--name", "../x"], "--name '../x' leads out of checkpoints"),
    "plugins": (["--plugin_dir", "nope"], "--plugin_dir nope is not a folder"),
    "test": (["--model", "test"], "--model test can't be trained"),
    "module": (["--model", "no.such:Model"], "'no.such:Model' can't be imported: No module named 'no'"),
    "config": (["--config", "nope.yaml"], "--config nope.yaml does not exist"),
    "run": (["--continue_train", "--name", "nope"], "checkpoint checkpoints/nope/latest_net_G.pth does not exist"),
    "range": (["--range_A", "5"], "'5' is not a range of values; write LOW:HIGH"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options(strips, case):
    more, message = WRONG[case]
    with pytest.raises(UsageError) as error:
        run_train("--model", "pix2pix", "--dataroot", strips, *more)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert not Path("checkpoints").exists()


def layout(folder, **counts):
    for name, count in counts.items():
        (Path(folder) / name.replace("_", "/")).mkdir(parents=True)
        for i in range(count):
            write(Path(folder) / name.replace("_", "/") / f"{i}.png", picture())


@pytest.mark.parametrize(
    ("model", "folders", "message"),
    [
        (
            "pix2pix",
            None,
            "--dataroot d --phase train needs train/, or trainA/ + trainB/, or A/train/ + B/train/; d does not exist",
        ),
        ("pix2pix", {"trainA": 2}, "needs train/, or trainA/ .*; d holds trainA/ \\(2 images\\)"),
        ("pix2pix", {"train": 0}, "no image in d/train: d/train holds nothing; endings read: .jpg"),
        (
            "cycle_gan",
            {"trainA": 2, "testB": 1},
            "needs trainA/ + trainB/.*; d holds testB/ \\(1 images\\), trainA/ \\(2 images\\)",
        ),
        ("cycle_gan", {"trainA": 2, "trainB": 0}, "no image in d/trainB"),
        (
            "pix2pix",
            {"trainA": 3, "trainB": 1},
            "2 images have no partner of the same name in the other folder: d/trainA/1.png, d/trainA/2.png",
        ),
    ],
)
def test_data_roots(model, folders, message):
    if folders is not None:
        Path("d").mkdir()
        layout("d", **folders)
    with pytest.raises(UsageError, match=message.replace(" + ", r" \+ ")):
        create_dataset(train_options("--model", model, "--dataroot", "d"))


def test_pairs_of_unequal_size_and_odd_strips():
    write("d/trainA/x.png", picture(64, 64))
    write("d/trainB/x.png", picture(60, 64))
    with pytest.raises(UsageError, match="d/trainA/x.png: is 64x64 and its partner d/trainB/x.png is 60x64"):
        run_train("--model", "pix2pix", "--dataroot", "d")
    write("s/train/x.png", picture(65, 64))
    with pytest.raises(UsageError, match="s/train/x.png: is 65 pixels wide"):
        run_train("--model", "pix2pix", "--dataroot", "s")


def test_two_files_with_one_stem():
    for name in ("trainA/x.png", "trainA/x.bmp", "trainB/x.png"):
        write(f"d/{name}", picture())
    with pytest.raises(UsageError, match="have the same stem"):
        create_dataset(train_options("--model", "pix2pix", "--dataroot", "d"))


def test_identity_loss_with_unequal_channels(domains):
    with pytest.raises(UsageError, match="identity loss needs as many .* use --lambda_identity 0"):
        run_train("--model", "cycle_gan", "--dataroot", domains, "--input_nc", "1")


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 2])
def test_a_broken_image_ends_a_training_with_its_name_where_none_is_allowed(strips, threads):
    path = Path(strips) / "train" / "1.png"
    path.write_bytes(path.read_bytes()[:500])
    argv = ("--model", "pix2pix", "--dataroot", strips, *TINY, "--num_threads", threads, "--max_bad_images", "0")
    done = cli("train.py", *argv)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {path}: can't be read: image file is truncated"


def test_verbose_shows_the_traceback():
    done = cli("train.py", "--model", "pix2pix", "--dataroot", "nope", "--verbose")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "checkpoint checkpoints/experiment_name/7_net_G.pth does not exist. In that folder: 1_net_D.pth, 1_net",
        ),
        (b"", "can't be read as a checkpoint: damaged"),
        (b"hello", "can't be read as a checkpoint: damaged"),
        ("half", "can't be read as a checkpoint: damaged"),
    ],
)
def test_checkpoints(strips, content, message):
    run_train("--model", "pix2pix", "--dataroot", strips)
    path = Path("checkpoints/experiment_name/7_net_G.pth")
    if content is not None:
        whole = path.with_name("latest_net_G.pth").read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        run_test("--name", "experiment_name", "--dataroot", f"{strips}/test", "--epoch", "7")
    assert len(str(raised.value).splitlines()) == 1
    assert not Path("results").exists()


def test_a_bit_that_has_changed_is_noticed(tmp_path):
    path = tmp_path / "x_net_G.pth"
    checkpoint.save({"weight": torch.zeros(10000)}, path)
    content = bytearray(path.read_bytes())
    content[20000] ^= 1  # inside the tensor, which torch.load would read without a word
    path.write_bytes(content)
    with pytest.raises(UsageError, match="can't be read as a checkpoint: damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("how", ["torn", "another model"])
def test_a_state_that_does_not_fit(strips, domains, how):
    run_train("--model", "pix2pix", "--dataroot", strips)
    state = Path("checkpoints/experiment_name/latest_state.pth")
    if how == "torn":
        state.write_bytes(state.read_bytes()[:1000])
        message = "can't be read as a checkpoint.*; --epoch TAG --epoch_count N loads the networks alone"
        with pytest.raises(UsageError, match=message):
            run_train("--model", "pix2pix", "--dataroot", strips, "--continue_train")
    else:
        with pytest.raises(UsageError, match=r"does not fit this model \('G_A'\)"):
            run_train("--model", "cycle_gan", "--dataset_mode", "unaligned", "--dataroot", domains, "--continue_train")


@pytest.mark.parametrize("extra", ["wandb", "tensorboard"])
def test_extras_that_are_missing_are_named(strips, monkeypatch, extra):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == extra else find(name, *rest))
    with pytest.raises(UsageError, match=rf'--use_{extra} needs an extra: pip install -e "\.\[{extra}\]"'):
        run_train("--model", "pix2pix", "--dataroot", strips, f"--use_{extra}")
    assert not Path("checkpoints").exists()
