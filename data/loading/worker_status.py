"""What each data worker is reading, on a board in shared memory: the file to report if one dies or hangs."""

import json
import os
import time
from dataclasses import dataclass

import torch

from util.errors import ImageError

LENGTH = 4096  # bytes of a row
LONGEST = 300  # characters of a name, each at most 12 bytes in JSON

@dataclass(frozen=True)
class WorkerStatus:
    """A worker's process and the file it reads: a sample's name if no file is known, "" between two."""

    pid: int
    file: str
    since: float = 0.0  # by time.monotonic, which all processes share


def new_board(workers: int) -> torch.Tensor:
    """A row for each worker."""
    return torch.zeros(workers, LENGTH, dtype=torch.uint8).share_memory_()


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


def take_row(board: torch.Tensor, worker: int, banned: frozenset[str]) -> None:
    """From now on this process writes to its row, and `reads` refuses banned files."""
    _here.row, _here.banned = board[worker], banned
    reads("")


def reads(file: str) -> None:
    """Note the file being read, "" for none; raises ImageError if it is banned."""
    if file[-LONGEST:] in _here.banned:
        raise ImageError(file, "a data worker died or hung on it, twice")
    if _here.row is not None:
        status = {"pid": os.getpid(), "file": file[-LONGEST:], "since": time.monotonic()}
        text = json.dumps(status).encode() + b"\0"
        _here.row[:len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
