"""Files that are complete or absent, and paths that stay where they belong."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from util.errors import UsageError, one_line
from util.notices import notice

UNFINISHED = re.compile(r"\.\d+-\d+\.tmp")


@contextmanager
def atomic(path: str | Path, mode: str = "w", lasting: bool = True) -> Iterator[IO]:
    """Open a file next to `path` that replaces it when the block ends, so a reader sees the old one or the new one.

    A `lasting` one is on the disk by then, even if the machine dies.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{threading.get_ident()}.tmp")  # short: names have a limit
    try:
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "surrogateescape")
        with open(beside, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path, parse: Callable[[Any], dict], remedy: str) -> dict:
    """`parse(content)` of a JSON file, {} without one; raises UsageError with the remedy if it is damaged."""
    if not path.exists():
        return {}
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}); {remedy}") from error


def file_name(words: str) -> str:
    """The words as part of a file's name, with _ for what may not be in one everywhere."""
    return re.sub(r"[^\w-]+", "_", words)


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_unfinished(folder: str | Path) -> None:
    """Remove the unfinished files that a killed process left in a folder."""
    for path in Path(folder).glob("*.tmp"):
        if UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def inside(folder: str | Path, name: str, what: str) -> Path:
    """`folder/name`; raises UsageError if that is not below the folder."""
    folder = Path(folder)
    path = folder / name
    try:
        os.fsencode(path)
        if os.path.basename(name) == name not in ("", ".", "..") and "\0" not in name and not path.is_symlink():
            return path  # without a look at each folder above, which takes time for thousands of results
        real, root = os.path.realpath(path), os.path.realpath(folder)
    except ValueError as error:  # a null byte, or half a character
        raise UsageError(f"{what} {name!r} is no name of a file") from error
    if real == root or not Path(real).is_relative_to(root):
        raise UsageError(f"{what} '{name}' leads out of {folder}; use a plain name")
    return path


def user_file(name: str) -> Path:
    """A file of this user, outside of all projects."""
    folder = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(folder) / "image-translation" / name


def read_user_file(name: str) -> dict[str, Any]:
    """The content of a JSON file of this user, empty without one, or if it is damaged."""
    try:
        return read_json(user_file(name), dict, "")
    except (UsageError, OSError, RuntimeError):  # RuntimeError: there is no home
        return {}


def add_to_user_file(name: str, key: str, value: Any) -> None:
    """Set one entry of a JSON file of this user; a notice if that fails."""
    try:
        with atomic(user_file(name)) as file:
            json.dump({**read_user_file(name), key: value}, file, indent=1)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        notice(f"store {name}", f"{name} can't be written in the home folder ({one_line(error)}); what it would note "
                                f"has to be said again next time")
