"""When a run is saved, what is kept of it, and what an earlier run of its name becomes."""

import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import equal, model_file, run_on, run_test, run_train, weights

from models import find_model_using_name
from models.engine import saving
from models.engine.saving import Saver
from models.engine.state import learning_rate
from util.errors import UsageError
from util.files import remove_unfinished
from util.run_files import move_aside, prune

RUN = Path("checkpoints/experiment_name")


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
        argv = model_file("timed", "Pix2Pix", body.format(action=action))
        with pytest.raises(KeyboardInterrupt):
            run_train(*argv, "--dataroot", strips, *more)
        state = torch.load(RUN / "latest_state.pth", weights_only=True)
        assert state["progress"]["total_iters"] == 2
        sys.modules.pop("models.timed_model")


def test_only_the_newest_numbered_checkpoints_are_kept(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "3", "--save_epoch_freq", "1", "--keep", "2",
              "--save_by_iter", "--save_latest_freq", "1")
    assert {path.name for path in RUN.glob("*_net_G.pth")} == {
        "2_net_G.pth", "3_net_G.pth", "iter_8_net_G.pth", "iter_9_net_G.pth", "latest_net_G.pth"}


def test_pruning_leaves_all_else(tmp_path):
    names = ["2_net_G.pth", "10_net_G.pth", "9_net_G.pth", "9_net_D.pth", "latest_net_G.pth", "best_net_G.pth", "3.txt"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))  # written at one moment, so that the number decides
    prune(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == set(names) - {"2_net_G.pth", "9_net_G.pth", "9_net_D.pth"}


def test_an_earlier_run_is_moved_aside_and_still_works(strips, capsys):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    first = weights(run_train(*argv))
    run_train(*argv, "--seed", "4")
    run_train(*argv, "--seed", "5")
    (one, two) = sorted(RUN.glob("previous_*"))
    assert "the earlier run experiment_name is now experiment_name/previous_" in capsys.readouterr().err
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


def interrupt(self, steps=[]):  # noqa: B006 (shared by the calls)
    steps.append(1)
    if len(steps) > 1:
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
    assert (learning_rate(model) > 0) == (second == "plateau")


def test_a_folder_that_was_removed_is_a_run_again(strips):
    argv = model_file("removed", "Pix2Pix", """
    def optimize_parameters(self):
        super().optimize_parameters()
        RemovedModel.steps += 1
        if self.steps == 4:
            import shutil
            shutil.rmtree(self.save_dir)
""")
    run_train(*argv, "--dataroot", strips, "--n_epochs", "2")
    run_on("--n_epochs", "3")
    assert (RUN / "latest_state.pth").exists()


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

    monkeypatch.setattr(saving, "RETRY", 0.0)
    monkeypatch.setattr(saving, "PAUSE", 0.0)
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
