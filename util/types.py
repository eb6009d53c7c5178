"""Types of option values; argparse names them when a word does not fit."""

import math


def positive(word: str) -> int:
    """A whole number from 1."""
    if int(word) < 1:
        raise ValueError(word)
    return int(word)


def natural(word: str) -> int:
    """A whole number from 0."""
    if int(word) < 0:
        raise ValueError(word)
    return int(word)


def seed(word: str) -> int:
    """A whole number of 32 bits, what all generators take."""
    if natural(word) >= 2 ** 32:
        raise ValueError(word)
    return int(word)


def not_negative(word: str) -> float:
    """A finite number from 0."""
    if not 0 <= float(word) < math.inf:
        raise ValueError(word)
    return float(word)


def fraction(word: str) -> float:
    """A number from 0 to below 1."""
    if not 0 <= float(word) < 1:
        raise ValueError(word)
    return float(word)


def ratio(word: str) -> float:
    """A number from a hundredth to a hundred."""
    if not 0.01 <= float(word) <= 100:
        raise ValueError(word)
    return float(word)


def number_or_inf(word: str) -> float:
    """A whole number from 1, or inf."""
    return float("inf") if word == "inf" else positive(word)


def size(word: str) -> int | tuple[int, int]:
    """One number for a square, or (width, height) of WIDTHxHEIGHT."""
    numbers = [positive(part) for part in word.lower().split("x")]
    if len(numbers) > 2:
        raise ValueError(word)
    return numbers[0] if len(set(numbers)) == 1 else (numbers[0], numbers[1])
