"""Messages to the user: lines that do not break the progress bar, and notices that come once."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from torch.utils.data import get_worker_info
from tqdm import tqdm

from util import distributed

_seen: dict[str, str] = {}  # kind -> notice; in a data worker, those that `collect` has not fetched have a text


class Bar(tqdm):
    """A progress bar that leaves no thread behind."""

    monitor_interval = 0


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Inside the block every notice appears again, once, so that a second run in a process has its own."""
    before = dict(_seen)
    _seen.clear()
    try:
        yield
    finally:
        _seen.clear()
        _seen.update(before)


def tell(text: str) -> None:
    """Print a line to stdout, as `say` does to stderr; of several processes only the main one prints."""
    if distributed.is_main():
        say(text, sys.stdout)


def say(text: str, file: TextIO | None = None) -> None:
    """Print one line immediately; a terminal or pipe that is gone or full stops nothing."""
    file = file or sys.stderr
    text = text if distributed.is_main() else f"process {distributed.rank()}: {text}"
    encoding = getattr(file, "encoding", None) or "utf-8"
    line = text.replace("\n", "\\n").encode(encoding, "backslashreplace").decode(encoding)  # file names may be odd
    try:
        tqdm.write(line, file=file)
    except (OSError, ValueError, RuntimeError):  # gone, closed, or a signal handler printed in the middle of a line
        return
    flush(file)


def flush(file: TextIO) -> None:
    """Flush; if that fails, discard the buffer, which would change the exit code to 120."""
    try:
        file.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    except (ValueError, RuntimeError):
        pass


def notice(kind: str, text: str) -> None:
    """Say something once per kind; in a data worker it waits for `collect`."""
    if kind in _seen:
        return
    in_worker = get_worker_info() is not None
    _seen[kind] = text if in_worker else ""
    if not in_worker and distributed.is_main():
        say(f"notice: {text}")


def collect() -> dict[str, str]:
    """The notices of this data worker since the last call, by kind."""
    pending = {kind: text for kind, text in _seen.items() if text}
    _seen.update(dict.fromkeys(pending, ""))
    return pending
