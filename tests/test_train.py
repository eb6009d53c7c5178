"""Trainings from start to end, resumed, and what they leave behind."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, cli, equal, picture, run_on, run_test, run_train, weights, write

from models import create_model, find_model_using_name
from models.engine.state import learning_rate
from options.train_options import TrainOptions
from util.errors import Stopped, UsageError

RUN = Path("checkpoints/experiment_name")


@pytest.fixture
def photographs(tmp_path):
    for phase in ("train", "test"):
        for i in range(2):
            write(tmp_path / "photos" / phase / f"{i}.png", picture(seed=i))
    return "photos"


CASES = [
    ("pix2pix", "aligned", "strips", ["G", "D"]),
    ("cycle_gan", "unaligned", "domains", ["G_A", "G_B", "D_A", "D_B"]),
    ("colorization", "colorization", "photographs", ["G", "D"]),
    ("template", "aligned", "strips", ["G"]),
    ("template", "template", "photographs", ["G"]),
]


@pytest.mark.parametrize(("model", "mode", "data", "nets"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_one_epoch_of_every_model_and_dataset(model, mode, data, nets, request):
    root = request.getfixturevalue(data)
    argv = ("--model", model, "--dataset_mode", mode, "--dataroot", root)
    run_train(*argv)
    assert {path.name for path in RUN.glob("*.pth")} == {
        "latest_state.pth",
        *(f"{tag}_net_{net}.pth" for tag in ("1", "latest") for net in nets),
    }
    lines = (RUN / "loss_log.txt").read_text().splitlines()
    assert re.fullmatch(r"\(epoch: 1, iters: 2, time: \d+\.\d{3}, data: \d+\.\d{3}\) (\w+: -?\d+\.\d{3} )+", lines[1])
    points = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for point in points for value in point["losses"].values())
    assert {"index.html", "images", "page.json"} == {path.name for path in (RUN / "web").iterdir()}
    assert run_test(*argv) == 0
    results = Path("results/experiment_name/test_latest")
    assert (results / "index.html").exists()
    assert len(list((results / "images").glob("*.png"))) >= 2 * len(list(Path(root).glob("test*/*"))[:1])


@pytest.mark.slow
def test_an_existing_script_runs_as_it_is(strips):
    """In processes of its own, with the older spellings."""
    common = ["--dataroot", strips, "--name", "old", "--gpu_ids", "-1", "--netG", "unet_64", "--ngf", "2"]
    done = cli(
        "train.py",
        *common,
        "--model",
        "pix2pix",
        "--ndf",
        "2",
        "--load_size",
        "72",
        "--crop_size",
        "64",
        "--direction",
        "BtoA",
        "--display_id",
        "-1",
        "--n_epochs",
        "1",
        "--n_epochs_decay",
        "0",
        "--num_threads",
        "2",
        "--batch_size",
        "2",
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = cli("test.py", *common, "--model", "pix2pix", "--direction", "BtoA", "--crop_size", "64", "--eval")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in Path("results/old/test_latest/images").iterdir()} == {
        f"{i}_{label}.png" for i in range(2) for label in ("real_A", "fake_B", "real_B")
    }


@pytest.mark.parametrize("policy", ["linear", "plateau", "step", "cosine"])
def test_a_continued_run_is_the_run(strips, policy):
    argv = (
        "--model",
        "pix2pix",
        "--dataroot",
        strips,
        "--n_epochs",
        "2",
        "--n_epochs_decay",
        "2",
        "--lr_policy",
        policy,
        "--save_epoch_freq",
        "1",
    )
    whole = run_train(*argv, "--name", "whole")
    with stopped_at(8):
        run_train(*argv, "--name", "parts")
    resumed = run_on("--name", "parts")
    assert equal(weights(whole), weights(resumed))
    assert learning_rate(whole) == learning_rate(resumed)
    points = [json.loads(line) for line in Path("checkpoints/parts/loss_log.jsonl").read_text().splitlines()]
    assert points[-1]["total_iters"] == 12


@contextmanager
def stopped_at(n, name="pix2pix"):
    """Inside the block, a training is interrupted at its n-th step."""
    model = find_model_using_name(name)
    step, steps = model.optimize_parameters, []

    def stop(self):
        steps.append(1)
        if len(steps) == n:
            raise KeyboardInterrupt
        step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model, "optimize_parameters", stop)
        yield


def test_a_run_stopped_inside_an_epoch_goes_on_from_its_last_save(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "2")
    whole = run_train(*argv, "--name", "whole")
    with stopped_at(5):
        run_train(*argv, "--name", "parts", "--save_latest_freq", "1")
    assert equal(weights(whole), weights(run_on("--name", "parts")))


def test_the_image_pools_are_continued(domains):
    argv = (
        "--model",
        "cycle_gan",
        "--dataroot",
        domains,
        "--n_epochs",
        "4",
        "--pool_size",
        "2",
        "--save_epoch_freq",
        "1",
    )
    whole = run_train(*argv, "--name", "whole")
    with stopped_at(8, "cycle_gan"):
        run_train(*argv, "--name", "parts")
    assert equal(weights(whole), weights(run_on("--name", "parts")))


def test_the_learning_rate_of_a_continued_run_is_that_of_its_epoch(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "1", "--n_epochs_decay", "1")
    model = create_model(
        TrainOptions().parse(["--continue_train", "--n_epochs", "4", "--lr", "0.01", "--beta1", "0.9"])
    )
    model.setup(model.opt)
    assert model._engine.progress["epoch"] == 3
    assert learning_rate(model) == 0.01
    assert model.optimizer_G.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_training_after_its_step_and_loses_nothing(strips, number):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "2", "--batch_size", "2")
    whole = run_train(*argv, "--name", "whole")
    model = find_model_using_name("pix2pix")
    step, before = model.optimize_parameters, signal.getsignal(number)

    def signalled(self):
        os.kill(os.getpid(), number)
        step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(model, "optimize_parameters", signalled)
        run_train(*argv, "--name", "parts")
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert equal(weights(whole), weights(run_on("--name", "parts")))


def test_a_second_ctrl_c_ends_at_once(strips):
    model = find_model_using_name("pix2pix")

    def signalled(self):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model, "optimize_parameters", signalled)
        run_train("--model", "pix2pix", "--dataroot", strips)


def test_the_exit_code_of_a_signal_tells_which(strips):
    script = [sys.executable, str(ROOT / "train.py"), "--model", "pix2pix", "--dataroot", strips, *TINY]
    process = subprocess.Popen([*script, "--n_epochs", "100000", "--num_threads", "2"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    while not process.stdout.readline().startswith("end of epoch"):
        pass
    os.killpg(process.pid, signal.SIGTERM)  # as a batch system does, to the data workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM, finished steps are saved" in errors
    assert "Traceback" not in errors
    assert (RUN / "latest_state.pth").exists()


def test_a_broken_image_costs_no_step(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--serial_batches", "--max_bad_images", "0")
    whole = run_train(*argv, "--name", "whole")
    path = Path(strips) / "train" / "2.png"
    content = path.read_bytes()
    path.write_bytes(content[:300])
    with pytest.raises(UsageError, match="can't be read"):
        run_train(*argv, "--name", "parts")
    path.write_bytes(content)
    assert equal(weights(whole), weights(run_on("--name", "parts")))


def test_a_finished_run_says_so_and_a_longer_one_goes_on(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_on()
    assert "is finished: 1 of 1 epochs are done" in capsys.readouterr().out
    run_on("--n_epochs", "2")
    assert (RUN / "2_net_G.pth").exists()


def test_networks_alone_are_continued_with_a_word_about_it(strips, capsys):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    run_train(*argv, "--save_by_iter", "--save_latest_freq", "2")
    assert (RUN / "iter_2_net_G.pth").exists()
    for more in (("--epoch", "1"), ("--load_iter", "2")):
        run_on(*more, "--n_epochs", "2", "--epoch_count", "2")
        out = capsys.readouterr().out
        assert "only the networks are restored" in out
        assert "at epoch 2" in out
    (RUN / "latest_state.pth").unlink()
    run_train(*argv, "--continue_train", "--epoch_count", "1")
    assert "latest_state.pth does not exist" in capsys.readouterr().out


def test_seeds_repeat_and_differ(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    first = weights(run_train(*argv))
    assert equal(first, weights(run_train(*argv)))
    assert not equal(first, weights(run_train(*argv, "--seed", "4")))


def test_intervals_fire_for_any_batch_size(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--batch_size", "3", "--print_freq", "2", "--n_epochs", "3")
    points = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()]
    assert [point["total_iters"] for point in points] == [3, 6, 9]


def test_any_size_trains_without_cropping(tmp_path):
    write(tmp_path / "odd/train/x.png", np.concatenate([picture(70, 50), picture(70, 50)], axis=1))
    run_train("--model", "pix2pix", "--dataroot", "odd", "--preprocess", "none")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--netG", "unet_256"), "--netG unet_256 needs images of at least 256x256, not 64x64"),
        (("--netG", "resnet_6blocks", "--crop_size", "16"), "--netD basic needs images of at least 24x24, not 16x16"),
    ],
)
def test_a_size_a_network_cannot_take_is_refused_before_anything_is_written(strips, more, message):
    with pytest.raises(UsageError, match=message):
        run_train("--model", "pix2pix", "--dataroot", strips, *more)
    assert not RUN.exists()


def test_many_channels(tmp_path):
    for i in range(2):
        (tmp_path / "n/trainA").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "n/trainA" / f"{i}.npy", np.random.default_rng(i).random((64, 64, 7)).astype(np.float32))
        write(tmp_path / "n/trainB" / f"{i}.png", picture(seed=i, channels=1))
    run_train(
        "--model", "cycle_gan", "--dataroot", "n", "--input_nc", "7", "--output_nc", "1", "--lambda_identity", "0"
    )
    assert run_test("--dataroot", "n/trainA") == 0
    images = Path("results/experiment_name/test_latest/images")
    assert np.load(images / "0_real.npy").shape == (64, 64, 7)
