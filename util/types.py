"""Types of option values; a word that does not fit is told what would."""

import argparse
import functools
import math
from collections.abc import Callable
from typing import Any


def described(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Where the type raises ValueError, tell its docstring, in one line of argparse."""
    @functools.wraps(convert)
    def told(word: str) -> Any:
        try:
            return convert(word)
        except ValueError:
            what = convert.__doc__[0].lower() + convert.__doc__[1:].rstrip(".")
            raise argparse.ArgumentTypeError(f"'{word}' is not {what}") from None
    return told


@described
def positive(word: str) -> int:
    """A whole number from 1."""
    if int(word) < 1:
        raise ValueError(word)
    return int(word)


@described
def natural(word: str) -> int:
    """A whole number from 0."""
    if int(word) < 0:
        raise ValueError(word)
    return int(word)


@described
def seed(word: str) -> int:
    """A whole number from 0 to 4294967295."""  # 32 bits, what all generators take
    if not 0 <= int(word) < 2 ** 32:
        raise ValueError(word)
    return int(word)


@described
def not_negative(word: str) -> float:
    """A finite number from 0."""
    if not 0 <= float(word) < math.inf:
        raise ValueError(word)
    return float(word)


@described
def fraction(word: str) -> float:
    """A number from 0 to below 1."""
    if not 0 <= float(word) < 1:
        raise ValueError(word)
    return float(word)


@described
def ratio(word: str) -> float:
    """A number from a hundredth to a hundred."""
    if not 0.01 <= float(word) <= 100:
        raise ValueError(word)
    return float(word)


@described
def number_or_inf(word: str) -> float:
    """A whole number from 1, or inf."""
    if word != "inf" and int(word) < 1:
        raise ValueError(word)
    return float("inf") if word == "inf" else int(word)


@described
def size(word: str) -> int | tuple[int, int]:
    """A size: one number for a square, or WIDTHxHEIGHT."""
    numbers = [int(part) for part in word.lower().split("x")]
    if len(numbers) > 2 or min(numbers) < 1:
        raise ValueError(word)
    return numbers[0] if len(set(numbers)) == 1 else (numbers[0], numbers[1])


def words(text: str) -> list[str]:
    """Words with commas between them."""
    return [word for word in text.split(",") if word]
