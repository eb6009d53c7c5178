"""Types of option values; a word that does not fit is answered with what would."""

import argparse
import math
from collections.abc import Callable
from typing import Any


def described(what: str, convert: Callable[[str], Any], holds: Callable[[Any], bool]) -> Callable[[str], Any]:
    """A type for argparse: `convert(word)`, unless that raises ValueError or `holds` is false of it."""
    def parse(word: str) -> Any:
        try:
            value = convert(word)
        except ValueError:
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"'{word}' is not {what}")
        return value
    return parse


def _sides(word: str) -> int | tuple[int, ...]:
    sides = tuple(int(part) for part in word.lower().split("x"))
    return sides[0] if len(set(sides)) == 1 and len(sides) < 3 else sides


positive = described("a whole number from 1", int, lambda n: 1 <= n < 2 ** 31)
natural = described("a whole number from 0", int, lambda n: 0 <= n < 2 ** 31)
seed = described("a whole number from 0 to 4294967295", int, lambda n: 0 <= n < 2 ** 32)  # all generators take it
positive_number = described("a finite number above 0", float, lambda x: 0 < x < math.inf)
not_negative = described("a finite number from 0", float, lambda x: 0 <= x < math.inf)
not_nan = described("a number", float, lambda x: not math.isnan(x))
number = described("a finite number", float, math.isfinite)
fraction = described("a number from 0 to below 1", float, lambda x: 0 <= x < 1)
ratio = described("a number from a hundredth to a hundred", float, lambda x: 0.01 <= x <= 100)
number_or_inf = described("a whole number from 1, or inf", lambda word: math.inf if word == "inf" else int(word),
                          lambda n: n >= 1)
size = described("a size: one number for a square, or WIDTHxHEIGHT", _sides,
                 lambda s: s >= 1 if isinstance(s, int) else len(s) == 2 and min(s) >= 1)

natural_or_word = described("a whole number from 0, or a word", lambda word: int(word) if word.isdigit() else word,
                            lambda n: n != "" and (isinstance(n, str) or n < 2 ** 31))
tile = described("auto, off, or a whole number from 64", lambda word: word if word in ("auto", "off") else int(word),
                 lambda n: isinstance(n, str) or n >= 64)


numbers = described("whole numbers from 0, separated by commas", lambda word: [int(part) for part in word.split(",")],
                    lambda found: min(found) >= 0)


def words(text: str) -> list[str]:
    """Words separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
