"""What a training does about trouble, part by part; tests/test_faults.py has the whole of it in real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, cli, picture, run_on, run_test, run_train, train_options, write
from PIL import Image
from torch import nn

from data import create_dataset
from models import create_model, find_model_using_name
from models.fine_tuning import init_from
from util import saver
from util.errors import UsageError
from util.files import remove_unfinished
from util.guard import Guard, fuse
from util.image_pool import ImagePool
from util.lock import RunLock
from util.memory import explained
from util.run_files import move_aside, prune
from util.saver import Saver
from util.stall import Watchdog

RUN = Path("checkpoints/experiment_name")
PLUGINS = str(ROOT / "tests" / "plugins")


def weights(model):
    return [value.clone() for net in model.networks().values() for value in net.state_dict().values()]


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def plugin(name, base, body):
    """Write a model that adds to one of ours into the working folder; returns the arguments that use it."""
    module = {"Pix2Pix": "pix2pix", "CycleGAN": "cycle_gan"}[base]
    text = f"import os, signal\nimport torch\nfrom models.{module}_model import {base}Model\n\n\n"
    Path(f"{name}_model.py").write_text(f"{text}class {name.title()}Model({base}Model):\n    steps = 0\n{body}")
    mode = {"Pix2Pix": "aligned", "CycleGAN": "unaligned"}[base]
    return ("--model", name, "--plugin_dir", ".", "--dataset_mode", mode)


# Saving.


def test_plateau_goes_on_inside_an_epoch_with_the_same_mean(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "3", "--lr_policy", "plateau")
    whole = run_train(*argv, "--name", "whole")
    step, steps = find_model_using_name("pix2pix").optimize_parameters, []

    def stop(self):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(find_model_using_name("pix2pix"), "optimize_parameters", stop)
        run_train(*argv, "--name", "parts", "--save_latest_freq", "1")
    resumed = run_on("--name", "parts")
    assert equal(weights(whole), weights(resumed))
    assert whole.metric == resumed.metric


def test_saves_by_the_clock_and_on_sigusr1(strips):
    body = """
    def optimize_parameters(self):
        super().optimize_parameters()
        self.steps += 1
        if self.steps == 2:
            {action}
        if self.steps == 3:
            raise KeyboardInterrupt
"""
    for action, more in (("os.kill(os.getpid(), signal.SIGUSR1)", ()), ("pass", ("--save_minutes", "1e-9"))):
        argv = plugin("timed", "Pix2Pix", body.format(action=action))
        with pytest.raises(KeyboardInterrupt):
            run_train(*argv, "--dataroot", strips, *more)
        state = torch.load(RUN / "latest_state.pth", weights_only=True)
        assert state["progress"]["total_iters"] == 2
        sys.modules.pop("models.timed_model")


def test_only_the_newest_numbered_checkpoints_are_kept(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "3", "--save_epoch_freq", "1", "--keep", "2",
              "--save_by_iter", "--save_latest_freq", "1")  # fmt: skip
    assert {path.name for path in RUN.glob("*_net_G.pth")} == {
        "2_net_G.pth", "3_net_G.pth", "iter_8_net_G.pth", "iter_9_net_G.pth", "latest_net_G.pth"}  # fmt: skip


def test_pruning_leaves_all_else(tmp_path):
    names = ["2_net_G.pth", "10_net_G.pth", "9_net_G.pth", "9_net_D.pth", "latest_net_G.pth", "best_net_G.pth", "3.txt"]
    for name in names:
        (tmp_path / name).touch()
    prune(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == set(names) - {"2_net_G.pth", "9_net_G.pth", "9_net_D.pth"}


def test_an_earlier_run_is_moved_aside_and_still_works(strips, capsys):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    first = weights(run_train(*argv))
    run_train(*argv, "--seed", "4")
    run_train(*argv, "--seed", "5")
    (one, two) = sorted(RUN.glob("previous_*"))
    assert "run experiment_name exists and is now experiment_name/previous_" in capsys.readouterr().err
    assert {"latest_state.pth", "loss_log.txt", "train_opt.json", "web"} <= {path.name for path in one.iterdir()}
    assert len((RUN / "loss_log.jsonl").read_text().splitlines()) == 1
    name = f"experiment_name/{one.name}"
    assert equal(
        first, [*torch.load(one / "latest_net_G.pth").values(), *torch.load(one / "latest_net_D.pth").values()]
    )
    assert run_test("--name", name, "--dataroot", f"{strips}/test") == 0
    run_on("--name", name, "--n_epochs", "2")
    assert not list(two.glob("previous_*"))


def test_a_folder_with_nothing_in_it_is_no_earlier_run(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "previous_x").mkdir()
    assert move_aside(tmp_path) is None


def test_checkpoints_of_an_abandoned_branch_are_pruned_first(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "5", "--save_epoch_freq", "1")
    run_on("--epoch", "2", "--epoch_count", "3", "--n_epochs", "4", "--keep", "2")
    assert {path.name for path in RUN.glob("?_net_G.pth")} == {"3_net_G.pth", "4_net_G.pth"}


def interrupt(self):
    raise KeyboardInterrupt


def test_a_run_that_branches_off_is_what_a_resume_finds(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "5", "--save_epoch_freq", "1")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(find_model_using_name("pix2pix"), "optimize_parameters", interrupt)
        run_on("--epoch", "2", "--epoch_count", "3", "--n_epochs", "4")
    assert torch.load(RUN / "latest_state.pth", weights_only=True)["progress"]["epoch"] == 3


def test_a_run_below_another_one_stays(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    run_train(*argv, "--name", "a/b")
    run_train(*argv, "--name", "a")
    run_train(*argv, "--name", "a")
    assert Path("checkpoints/a/b/latest_state.pth").exists()
    assert len(list(Path("checkpoints/a").glob("previous_*"))) == 1


@pytest.mark.parametrize(("first", "second"), [("linear", "plateau"), ("plateau", "cosine"), ("step", "plateau")])
def test_another_policy_for_the_learning_rate_starts_where_the_run_stands(strips, first, second):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "2", "--lr_policy", first)
    model = run_on("--n_epochs", "4", "--lr_policy", second)
    assert torch.load(RUN / "latest_state.pth", weights_only=True)["progress"]["epoch"] == 5
    assert (model.learning_rate() > 0) == (second == "plateau")


def test_a_folder_that_was_removed_is_a_run_again(strips):
    argv = plugin("removed", "Pix2Pix", """
    def optimize_parameters(self):
        super().optimize_parameters()
        RemovedModel.steps += 1
        if self.steps == 4:
            import shutil
            shutil.rmtree(self.save_dir)
""")  # fmt: skip
    run_train(*argv, "--dataroot", strips, "--n_epochs", "2")
    run_on("--n_epochs", "3")
    assert (RUN / "latest_state.pth").exists()


def test_statistics_do_not_depend_on_when_they_are_looked_at(strips):
    argv = plugin("broken", "Pix2Pix", """
    def forward(self):
        BrokenModel.steps += 1
        if self.steps in (3, 4):
            self.real_A = self.real_A * float("nan")
        super().forward()
""")  # fmt: skip
    more = ("--dataroot", strips, "--norm", "batch", "--n_epochs", "2", "--dataset_mode", "aligned")
    ended = []
    for frequency in ("1", "1000"):
        ended.append(weights(run_train(*argv, *more, "--print_freq", frequency, "--nan_patience", "9")))
        sys.modules.pop("models.broken_model")
    assert equal(*ended)
    assert all(value.isfinite().all() for value in torch.load(RUN / "2_net_G.pth").values())


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    (tmp_path / "web").mkdir()
    for name in (".123-456.tmp", "web/.1-2.tmp", "mine.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.rglob("*.tmp")} == {"mine.tmp", ".1-2.tmp"}


def test_a_save_that_fails_is_told_once_and_tried_again(monkeypatch, capsys):
    outcomes = [OSError("disk is full"), OSError("disk is full"), None, OSError("again")]

    def save():
        if error := outcomes.pop(0):
            raise error

    monkeypatch.setattr(saver, "RETRY", 0.0)
    monkeypatch.setattr(saver, "PAUSE", 0.0)
    one = Saver(save, minutes=10)
    assert not one.due()
    assert not one.attempt()
    assert one.due()
    one.insist(seconds=5)
    assert not one.due()
    err = capsys.readouterr().err
    assert err.count("the save failed (disk is full)") == 1
    assert err.count("saved again") == 1
    with pytest.raises(UsageError, match="can't be saved: again"):
        one.insist(seconds=0)
    assert not Saver(save, minutes=0).due()


# One run, one process.


def test_a_folder_belongs_to_one_process(tmp_path):
    script = "import sys\nfrom util.lock import RunLock\nwith RunLock('run'): print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", script]
    other = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    )
    other.stdout.readline()
    with pytest.raises(UsageError, match=f"run run is being trained by process {other.pid} on .* wait for it, or use"):
        RunLock("run").__enter__()
    assert str(other.pid) in Path("run/.lock").read_text()
    other.kill()
    other.communicate()
    with RunLock("run"):
        (tmp_path / "run" / "file").touch()
    assert Path("run/.lock").read_text() == ""


def test_a_lock_leaves_no_folder_where_nothing_was_trained(tmp_path):
    with pytest.raises(UsageError), RunLock("a/b/run"):
        raise UsageError("wrong option")
    assert not Path("a").exists()


# Numbers.


def toy(make):
    weight = nn.Parameter(torch.ones(3))
    optimizer = make([weight])
    fuse(optimizer)

    def step(value):
        optimizer.zero_grad()
        (weight * torch.tensor([value, 1.0, 1.0])).sum().backward()
        optimizer.step()

    return weight, optimizer, step


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1),
    "Adam foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing(name, value):
    weight, optimizer, step = toy(OPTIMIZERS[name])
    other, _, other_step = toy(OPTIMIZERS[name])
    with Guard() as guard:
        for i, number in enumerate((value, 2.0, value, value, 3.0)):
            step(number)
            guard.end_step([str(i)])
        assert guard.read() == ["0", "2", "3"]
        assert (guard.streak, guard.skipped, guard.taken) == (0, 3, 2)
        step(value)
        guard.end_step(["5"])
        assert (guard.read(), guard.streak) == (["5"], 1)
        for number in (2.0, 3.0):
            other_step(number)
    assert torch.equal(weight, other)
    assert not hasattr(optimizer, "found_inf")
    step(1.0)
    assert not torch.equal(weight, other)  # the guard is gone


def test_fused_where_it_was_left_open():
    for name, fused in (("Adam", True), ("AdamW", True), ("Adam foreach", None), ("SGD", None)):
        assert toy(OPTIMIZERS[name])[1].param_groups[0].get("fused") is fused


def test_gradients_are_clipped_also_those_of_a_classic_plugin(strips):
    weight, _, step = toy(lambda p: torch.optim.SGD(p, lr=1.0))
    with Guard(clip=0.5):
        step(100.0)
    assert (weight.detach() - 1).norm().item() == pytest.approx(0.5, rel=1e-5)
    moved = []
    for clip in ("0", "1e-6"):
        model = run_train("--model", "classic", "--plugin_dir", PLUGINS, "--dataroot", strips, "--grad_clip", clip)
        optimizers = model.named_optimizers().values()
        moved.append(max(s["exp_avg"].abs().max().item() for o in optimizers for s in o.state.values()))
    assert moved[1] < 1e-6 < moved[0]


def test_statistics_of_batch_norm_are_mended():
    norm = nn.BatchNorm1d(2)
    optimizer = torch.optim.Adam(norm.parameters())
    buffers = [norm.running_mean, norm.running_var]
    with Guard(statistics=buffers) as guard:
        for value in (1.0, float("nan")):
            optimizer.zero_grad()
            norm(torch.tensor([[0.0, 1.0], [value, 2.0]])).sum().backward()
            optimizer.step()
            guard.end_step([])
            if value == 1.0:
                guard.read()
                good = [buffer.clone() for buffer in buffers]
        assert not torch.equal(buffers[0], good[0])
        guard.read()
    assert equal(buffers, good)


BROKEN = """
    def generator_loss(self):
        BrokenModel.steps += 1
        loss = super().generator_loss()
        {action}
        return loss
"""


@pytest.mark.parametrize("action", [
    "if self.steps == 3: loss = loss * float('nan')",
    "if self.steps == 3: loss = loss + float('inf')",  # its gradient is finite
])  # fmt: skip
def test_a_loss_that_is_not_finite_costs_one_step_and_names_its_files(domains, capsys, action):
    argv = plugin("broken", "CycleGAN", BROKEN.format(action=action))
    model = run_train(*argv, "--dataroot", domains, "--n_epochs", "2", "--serial_batches")
    assert all(value.isfinite().all() for value in weights(model))
    err = capsys.readouterr().err
    assert "skipped steps: 1, with the files domains/trainA/2.png, domains/trainB/0.png" in err
    assert model.optimizer_G.state_dict()["state"][0]["step"] == 5
    assert model.optimizer_D.state_dict()["state"][0]["step"] == 6


def test_a_classic_plugin_is_guarded_too(strips, capsys):
    text = (Path(PLUGINS) / "classic_model.py").read_text().replace("class ClassicModel", "class HurtModel")
    Path("hurt_model.py").write_text(text.replace("self.loss_G.backward()", "(self.loss_G * float('nan')).backward()"))
    assert "float('nan')" in Path("hurt_model.py").read_text()
    argv = ("--model", "hurt", "--plugin_dir", ".", "--dataset_mode", "aligned", "--dataroot", strips)
    model = run_train(*argv, "--lambda_edge", "3", "--pool_size", "0")
    assert all(value.isfinite().all() for value in weights(model))
    assert "skipped steps: 3" in capsys.readouterr().err


def test_weights_go_back_to_the_last_save_and_no_further(strips, capsys):
    action = "if 4 <= self.steps <= 6 or self.steps >= 10: loss = loss * float('nan')"
    argv = plugin("broken", "Pix2Pix", BROKEN.format(action=action))
    more = ("--n_epochs", "9", "--nan_patience", "3", "--print_freq", "1")
    with pytest.raises(UsageError, match="no step is finite any more, and there is no good save"):
        run_train(*argv, "--dataroot", strips, *more)
    assert capsys.readouterr().err.count("the weights of the last save are restored") == 2
    state = torch.load(RUN / "latest_state.pth", weights_only=True)
    assert all(v.isfinite().all() for net in state["networks"].values() for v in net.values())
    run_on("--n_epochs", "3", "--model", "pix2pix", "--dataset_mode", "aligned", "--nan_patience", "3")


def test_weights_that_are_not_finite_are_not_saved(strips, capsys):
    argv = plugin("broken", "Pix2Pix", """
    def optimize_parameters(self):
        super().optimize_parameters()
        BrokenModel.steps += 1
        if self.steps == 5:
            next(self.netG.parameters()).data.fill_(float("nan"))
""")  # fmt: skip
    model = run_train(*argv, "--dataroot", strips, "--n_epochs", "3")
    assert "weights are not finite; the weights of the last save are restored" in capsys.readouterr().err
    assert all(value.isfinite().all() for value in weights(model))


def test_a_pool_forgets_what_is_not_finite():
    pool = ImagePool(3)
    pool.query(torch.stack([torch.full((1, 2, 2), value) for value in (1.0, float("nan"), 2.0)]))
    pool.drop_non_finite()
    assert [image[0, 0, 0].item() for image in pool.images] == [1.0, 2.0]


# Data.


def broken_strips(tmp_path, n=6, broken=(1,)):
    for i in range(n):
        path = write(tmp_path / "b" / "train" / f"{i}.png", np.concatenate([picture(seed=i)] * 2, axis=1))
        if i in broken:
            Path(path).write_bytes(Path(path).read_bytes()[:200])
    return ("--model", "pix2pix", "--dataroot", "b")


def test_a_broken_image_is_replaced_by_the_same_draw_whatever_the_workers(tmp_path, capsys):
    argv = broken_strips(tmp_path)
    seen = []
    for threads in ("0", "2"):
        loader = create_dataset(train_options(*argv, "--num_threads", threads))
        for epoch in (1, 2):
            loader.set_epoch(epoch)
            seen.append([(batch["A_paths"][0], batch["A"].sum().item()) for batch in loader])
        loader.set_epoch(2, start=3)
        assert [(batch["A_paths"][0], batch["A"].sum().item()) for batch in loader] == seen[-1][3:]
        assert list(loader.errors) == ["b/train/1.png"]
    assert seen[:2] == seen[2:]
    assert all(len(epoch) == 6 and "b/train/1.png" not in dict(epoch) for epoch in seen)
    assert capsys.readouterr().err.count("b/train/1.png: can't be read") == 2  # once a loader


def test_a_run_says_how_many_images_it_could_not_use(tmp_path, capsys):
    run_train(*broken_strips(tmp_path, broken=(1, 4)))
    assert "images that can't be used: 2" in capsys.readouterr().out


@pytest.mark.parametrize("threads", ["0", "2"])
def test_too_many_broken_images_stop_a_run_that_is_saved(tmp_path, threads):
    argv = broken_strips(tmp_path, broken=(1, 2, 3))
    message = "3 images can't be used, more than --max_bad_images 2; python -m data.check b lists all of them"
    with pytest.raises(UsageError, match=message):
        run_train(*argv, "--max_bad_images", "2", "--num_threads", threads, "--serial_batches")
    assert torch.load(RUN / "latest_state.pth", weights_only=True)["progress"]["total_iters"] > 0


def test_where_nothing_can_be_read_the_first_is_named(tmp_path):
    with pytest.raises(UsageError, match="b/train/0.png: can't be read"):
        run_train(*broken_strips(tmp_path, n=3, broken=(0, 1, 2)), "--serial_batches")


def test_samples_that_are_not_finite_never_reach_the_model(tmp_path, capsys):
    Path("hole_dataset.py").write_text("""
from data.aligned_dataset import AlignedDataset
class HoleDataset(AlignedDataset):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index == 2:
            sample["B"] = sample["B"].log()
        return sample
""")
    argv = broken_strips(tmp_path, broken=())
    run_train(*argv, "--dataset_mode", "hole", "--plugin_dir", ".")
    err = capsys.readouterr().err
    assert "b/train/2.png: becomes values that are not finite; another draw takes its place" in err
    assert "skipped steps" not in err


def test_a_large_batch_is_not_a_hung_worker(tmp_path, capsys):
    Path("slow_dataset.py").write_text("""
import time
from data.aligned_dataset import AlignedDataset
class SlowDataset(AlignedDataset):
    def read(self, domain, path):
        time.sleep(0.4)
        return super().read(domain, path)
""")
    argv = (*broken_strips(tmp_path, broken=()), "--dataset_mode", "slow", "--plugin_dir", ".", "--batch_size", "6")
    loader = create_dataset(train_options(*argv, "--num_threads", "1", "--worker_timeout", "1"))
    assert [len(batch["A_paths"]) for batch in loader] == [6]
    loader.close()
    assert "data worker" not in capsys.readouterr().err


def test_whatever_a_classic_dataset_raises_about_a_file(tmp_path, capsys):
    argv = broken_strips(tmp_path, broken=())
    Image.new("1", (20000, 20000)).save("b/train/1.png")
    run_train(*argv, "--model", "classic", "--plugin_dir", PLUGINS)
    assert "sample 1 of ClassicDataset: Image size (400000000 pixels) exceeds limit" in capsys.readouterr().err


def test_long_and_odd_names(tmp_path, capfd):
    path = Path("b/train", *["\U0001f600" * 60] * 6, "a\nb\udcff.png")
    write("x.png", np.concatenate([picture()] * 2, axis=1))
    path.parent.mkdir(parents=True)
    path.write_bytes(Path("x.png").read_bytes()[:100])
    run_train(*broken_strips(tmp_path, broken=()), "--num_threads", "2")
    lines = [line for line in capfd.readouterr().err.splitlines() if "can't be read" in line]
    assert len(lines) == 1


def test_a_worker_that_cannot_read_a_file_without_dying(tmp_path, capsys):
    Path("deadly_dataset.py").write_text("""
import os, signal
from data.single_dataset import SingleDataset
class DeadlyDataset(SingleDataset):
    def read(self, domain, path):
        image = super().read(domain, path)
        if path.endswith("1.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return image
""")
    broken_strips(tmp_path, broken=())
    run_train("--model", "pix2pix", "--dataroot", "b")
    code = run_test("--dataroot", "b/train", "--dataset_mode", "deadly", "--plugin_dir", ".", "--num_threads", "2")
    err = capsys.readouterr().err
    assert code == 1
    assert err.count("a data worker died, reading b/train/1.png; it is started again") == 2
    assert "skipped b/train/1.png: a data worker died or hung on it, twice" in err
    assert len(list(Path("results/experiment_name/test_latest/images").glob("*_fake.png"))) == 5


# Other weights to start from.


def test_a_new_run_starts_from_another_one(strips, capsys):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    first = run_train(*argv, "--name", "first", "--save_epoch_freq", "1")
    before = {path: path.read_bytes() for path in Path("checkpoints/first").rglob("*") if path.is_file()}
    capsys.readouterr()
    second = run_train(*argv, "--name", "second", "--init_from", "first", "--lr", "0")
    for kind in "GD":
        parameters = [dict(getattr(m, f"net{kind}").named_parameters()) for m in (first, second)]
        assert equal(parameters[0].values(), parameters[1].values())
    out = capsys.readouterr().out
    assert "network G: 100.0% (58 of 58 tensors) from checkpoints/first/latest_net_G.pth" in out
    assert {path: path.read_bytes() for path in before} == before
    run_on("--name", "second", "--n_epochs", "2")  # and does not start from it again
    run_train(*argv, "--name", "third", "--init_from", "checkpoints/first/1_net_G.pth")
    out = capsys.readouterr().out
    assert out.count("tensors) from") == 1
    assert "network D: starts anew" in out


def test_a_cycle_starts_from_one_published_generator(domains, capsys):
    options = ("--dataroot", domains, "--netG", "resnet_6blocks", "--load_size", "40", "--crop_size", "32")
    cycle = create_model(train_options("--model", "cycle_gan", *options))
    torch.save(cycle.netG_B.state_dict(), "published.pth")
    init_from(cycle.networks(), "published.pth", "checkpoints", "latest")
    assert equal(cycle.netG_A.state_dict().values(), cycle.netG_B.state_dict().values())
    assert "network G_B: starts anew" in capsys.readouterr().out


@pytest.mark.parametrize(("source", "more", "message"), [
    ("frist", (), "checkpoints/frist does not exist. Did you mean 'first'?"),
    ("first", ("--epoch", "7"), "has no 7_net_*.pth (--epoch names another checkpoint)"),
    ("first", ("--continue_train", "--name", "first"), "give one of them"),
    ("checkpoints/first/latest_state.pth", (), "is not the state_dict of one network"),
    ("checkpoints/first/loss_log.txt", (), "can't be read as a checkpoint"),
    ("empty.pth", (), "nothing in empty.pth fits this network"),
])  # fmt: skip
def test_weights_that_are_not_there_or_do_not_fit(strips, source, more, message):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    run_train(*argv, "--name", "first")
    torch.save({"other.weight": torch.zeros(3)}, "empty.pth")
    with pytest.raises(UsageError) as error:
        run_train(*argv, "--init_from", source, *more)
    assert message in str(error.value)
    assert not RUN.exists()


# Memory and time.


def test_memory_that_runs_out_is_answered_with_what_helps():
    for run_out in (lambda: torch.empty(2**50), lambda: bytearray(2**60)):
        message = r"out of memory \(peak .* GiB .*\); what helps, in this order: --less"
        with pytest.raises(UsageError, match=message), explained(["--less"]):
            run_out()
    with pytest.raises(RuntimeError, match="other"), explained(["--less"]):
        raise RuntimeError("other")


def test_a_watchdog_barks_once_until_the_next_beat():
    barks, barked = [], threading.Event()
    with Watchdog(0.05, lambda: (barks.append(1), barked.set())) as dog:
        assert barked.wait(10)
        time.sleep(0.2)
        assert len(barks) == 1
        barked.clear()
        dog.beat()
        assert barked.wait(10)
        dog.pause()
        barked.clear()
        assert not barked.wait(0.2)
    with dog:  # again, as for the next epoch
        assert barked.wait(10)
    with Watchdog(0, lambda: barks.append(1)) as dog:
        assert not [t for t in threading.enumerate() if t.name == "watchdog" and t.is_alive() and dog.seconds == 0]


def test_a_terminal_that_is_gone_stops_nothing(strips):
    argv = [sys.executable, "-u", str(ROOT / "train.py"), "--model", "pix2pix", "--dataroot", strips, *TINY]
    read, write_end = os.pipe()
    process = subprocess.Popen([*argv, "--n_epochs", "3"], stdout=write_end, stderr=write_end)
    os.close(write_end)
    with open(read) as lines:
        next(line for line in lines if line.startswith("(epoch"))
    assert process.wait(120) == 0
    state = torch.load(RUN / "latest_state.pth", weights_only=True)
    assert state["progress"]["epoch"] == 4


def test_one_line_of_help_each(strips):
    done = cli("train.py", "--model", "pix2pix", "--help")
    for option in ("init_from", "save_minutes", "keep", "grad_clip", "nan_patience", "max_bad_images", "stall_minutes"):
        assert f"--{option} " in done.stdout


def test_the_record_of_a_run_holds_the_new_options(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--grad_clip", "1", "--keep", "3")
    options = json.loads((RUN / "train_opt.json").read_text())["options"]
    assert (options["grad_clip"], options["keep"]) == ("1.0", 3)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
