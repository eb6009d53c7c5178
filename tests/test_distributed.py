"""Several processes are one: `torchrun` on two cores, over gloo."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, cli, picture, run_test, write

from data.loading.order import EpochOrder
from networks.fast import Choices, accelerate
from networks.fast.sync_batch_norm import SyncBatchNorm2d
from util import distributed

EXACT = """
from models.{module} import {base}


class ExactModel({base}):
    def __init__(self, opt):
        super().__init__(opt)
        self.double()

    def set_input(self, batch):
        super().set_input(batch)
        self.real_A, self.real_B = self.real_A.double(), self.real_B.double()
{more}
"""


def torchrun(script, *argv, processes=2, **kwargs):
    """Run a script of ours in several processes; returns the finished launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}",
               str(ROOT / script), *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment(), **kwargs)


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def states(run, tag="latest"):
    return {path.name: torch.load(path) for path in sorted(Path("checkpoints", run).glob(f"{tag}_net_*.pth"))}


def assert_close(one, two, bound=1e-9):
    assert one.keys() == two.keys()
    for name in one:
        for key, value in one[name].items():
            torch.testing.assert_close(two[name][key], value, rtol=bound, atol=bound)


@pytest.fixture
def five(tmp_path):
    """Five pairs, so that the last stretch of an epoch leaves one of two processes with none."""
    for i in range(5):
        a = picture(seed=i)
        write(tmp_path / "five" / "train" / f"{i}.png", torch.cat([torch.tensor(a), 255 - torch.tensor(a)], 1).numpy())
        for domain in "AB":
            write(tmp_path / "five" / f"train{domain}" / f"{i}.png", picture(seed=10 * i + ord(domain)))
    return "five"


def exact(module, base, mode, *more, extra=""):
    Path("exact_model.py").write_text(EXACT.format(module=module, base=base, more=extra))
    return ("--model", "exact", "--plugin_dir", ".", "--dataset_mode", mode, "--dataroot", "five", *TINY, *more)


@pytest.mark.parametrize(("model", "mode", "more"), [
    pytest.param(("pix2pix_model", "Pix2PixModel"), "aligned", ("--norm", "batch", "--no_dropout"),
                 marks=pytest.mark.slow),
    pytest.param(("pix2pix_model", "Pix2PixModel"), "aligned",
                 ("--norm", "batch", "--no_dropout", "--gan_mode", "wgangp", "--preprocess", "resize", "--load_size",
                  "64"), marks=pytest.mark.slow),
    (("cycle_gan_model", "CycleGANModel"), "unaligned", ("--pool_size", "0", "--accumulate", "2")),
])
def test_two_processes_are_one_with_twice_the_batch(five, model, mode, more):
    """Weights in float64 after two epochs, the last step short of images, and the log, whose numbers are global."""
    extra = ""
    if "wgangp" in more:  # its points between images are drawn by each process
        extra = ("\n    def discriminator_loss(self):\n        self.criterionGAN.gan_mode = 'lsgan'\n"
                 "        from networks import cal_gradient_penalty\n        loss = super().discriminator_loss()\n"
                 "        import torch\n        real = torch.cat((self.real_A, self.real_B), 1)\n"
                 "        return loss + cal_gradient_penalty(self.netD, real, real, 'cpu', type='real')[0]\n")
    argv = exact(*model, mode, "--n_epochs", "2", *more, extra=extra)
    alone = cli("train.py", *argv, "--batch_size", "2" if "--accumulate" in more else "4", "--name", "one")
    assert alone.returncode == 0, alone.stderr
    both = torchrun("train.py", *argv, "--batch_size", "1" if "--accumulate" in more else "2", "--name", "two")
    assert both.returncode == 0, both.stderr
    assert_close(states("one"), states("two"), 1e-8)
    logs = [[line.partition(")")[2] for line in Path("checkpoints", run, "loss_log.txt").read_text().splitlines()[1:]]
            for run in ("one", "two")]
    assert logs[0] == logs[1]
    lines = [[line.partition("; ")[0] for line in done.stdout.splitlines() if line.startswith("end of")]
             for done in (alone, both)]
    assert lines[0] == lines[1]
    assert both.stdout.count("network G") == alone.stdout.count("network G")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(five):
    argv = exact("pix2pix_model", "Pix2PixModel", "aligned", "--norm", "instance", "--no_dropout")
    whole = cli("train.py", *argv, "--batch_size", "4", "--n_epochs", "3", "--name", "whole")
    assert whole.returncode == 0, whole.stderr
    parts = torchrun("train.py", *argv, "--batch_size", "2", "--n_epochs", "1", "--name", "parts")
    assert parts.returncode == 0, parts.stderr
    state = torch.load("checkpoints/parts/latest_state.pth", weights_only=True)
    assert len(state["other_processes"]) == 1
    on = ("--continue_train", "--name", "parts")
    assert cli("train.py", *on, "--batch_size", "4", "--n_epochs", "2").returncode == 0
    parts = torchrun("train.py", *on, "--batch_size", "2", "--n_epochs", "3")
    assert parts.returncode == 0, parts.stderr
    assert_close(states("whole"), states("parts"), 1e-7)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job_with_its_error(five):
    extra = """
    def forward(self):
        import os
        if os.environ["RANK"] == "1":
            raise RuntimeError("this is why")
        super().forward()
"""
    argv = exact("pix2pix_model", "Pix2PixModel", "aligned", extra=extra)
    start = time.monotonic()
    done = torchrun("train.py", *argv)
    assert done.returncode != 0
    assert time.monotonic() - start < 60
    assert "this is why" in done.stderr
    assert "[rank0]: Traceback" not in done.stderr
    said = "another process of this job has ended; its output says why" in done.stderr
    assert said or "closing signal SIGTERM" in done.stderr  # the launcher may end the other one before it can say so


@pytest.mark.slow
def test_bad_input_is_told_once_and_ends_all(five):
    done = torchrun("train.py", "--model", "pix2pix", "--dataroot", "five", *TINY, "--init_from", "nobody")
    assert done.returncode != 0
    assert "--init_from nobody" in done.stderr


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_a_step_and_saves(five):
    argv = [*TINY, "--model", "pix2pix", "--dataroot", "five", "--n_epochs", "100000", "--name", "long"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               str(ROOT / "train.py"), *argv]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    while not (line := process.stdout.readline()).startswith("training long"):
        pass
    while not process.stdout.readline().startswith("end of epoch"):
        pass
    os.kill(int(line.split("process ")[1].split()[0]), signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "stopped by SIGTERM, finished steps are saved" in errors
    assert "process 1: stopped by SIGTERM" in errors
    assert torch.load("checkpoints/long/latest_state.pth", weights_only=True)["progress"]["total_iters"] > 0


@pytest.mark.slow
def test_translations_are_split_and_the_same(five):
    assert cli("train.py", "--model", "pix2pix", "--dataroot", "five", *TINY).returncode == 0
    assert run_test("--dataroot", "five/trainA", "--results_dir", "one") == 0
    write("five/trainA/broken.png", picture())
    Path("five/trainA/broken.png").write_bytes(b"no picture")
    done = torchrun("test.py", "--dataroot", "five/trainA", "--results_dir", "two", "--num_threads", "0", "--device",
                    "cpu", "--amp", "off")
    assert "5 images translated, 1 skipped" in done.stdout
    assert done.stderr.count("skipped five/trainA/broken.png") == 1
    images = [sorted(Path(root).rglob("*.png")) for root in ("one", "two")]
    assert [path.name for path in images[0]] == [path.name for path in images[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*images, strict=True))
    assert Path("two/experiment_name/test_latest/index.html").read_text().count("<tr data-name") == 5


@pytest.mark.parametrize(("length", "batch", "processes"), [(10, 2, 3), (7, 3, 2), (1, 4, 4), (12, 2, 3)])
def test_each_image_is_seen_once_and_each_process_has_as_many_batches(length, batch, processes, monkeypatch):
    monkeypatch.setattr("data.loading.order.world_size", lambda: processes)
    seen, batches = [], []
    for number in range(processes):
        monkeypatch.setattr("data.loading.order.rank", lambda number=number: number)
        order = EpochOrder(length, True, 1, batch, fill=False)
        seen += [index for _, index in order]
        filled = EpochOrder(length, True, 1, batch, fill=True)
        samples = list(filled)
        batches.append(-(-len(samples) // batch))
        while filled.start < length:
            filled.advance(batch)
        assert list(filled) == []
    assert sorted(seen) == list(range(length))
    assert set(batches) == {-(-length // (batch * processes))}


def synchronise(norm):
    accelerate(torch.nn.Sequential(norm), Choices(torch.device("cpu"), processes=2))


def test_alone_synchronised_batch_norm_is_batch_norm(monkeypatch):
    monkeypatch.setattr(distributed, "all_sum", lambda x: x)
    norm, other = torch.nn.BatchNorm2d(3).double(), torch.nn.BatchNorm2d(3).double()
    synchronise(other)
    assert type(other) is SyncBatchNorm2d
    assert list(norm.state_dict()) == list(other.state_dict())
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    for module in (norm, other):
        module.train()
    for one, two in zip(torch.autograd.grad(norm(x).pow(3).sum(), [x, *norm.parameters()]),
                        torch.autograd.grad(other(x).pow(3).sum(), [x, *other.parameters()]), strict=True):
        torch.testing.assert_close(one, two)
    for one, two in zip(norm.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two)


def test_synchronised_batch_norm_keeps_its_digits_far_from_zero(monkeypatch):
    monkeypatch.setattr(distributed, "all_sum", lambda x: x)
    norm, x = torch.nn.BatchNorm2d(3), 1000 + torch.randn(2, 3, 16, 16)
    wanted = norm(x)
    synchronise(norm)
    torch.testing.assert_close(norm(x), wanted, rtol=1e-3, atol=1e-3)
