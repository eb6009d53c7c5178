"""What each data worker is reading, on a board in shared memory: the file to name when one dies or hangs."""

import json
import os
from dataclasses import dataclass
from typing import Any

import torch

from util.errors import ImageError

LENGTH = 4096  # bytes of a row

_row: torch.Tensor | None = None     # of this process; none in the main one
_banned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """A sample under way: by which process, and the file, or the number of the sample where no file is known."""

    pid: int
    what: str


def new_board(workers: int) -> torch.Tensor:
    """A row for each worker."""
    return torch.zeros(workers, LENGTH, dtype=torch.uint8).share_memory_()


def take_row(board: torch.Tensor, worker: int) -> None:
    """From here on this process writes on its row."""
    global _row
    _row = board[worker]


def begin(sample: str, banned: frozenset[str]) -> None:
    """A sample is begun; raises ImageError when it is banned, as `note` will for a banned file."""
    global _banned
    _banned = banned
    note(sample)


def note(what: str) -> None:
    """This is being read; raises ImageError when it is banned."""
    if what in _banned:
        raise ImageError(what, "a data worker died or hung on it, twice")
    _show({"pid": os.getpid(), "what": what[-500:]})


def end() -> None:
    """The sample is there."""
    _show(None)


def _show(value: dict[str, Any] | None) -> None:
    if _row is not None:
        text = json.dumps(value).encode() + b"\0"
        _row[:len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)


def readings(board: torch.Tensor) -> list[Reading]:
    """What all workers are reading now."""
    texts = [row.numpy().tobytes().partition(b"\0")[0] for row in board]
    return [Reading(**value) for text in texts if text and (value := json.loads(text))]
