"""Processes that read samples, supervised: those that die or hang are reported and restarted."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from util.device import cores
from util.errors import ImageError, UsageError
from util.notices import say
from util.stall import Watchdog

POLL = 2      # seconds between looks at workers that send nothing
RESTARTS = 5  # without a batch in between
LENGTH = 4096  # bytes of a row of the board
LONGEST = 300  # characters of a name on it, each at most 12 bytes in JSON


class Workers:
    """Iterates over `collate` of the samples; the position in the order outlives the workers.

    `samples` gets `board`, where workers write what they read, and `banned`, the files on which one died or hung twice.
    `order` has `start`, the number of samples to skip in the next pass, and `advance`.
    """

    def __init__(self, samples: Dataset, order: Sampler, workers: int, timeout: float, **how: Any):
        self.samples, self.order = samples, order
        self.workers = min(workers, cores())
        self.timeout = timeout
        self.how = how                                         # other arguments of the DataLoader
        self.while_waiting: Callable[[], None] = lambda: None  # called every few seconds; may raise
        self._board = samples.board = torch.zeros(self.workers, LENGTH, dtype=torch.uint8).share_memory_()
        samples.banned = frozenset()
        self._strikes: Counter[str] = Counter()
        self._hung: list[WorkerStatus] | None = None  # those that were killed for it
        self._loader: DataLoader | None = None
        self._iterator: Iterator | None = None

    def status(self) -> list[str]:
        """What the workers are doing, in words."""
        return [f"data worker {status.pid} is reading {status.file or 'nothing'}"
                for status in statuses(self._board)]

    def close(self) -> None:
        """End them now; the garbage collector may close the queue that ends them too late."""
        ours = {status.pid for status in statuses(self._board)}
        self._iterator = self._loader = None
        for child in multiprocessing.active_children():
            if child.pid in ours:  # if stopped: the interpreter would wait for it at exit
                child.kill()

    def __iter__(self) -> Iterator[Any]:
        failures = 0
        with Watchdog(self.timeout, self._kill_hung) as watch:
            while True:
                try:
                    for batch, size in self._pass(watch):
                        failures = 0
                        self.order.advance(size)
                        yield batch
                    self.order.start = 0
                    return
                except (RuntimeError, OSError, EOFError) as failure:  # the last two: a batch lost on its way
                    if not self.workers or str(failure).startswith("Caught "):  # raised by the dataset
                        raise
                    failures += 1
                    if failures > RESTARTS:
                        raise UsageError(f"data workers fail again and again ({failure}); is /dev/shm large enough? "
                                         f"--num_threads 0 reads without them") from failure
                    self._blame(str(failure))
                self.close()  # before the board is wiped: the old ones still write on it
                self._board.zero_()
                watch.beat()

    def _pass(self, watch: Watchdog) -> Iterator[tuple[Any, int]]:
        """Batches and their sizes from the current position; raises as torch does if a worker dies."""
        if self._loader is None:
            self._loader = DataLoader(self.samples, sampler=self.order, num_workers=self.workers,
                                      worker_init_fn=_enter_worker, timeout=POLL if self.workers else 0, **self.how)
        self._iterator = self._begin()
        while True:
            try:
                batch, size = next(self._iterator)
            except StopIteration:
                return
            except RuntimeError as failure:
                if self._hung is not None or "timed out" not in str(failure):
                    raise
                self.while_waiting()
                continue
            watch.pause()
            yield batch, size
            watch.beat()

    def _begin(self) -> Iterator[Any]:
        """Start a pass, without the signal handler that would raise a worker's death in the middle of a step."""
        before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        iterator = iter(self._loader)
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)
        return iterator

    def _kill_hung(self) -> bool:
        """End the workers if none has sent a batch, or begun or ended a file, for too long; returns whether it did.

        Called in a thread, because the main one may wait forever for a stopped worker to hand over a batch.
        """
        there = statuses(self._board)
        if any(time.monotonic() - status.since < self.timeout for status in there):
            return False  # a large batch, not a hung worker
        self._hung = [status for status in there if status.file]
        for child in multiprocessing.active_children():  # none of them is used again
            child.kill()
        return True

    def _blame(self, failure: str) -> None:
        """Report what the hung or dead workers were reading; the second time it is banned."""
        dead = {int(number) for number in re.findall(r"\d+", failure)}
        guilty = [status for status in statuses(self._board) if status.pid in dead]
        verb = "died" if self._hung is None else "hung"
        for status in self._hung or guilty or [WorkerStatus(0, "")]:
            self._strikes[status.file] += bool(status.file)
            say(f"warning: a data worker {verb}, reading {status.file or 'nothing'}; it is restarted")
        self.samples.banned = frozenset(file for file, strikes in self._strikes.items() if strikes > 1)
        self._hung = None


def _enter_worker(worker: int) -> None:
    """A signal to the group, as Ctrl-C is, reaches only the main process, which finishes its step first."""
    if hasattr(os, "setpgid"):
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
    samples = get_worker_info().dataset
    _here.row, _here.banned = samples.board[worker], samples.banned
    reads("")


# The board in shared memory: what each data worker is reading, the file to report if one dies or hangs.

@dataclass(frozen=True)
class WorkerStatus:
    """A worker's process and the file it reads: a sample's name if no file is known, "" between two."""

    pid: int
    file: str
    since: float = 0.0  # by time.monotonic, which all processes share


def statuses(board: torch.Tensor) -> list[WorkerStatus]:
    """Of all workers that have started."""
    return [status for row in board if (status := _parsed(row))]


def _parsed(row: torch.Tensor) -> WorkerStatus | None:
    try:
        return WorkerStatus(**json.loads(row.numpy().tobytes().partition(b"\0")[0]))
    except ValueError:  # empty, or its worker is writing
        return None


class _Here:
    """This process: its row, None in the main process, and the files that it refuses."""

    row: torch.Tensor | None = None
    banned: frozenset[str] = frozenset()


_here = _Here()


def reads(file: str) -> None:
    """Note the file being read, "" for none; raises ImageError if it is banned."""
    if file[-LONGEST:] in _here.banned:
        raise ImageError(file, "a data worker died or hung on it, twice")
    if _here.row is not None:
        status = {"pid": os.getpid(), "file": file[-LONGEST:], "since": time.monotonic()}
        text = json.dumps(status).encode() + b"\0"
        _here.row[:len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
