"""What a user should be told: lines that do not tear the progress bar, and notices that come once."""

import contextlib
import os
import sys
from typing import TextIO

from torch.utils.data import get_worker_info
from tqdm import tqdm

from util import distributed

_seen: set[str] = set()
_pending: dict[str, str] = {}


def tell(text: str) -> None:
    """Print a line to stdout, as `say` does to stderr; of several processes the first one speaks."""
    if distributed.is_main():
        say(text, sys.stdout)


def say(text: str, file: TextIO | None = None) -> None:
    """Print one line at once; a terminal or pipe that is gone, or full, stops nothing."""
    file = file or sys.stderr
    text = text if distributed.is_main() else f"process {distributed.rank()}: {text}"
    encoding = getattr(file, "encoding", None) or "utf-8"
    line = text.replace("\n", "\\n").encode(encoding, "backslashreplace").decode(encoding)  # names of files may be odd
    try:
        tqdm.write(line, file=file)
    except (OSError, ValueError, RuntimeError):  # gone, closed, or a signal spoke in the middle of a line
        return
    flush(file)


def flush(file: TextIO) -> None:
    """Write out what is buffered; where it can't be, it goes nowhere, as it would change the exit code to 120."""
    try:
        file.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    except (ValueError, RuntimeError):
        pass


def notice(kind: str, text: str) -> None:
    """Tell something once per kind; inside a data worker it waits for `collect`."""
    if kind in _seen:
        return
    _seen.add(kind)
    if get_worker_info() is not None:
        _pending[kind] = text
    elif distributed.is_main():
        say(f"notice: {text}")


def collect() -> dict[str, str]:
    """What this process has to tell, emptied."""
    pending = dict(_pending)
    _pending.clear()
    return pending
