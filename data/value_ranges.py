"""Depth and range of the files of a domain."""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np

from data.reading import Pixels
from util.errors import ImageError, UsageError
from util.images import ValueRange

SCANNED = 500    # images read to find the range of a 16-bit or float domain
SAMPLED = 20000  # values of each, for percentiles


def found_range(read: Callable[[str], Pixels], paths: Sequence[str], depth: str, limits: str) -> ValueRange:
    """The value range of these files; `depth` and `limits` may be `auto`, and the limits percentiles (1%:99%)."""
    if depth == "auto":
        depth = first_depth(read, paths)
    if "%" in limits or (limits == "auto" and depth != "uint8"):
        limits = observed_range(read, paths[::max(1, len(paths) // SCANNED)], depth, limits)
    return ValueRange.parse(depth, limits)


def first_depth(read: Callable[[str], Pixels], paths: Sequence[str]) -> str:
    """The depth of the first readable file, uint8 if there is none."""
    for path in paths:
        try:
            return str(read(path).array.dtype)
        except ImageError:
            continue  # reported when it is read
    return "uint8"


def observed_range(read: Callable[[str], Pixels], paths: Sequence[str], depth: str, limits: str) -> str:
    """The span of the values of these files, or the percentiles that `limits` names (1%:99%)."""
    shares = percentiles(limits)
    found: list[np.ndarray] = []
    for path in paths:
        with contextlib.suppress(ImageError):  # reported when it is read
            image, holes, _ = read(path)
            values = image.reshape(-1) if holes is None else image[~holes]
            if image.dtype == depth and values.size:
                some = values[::-(-values.size // SAMPLED)]
                found.append(np.array([values.min(), values.max()]) if shares == (0, 100) else some)
    low, high = map(float, np.percentile(np.concatenate(found or [np.array([0, 1])]), shares))
    return f"{low!r}:{max(high, low + 1e-6 if depth == 'float32' else low + 1)!r}"


def percentiles(limits: str) -> tuple[float, float]:
    """(1, 99) of "1%:99%", (0, 100) of `auto`; raises UsageError."""
    if limits == "auto":
        return 0, 100
    try:
        low, high = (float(word.removesuffix("%")) for word in limits.split(":"))
    except ValueError:
        low = high = 0
    if not 0 <= low < high <= 100 or limits.count("%") != 2:
        raise UsageError(f"'{limits}' is not a range of percentiles; write LOW%:HIGH%, such as 1%:99%")
    return low, high
