"""Errors that a user can fix are one line and exit code 2; a traceback means a bug."""

import difflib
import signal
import traceback
from collections.abc import Iterable
from pathlib import Path


def printable(text: str) -> str:
    """With escapes for characters that would steer a terminal or break a line; they may come from a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UsageError(Exception):
    """Bad input: the message says what was wrong, where, and what would work."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ImageError(UsageError):
    """One unusable image; test.py skips it."""

    def __init__(self, path: object, problem: str, away: bool = False):
        super().__init__(path, problem, away)  # all in args, so that it survives pickling between processes
        self.path = str(path)
        self.problem = problem
        self.away = away  # missing or out of reach: it may come back

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.problem}")


class Stopped(Exception):
    """A signal ended the run after a save; `exit_code` is 128 + its number, as shells and schedulers expect."""

    def __init__(self, number: int):
        super().__init__(number)
        self.exit_code = 128 + number

    def __str__(self) -> str:
        name = signal.Signals(self.exit_code - 128).name
        return f"stopped by {name}, finished steps are saved; --continue_train resumes here"


def is_away(error: BaseException) -> bool:
    """Whether the system could not reach a file, as opposed to a decoder that could not read it."""
    return isinstance(error, OSError) and error.errno is not None


def one_line(error: BaseException, length: int = 200) -> str:
    """The message of an error on one line, cut to `length` characters."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def with_place(error: Exception) -> str:
    """The type, place and message of an error in a plugin, on one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}, {Path(place.filename).name} line {place.lineno}: {one_line(error)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The closest known word as a question, or an empty string."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown(kind: str, word: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among the known ones."""
    known = sorted(known)
    return UsageError(f"Unknown {kind} '{word}'.{did_you_mean(word, known)} Known: {', '.join(known)}")
