"""What a user should be told: lines that do not tear the progress bar, and notices that come once."""

import contextlib
import errno
import os
import sys
from typing import TextIO

from torch.utils.data import get_worker_info
from tqdm import tqdm

_seen: set[str] = set()
_pending: dict[str, str] = {}


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line at once, to stderr unless told otherwise; a terminal or pipe that is gone stops nothing."""
    file = file or sys.stderr
    try:
        tqdm.write(text, file=file)
        file.flush()
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):  # what stays in the buffer would change the exit code to 120
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    except (ValueError, RuntimeError):  # closed, or a signal spoke in the middle of a line
        pass


def notice(kind: str, text: str) -> None:
    """Tell something once per kind; inside a data worker it waits for `collect`."""
    if kind in _seen:
        return
    _seen.add(kind)
    if get_worker_info() is not None:
        _pending[kind] = text
    else:
        say(f"notice: {text}")


def collect() -> dict[str, str]:
    """What this process has to tell, emptied."""
    pending = dict(_pending)
    _pending.clear()
    return pending
