"""Files that are whole or not there, and paths that stay where they belong."""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from util.errors import UsageError

UNFINISHED = re.compile(r"\.\d+-\d+\.tmp")


@contextmanager
def atomic(path: str | Path, mode: str = "w", lasting: bool = True) -> Iterator[IO]:
    """Open a file beside `path` that takes its place when the block ends, so a reader sees the old one or the new.

    A lasting one is on the disk by then, also if the machine dies.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{threading.get_ident()}.tmp")  # short: the name may be as long as allowed
    try:
        with open(beside, mode, **({} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape"})) as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path, parse: Callable[[Any], dict], remedy: str) -> dict:
    """What `parse` makes of a file of ours, {} without one; raises UsageError with the remedy for a damaged one."""
    if not path.exists():
        return {}
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged ({error}); {remedy}") from error


def remove_unfinished(folder: str | Path) -> None:
    """Remove what a killed process left of files it was writing in a folder."""
    for path in Path(folder).glob("*.tmp"):
        if UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def inside(folder: str | Path, name: str, what: str) -> Path:
    """`folder/name`; raises UsageError when that is not below the folder."""
    folder = Path(folder)
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path.resolve() == folder.resolve():
        raise UsageError(f"{what} '{name}' leads out of {folder}; use a plain name")
    return path
