"""Faults injected into real trainings, and what survived them; prints a table.

    python tests/faults.py                       each fault a few times
    python tests/faults.py --tries 300 killed    one of them, often
    python tests/faults.py --list

Each try runs train.py in processes of its own, on a small pix2pix with --seed. It has survived when the run, continued
where needed, ends with weights equal bit for bit to those of the run that nothing happened to, or, where the fault
makes that impossible, when it ends with one clear line, exit code 2, and the last good save as it was.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES, EPOCHS = 12, 3
INTERVAL = 3  # images between saves
OPTIONS = (
    f"--model pix2pix --dataroot strips --netG unet_64 --ngf 4 --ndf 4 --load_size 72 --crop_size 64 "
    f"--n_epochs {EPOCHS} --n_epochs_decay 0 --save_epoch_freq 1 --save_latest_freq {INTERVAL} --print_freq 1 "
    f"--display_id 0 --seed 3 --device cpu --no_html"
).split()
LOG = re.compile(r"\(epoch: (\d+), iters: (\d+),")
RESUMED = re.compile(r"resumed from .*: epoch (\d+), after (\d+) of its images")


class Died(Exception):
    """A try that was not survived."""


def expect(condition: object, what: str) -> None:
    """Raise Died unless it holds."""
    if not condition:
        raise Died(what)


class Run:
    """train.py under way in a folder; `out` and `err` grow as it prints."""

    def __init__(self, folder: Path, name: str, *more: object, limit: int = 0, wrapper: str = ""):
        arguments = [*(OPTIONS if "--continue_train" not in more else ()), "--name", name, *map(str, more)]
        script = ["-c", wrapper] if wrapper else [str(ROOT / "train.py")]
        self.folder, self.state = folder, folder / "checkpoints" / name / "latest_state.pth"
        self.process = subprocess.Popen(
            [sys.executable, "-u", *script, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: prepare(limit))
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [threading.Thread(target=lambda stream=stream, lines=lines: lines.extend(stream), daemon=True)
                         for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))]
        for reader in self._readers:
            reader.start()

    def wait_for(self, pattern: str, seconds: float = 120, lines: list[str] | None = None) -> None:
        """Wait until a line (of `out` unless told otherwise) matches."""
        end = time.monotonic() + seconds
        while not any(re.search(pattern, line) for line in list(self.out if lines is None else lines)):
            expect(time.monotonic() < end, f"'{pattern}' did not come in {seconds:g} s: {self.told()}")
            expect(self.process.poll() is None, f"ended before '{pattern}' came: {self.told()}")
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def kill(self) -> int:
        """End it at once; returns the steps it told of."""
        self.send(signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join(0.3)  # data workers hold the pipe until they notice
        return self.steps()

    def workers(self) -> list[int]:
        """Its data workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self, code: int = 0, seconds: float = 240) -> "Run":
        """Wait for the exit with this code."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise Died(f"still there after {seconds:g} s: {self.told()}") from None
        for reader in self._readers:
            reader.join()
        expect(self.process.returncode == code, f"exit code {self.process.returncode}, not {code}: {self.told()}")
        expect("Traceback" not in "".join(self.err), f"a traceback: {self.told()}")
        return self

    def told(self) -> str:
        """What it printed last."""
        return "".join(self.out[-3:] + self.err[-30:])

    def steps(self) -> int:
        """Steps done, as far as it told."""
        return max((step(match) for line in self.out if (match := LOG.search(line))), default=0)

    def resumed(self) -> int:
        """Steps that were done when it went on."""
        return max((step(match) for line in self.out if (match := RESUMED.search(line))), default=0)

    def warned(self, text: str) -> None:
        """Expect a line on stderr that has this text."""
        expect(any(text in line for line in self.err), f"'{text}' was not told: {self.told()}")

    def refused(self, text: str) -> None:
        """Expect the end to be one line with exit code 2."""
        self.end(2)
        errors = [line for line in self.err if line.startswith("error: ")]
        expect(len(errors) == 1 and text in errors[0], f"'{text}' was not told: {self.told()}")


def prepare(limit: int) -> None:
    """In the new process: files of at most so many bytes (0: of any), and SIGHUP as a terminal has it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def step(match: re.Match) -> int:
    """Steps at a position, from epoch and images of it."""
    return (int(match[1]) - 1) * IMAGES + int(match[2])


def networks(state: Path) -> list[torch.Tensor]:
    """All tensors of the networks and of the optimizers in a state file."""
    saved = torch.load(state, map_location="cpu", weights_only=True)
    optimizers = [value for o in saved["optimizers"].values() for s in o["state"].values() for value in s.values()]
    return [value for net in saved["networks"].values() for value in net.values()] + optimizers


class Lab:
    """A folder with data, and the run that nothing happened to."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self._names = 0
        generator = np.random.default_rng(0)
        for i in range(IMAGES):
            self.picture(generator, "strips", i)
        self.whole = networks(Run(folder, "whole").end().state)
        self._one_epoch = Run(folder, "one", "--n_epochs", 1).end().state.parent

    def picture(self, generator: np.random.Generator, data: str, i: int) -> Path:
        """A strip of two smooth random images."""
        path = self.folder / data / "train" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 255, (6, 12, 3), dtype=np.uint8))
        coarse.resize((128, 64), Image.Resampling.BICUBIC).save(path)
        return path

    def start(self, *more: object, **how) -> Run:
        """A training under a new name."""
        self._names += 1
        return Run(self.folder, f"run{self._names}", *more, **how)

    def after_one_epoch(self) -> Path:
        """The state file of a run that stopped there."""
        self._names += 1
        copied = self._one_epoch.with_name(f"run{self._names}")
        shutil.copytree(self._one_epoch, copied)
        return copied / "latest_state.pth"

    def go_on(self, state: Path, *more: object, **how) -> Run:
        """The run of a state file, continued."""
        return Run(self.folder, state.parent.name, "--continue_train", *more, **how)

    def same(self, run: Run) -> None:
        """Expect the run to have ended as the undisturbed one did."""
        mine = networks(run.state)
        expect(all(torch.equal(a, b) for a, b in zip(self.whole, mine, strict=True)), "the weights differ")


FAULTS: dict[str, Callable[[Lab], int]] = {}  # returns the steps that were lost


def fault(function: Callable[[Lab], int]) -> Callable[[Lab], int]:
    """Register a fault under its function's name."""
    FAULTS[function.__name__] = function
    return function


@fault
def killed(lab: Lab) -> int:
    """SIGKILL at a random moment, which is often in the middle of a save."""
    run = lab.start("--num_threads", lab.random.choice((0, 2)))
    run.wait_for(f"epoch: 1, iters: {INTERVAL + 1}")
    time.sleep(lab.random.uniform(0, 1))
    done = run.kill()
    run = lab.go_on(run.state, "--num_threads", lab.random.choice((0, 2))).end()
    lab.same(run)
    lost = done - run.resumed()
    expect(lost <= INTERVAL, f"{lost} steps were lost, more than the {INTERVAL} between saves")
    return lost


@fault
def asked_to_stop(lab: Lab) -> int:
    """SIGTERM, Ctrl-C or a lost terminal: the step is finished and saved, the exit code says which."""
    number = lab.random.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    run = lab.start("--save_latest_freq", 1000, "--num_threads", 2)
    run.wait_for(LOG.pattern)
    os.killpg(run.process.pid, number)  # as a terminal or a batch system does
    run.end(128 + number)
    done = run.steps()
    run = lab.go_on(run.state).end()
    lab.same(run)
    expect(done == run.resumed(), f"{done - run.resumed()} steps were lost")
    return done - run.resumed()


@fault
def asked_to_save(lab: Lab) -> int:
    """SIGUSR1 saves and the run goes on; then SIGKILL."""
    run = lab.start("--save_latest_freq", 1000, "--save_epoch_freq", 1000, "--n_epochs", 1000)
    run.wait_for(LOG.pattern)
    before = run.steps()
    run.send(signal.SIGUSR1)
    end = time.monotonic() + 60
    while not run.state.exists():
        expect(time.monotonic() < end and run.process.poll() is None, f"nothing was saved: {run.told()}")
        time.sleep(0.001)
    run.kill()
    saved = torch.load(run.state, weights_only=True)["progress"]
    lost = before - saved["total_iters"]
    expect(lost <= 0, f"{lost} steps were lost")
    lab.same(lab.go_on(run.state, "--n_epochs", EPOCHS).end())
    return max(0, lost)


@fault
def torn_state(lab: Lab) -> int:
    """A state file that a disk has truncated or changed: one line, and nothing else is touched."""
    state = lab.after_one_epoch()
    content = state.read_bytes()
    torn = content[:lab.random.randrange(len(content))]
    if lab.random.random() < 0.5:
        changed = bytearray(content)
        for _ in range(200):
            changed[lab.random.randrange(len(content))] ^= 1 << lab.random.randrange(8)
        torn = bytes(changed)
    state.write_bytes(torn)
    before = {path: path.read_bytes() for path in state.parent.rglob("*") if path.is_file()}
    lab.go_on(state, "--n_epochs", EPOCHS).refused("can't be read as a checkpoint")
    expect({path: path.read_bytes() for path in state.parent.rglob("*") if path.is_file()} == before, "files changed")
    return 0


@fault
def full_disk(lab: Lab) -> int:
    """Files can't grow any more, in the middle of a run; when they can, the save is tried again and nothing is lost."""
    run = lab.start("--save_minutes", 0.01, "--n_epochs", 1000)
    run.wait_for(r"end of epoch 1 ")
    size = run.state.stat().st_size
    _, hard = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (lab.random.randrange(1, size), hard))
    run.wait_for("the save failed", lines=run.err)
    torch.load(run.state, weights_only=True)  # the last good one
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    run.wait_for("saved again", lines=run.err)
    run.send(signal.SIGTERM)
    run.end(143)
    log = map(json.loads, (run.state.parent / "loss_log.jsonl").read_text().splitlines())
    found = [point["total_iters"] for point in log if point["losses"]]
    expect(found == list(range(1, run.steps() + 1)), "the log has a gap")
    return 0


@fault
def disk_stays_full(lab: Lab) -> int:
    """No save can be written: the run goes on to its end, says so, and the last good save is as it was."""
    state = lab.after_one_epoch()
    before = state.read_bytes()
    run = lab.go_on(state, "--n_epochs", EPOCHS, "--save_minutes", 0.01, limit=len(before) // 2)
    run.refused("it can't be saved")
    run.warned("the last good one is untouched")
    expect(run.steps() == EPOCHS * IMAGES, "it did not go on")
    expect(state.read_bytes() == before, "the last good save was touched")
    lab.same(lab.go_on(state).end())
    return 0


@fault
def one_write_fails(lab: Lab) -> int:
    """One write, any one of a run, fails with 'no space left'."""
    run = lab.start(wrapper=f"""
import errno, os, runpy, sys
fsync, calls = os.fsync, iter(range(10 ** 9))
def fail_once(number):
    if next(calls) == {lab.random.randrange(4, 4 + 2 * IMAGES * EPOCHS)}:
        raise OSError(errno.ENOSPC, "No space left on device")
    fsync(number)
os.fsync = fail_once
sys.argv[0] = {str(ROOT / "train.py")!r}
runpy.run_path(sys.argv[0], run_name="__main__")
""").end()
    lab.same(run)
    expect(not list(run.state.parent.rglob("*.tmp")), "an unfinished file was left")
    return 0


@fault
def folder_that_cannot_be_written(lab: Lab) -> int:
    """A checkpoints folder that can't be made: one line before anything is trained."""
    run = lab.start("--checkpoints_dir", lab.random.choice(("/proc/checkpoints", "strips/train/00.png/checkpoints")))
    run.refused("")
    expect(run.steps() == 0, "it trained")
    return 0


@fault
def broken_image(lab: Lab) -> int:
    """A file of any kind that is no image: another draw replaces it, it is named once, the run goes on."""
    good = lab.picture(np.random.default_rng(1), "broken", 0)
    for i in range(1, IMAGES):
        lab.picture(np.random.default_rng(i), "broken", i)
    content = good.read_bytes()
    kinds = {"truncated": content[:len(content) // 2], "empty": b"", "text": b"<html>not found</html>", "noise": bytes(
        lab.random.randrange(256) for _ in range(500)), "header": content[:30], "zeros": bytes(1000),
        "bomb": content[:16] + (200000).to_bytes(4, "big") * 2 + content[24:]}
    kind = lab.random.choice(sorted(kinds))
    good.write_bytes(kinds[kind])
    run = lab.start("--dataroot", "broken", "--num_threads", lab.random.choice((0, 2))).end()
    run.warned(f"{good.relative_to(lab.folder)}: ")
    expect(len(run.err) == 1, f"{kind}: told more than once: {run.told()}")
    expect(run.steps() == IMAGES * EPOCHS, "steps are missing")
    return 0


@fault
def images_away(lab: Lab) -> int:
    """The folder of the images is gone for a second, as a network folder may be: the run waits, and is the same."""
    shutil.copytree(lab.folder / "strips", lab.folder / "mounted", dirs_exist_ok=True)
    run = lab.start("--dataroot", "mounted", "--num_threads", lab.random.choice((0, 2)))
    run.wait_for(LOG.pattern)
    (lab.folder / "mounted").rename(lab.folder / "away")
    time.sleep(1)
    (lab.folder / "away").rename(lab.folder / "mounted")
    lab.same(run.end())
    return 0


@fault
def worker_killed(lab: Lab) -> int:
    """A data worker is killed, as the kernel does when memory is short."""
    run = lab.start("--num_threads", 2)
    run.wait_for(LOG.pattern)
    time.sleep(lab.random.uniform(0, 0.5))
    os.kill(lab.random.choice(run.workers()), signal.SIGKILL)
    lab.same(run.end())
    return 0


@fault
def worker_hangs(lab: Lab) -> int:
    """A data worker stops, as on a network folder that does not answer."""
    run = lab.start("--num_threads", 2, "--worker_timeout", 3)
    run.wait_for(LOG.pattern)
    time.sleep(lab.random.uniform(0, 0.5))
    os.kill(lab.random.choice(run.workers()), signal.SIGSTOP)
    lab.same(run.end())
    return 0


POISON = """
import os, signal, time
from data.aligned_dataset import AlignedDataset

class PoisonDataset(AlignedDataset):
    def read(self, domain, path):
        image = super().read(domain, path)
        if path.endswith("05.png"):
            {action}
        return image
"""


@fault
def file_that_kills(lab: Lab) -> int:
    """A file on which each worker that reads it dies or hangs: named, and another draw replaces it."""
    action = lab.random.choice(("os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(1000)"))
    (lab.folder / "poison_dataset.py").write_text(POISON.format(action=action))
    run = lab.start("--num_threads", 2, "--worker_timeout", 3, "--dataset_mode", "poison", "--plugin_dir", ".").end()
    run.warned("a data worker")
    run.warned("strips/train/05.png")
    expect(run.steps() == IMAGES * EPOCHS, "steps are missing")
    return 0


NUMBERS = """
import torch
from models.pix2pix_model import Pix2PixModel

class NumbersModel(Pix2PixModel):
    step = 0

    def generator_loss(self):
        NumbersModel.step += 1
        loss = super().generator_loss()
        return loss * float("{value}") if self.step in {steps} else loss
"""


@fault
def batch_without_finite_numbers(lab: Lab) -> int:
    """A loss becomes NaN or infinite: the step is skipped and its file named; the weights stay finite."""
    at = lab.random.randrange(2, IMAGES * EPOCHS)
    value = lab.random.choice(("nan", "inf"))
    (lab.folder / "numbers_model.py").write_text(NUMBERS.format(value=value, steps=(at,)))
    run = lab.start("--model", "numbers", "--dataset_mode", "aligned", "--norm", "batch", "--netG", "unet_64",
                    "--plugin_dir", ".").end()
    run.warned("skipped steps: 1, with the files strips/train/")
    expect(all(value.isfinite().all() for value in networks(run.state)), "weights are not finite")
    return 1


@fault
def numbers_that_stay_broken(lab: Lab) -> int:
    """No step is finite any more: back to the last save, and when that does not help, one line; the save is good."""
    at = lab.random.randrange(IMAGES + 2, 2 * IMAGES)
    forever = lab.random.random() < 0.5
    steps = f"range({at}, {10 ** 6 if forever else at + 4})"
    (lab.folder / "numbers_model.py").write_text(NUMBERS.format(value="nan", steps=steps))
    run = lab.start("--model", "numbers", "--dataset_mode", "aligned", "--plugin_dir", ".", "--nan_patience", 3)
    if forever:
        run.refused("no step is finite any more")
    else:
        run.end()
    run.warned("the weights of the last save are restored")
    expect(all(value.isfinite().all() for value in networks(run.state)), "the save is not finite")
    return INTERVAL


@fault
def live_view_fails(lab: Lab) -> int:
    """A visdom server that refuses, takes and never answers, or goes away."""
    how = lab.random.choice(("refuses", "hangs", "goes away"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if how != "refuses":
            server.listen(50)
        start = time.monotonic()
        run = lab.start("--display_id", 1, "--display_server", "http://127.0.0.1", "--display_port", port,
                        "--display_freq", 1)
        if how == "goes away":
            run.wait_for(LOG.pattern)
            server.close()
        lab.same(run.end())
        expect(time.monotonic() - start < 60, "it waited for the server")
    return 0


@fault
def second_run(lab: Lab) -> int:
    """Another training under the same name is refused; the lock of a killed one is not in the way."""
    run = lab.start("--n_epochs", 1000, "--num_threads", 2)
    run.wait_for(LOG.pattern)
    lab.go_on(run.state).refused(f"is being trained by process {run.process.pid} on")
    run.kill()
    run = lab.go_on(run.state, "--n_epochs", 100000)
    run.wait_for(LOG.pattern)
    run.send(signal.SIGTERM)
    run.end(143).warned("was killed; its lock")
    return 0


@fault
def stall(lab: Lab) -> int:
    """No step ends: the stacks of all threads are written down."""
    run = lab.start("--num_threads", 2, "--stall_minutes", 0.02, "--worker_timeout", 5)
    run.wait_for(LOG.pattern)
    for worker in run.workers():
        os.kill(worker, signal.SIGSTOP)
    lab.same(run.end())
    run.warned("no step has ended for 0.02 minutes; the stacks of all threads are in checkpoints/")
    text = (run.state.parent / "stalled.txt").read_text()
    expect("Current thread" in text and "train.py" in text, "no stacks were written")
    return 0


@fault
def out_of_memory(lab: Lab) -> int:
    """A step needs more memory than there is: one line with what helps; the last good save is as it was."""
    state = lab.after_one_epoch()
    before = state.read_bytes()
    (lab.folder / "huge_dataset.py").write_text(
        "import torch\nfrom data.aligned_dataset import AlignedDataset\nclass HugeDataset(AlignedDataset):\n"
        "    def __getitem__(self, index):\n        torch.empty(2 ** 50)\n")
    run = lab.go_on(state, "--n_epochs", EPOCHS, "--dataset_mode", "huge", "--plugin_dir", ".", "--num_threads", 0)
    run.refused("out of memory (peak")
    expect(state.read_bytes() == before, "the save was touched")
    return 0


def main() -> int:
    """Run the faults that are named, or all; 1 when a try was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS], default=[])
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name}: {function.__doc__}" for name, function in FAULTS.items()))
        return 0
    print(f"{'fault':<30} {'tries':>5} {'survived':>8} {'most steps lost':>15}", flush=True)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), options.seed)
        for name in options.faults or FAULTS:
            lost, survived = 0, 0
            for _ in range(options.tries):
                try:
                    lost = max(lost, FAULTS[name](lab))
                    survived += 1
                except Died as error:
                    print(f"{name}: {error}", file=sys.stderr)
            failures += options.tries - survived
            print(f"{name:<30} {options.tries:>5} {survived:>8} {lost:>15}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
