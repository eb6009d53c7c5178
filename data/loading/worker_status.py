"""What each data worker is reading, on a board in shared memory: the file to name when one dies or hangs."""

import json
import os
import time
from dataclasses import dataclass

import torch

from util.errors import ImageError

LENGTH = 4096  # bytes of a row
LONGEST = 300  # characters of a name, each at most 12 bytes in JSON

_row: torch.Tensor | None = None  # of this process; none in the main one
_banned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WorkerStatus:
    """A worker's process, and the file it reads: the name of a sample where no file is known, nothing between two."""

    pid: int
    file: str
    since: float = 0.0  # on the clock of time.monotonic, which is one for all processes


def new_board(workers: int) -> torch.Tensor:
    """A row for each worker."""
    return torch.zeros(workers, LENGTH, dtype=torch.uint8).share_memory_()


def statuses(board: torch.Tensor) -> list[WorkerStatus]:
    """Of all workers that have begun."""
    return [status for row in board if (status := _parsed(row))]


def _parsed(row: torch.Tensor) -> WorkerStatus | None:
    try:
        return WorkerStatus(**json.loads(row.numpy().tobytes().partition(b"\0")[0]))
    except ValueError:  # empty, or its worker is writing
        return None


def take_row(board: torch.Tensor, worker: int, banned: frozenset[str]) -> None:
    """From here on this process writes on its row, and `reads` refuses what is banned."""
    global _row, _banned
    _row, _banned = board[worker], banned
    done()


def reads(file: str) -> None:
    """This is being read; raises ImageError when it is banned."""
    if file[-LONGEST:] in _banned:
        raise ImageError(file, "a data worker died or hung on it, twice")
    if _row is not None:
        status = {"pid": os.getpid(), "file": file[-LONGEST:], "since": time.monotonic()}
        text = json.dumps(status).encode() + b"\0"
        _row[:len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)


def done() -> None:
    """The sample is there."""
    reads("")
