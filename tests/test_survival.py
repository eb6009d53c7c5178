"""One process a run, memory and time; tests/test_faults.py has the whole of it in real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import (
    ROOT,
    TINY,
    run_train,
)

from models.engine.interrupts import RunLock
from util.errors import UsageError
from util.memory import explained
from util.stall import Watchdog

RUN = Path("checkpoints/experiment_name")


def test_a_folder_belongs_to_one_process(tmp_path):
    script = ("import sys\nfrom models.engine.interrupts import RunLock\n"
              "with RunLock('run'): print(flush=True); sys.stdin.read()")
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


@pytest.mark.slow
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


def test_the_record_of_a_run_holds_the_new_options(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--grad_clip", "1", "--keep", "3")
    options = json.loads((RUN / "train_opt.json").read_text())["options"]
    assert (options["grad_clip"], options["keep"]) == ("1.0", 3)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
