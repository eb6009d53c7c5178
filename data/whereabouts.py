"""What each data worker is reading, on a board in shared memory: the file to name when one dies or hangs."""

import json
import os
from dataclasses import dataclass

import torch

from util.errors import ImageError

LENGTH = 4096  # bytes of a row

_row: torch.Tensor | None = None  # of this process; none in the main one
_banned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """A worker's process, and the file it reads: the name of a sample where no file is known, nothing between two."""

    pid: int
    what: str


def new_board(workers: int) -> torch.Tensor:
    """A row for each worker."""
    return torch.zeros(workers, LENGTH, dtype=torch.uint8).share_memory_()


def readings(board: torch.Tensor) -> list[Reading]:
    """What all workers are reading now."""
    texts = [row.numpy().tobytes().partition(b"\0")[0] for row in board]
    return [Reading(**json.loads(text)) for text in texts if text]


def take_row(board: torch.Tensor, worker: int, banned: frozenset[str]) -> None:
    """From here on this process writes on its row, and `note` refuses what is banned."""
    global _row, _banned
    _row, _banned = board[worker], banned
    end()


def note(what: str) -> None:
    """This is being read; raises ImageError when it is banned."""
    if what in _banned:
        raise ImageError(what, "a data worker died or hung on it, twice")
    if _row is not None:
        text = json.dumps({"pid": os.getpid(), "what": what[-500:]}).encode() + b"\0"
        _row[:len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)


def end() -> None:
    """The sample is there."""
    note("")
