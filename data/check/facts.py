"""What each file of a data root holds, read in parallel."""

import hashlib
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data.loading import worker_status
from data.loading.order import EpochOrder
from data.loading.workers import Workers
from data.reading import read_image
from util.errors import ImageError

TIMEOUT = 60  # seconds for one file


@dataclass(frozen=True)
class Facts:
    """What one file holds."""

    path: str
    size: tuple[int, int]  # (width, height)
    channels: int
    depth: str
    mode: str              # as Pillow calls it, else depth and channels
    low: float
    high: float
    digest: str            # of the pixels


def examine(path: str) -> Facts:
    """Read one file; raises ImageError."""
    array = read_image(path, None)
    finite = array[np.isfinite(array)] if array.dtype == np.float32 else array
    if finite.size < array.size:
        raise ImageError(path, f"has {array.size - finite.size} values that are not finite")
    digest = hashlib.blake2b(repr((array.shape, array.dtype)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array))
    height, width, channels = array.shape
    try:
        with Image.open(path) as image:
            mode = image.mode
    except Exception:  # only other libraries read it
        mode = f"{array.dtype} with {channels} channels"
    return Facts(path, (width, height), channels, str(array.dtype), mode, float(array.min()), float(array.max()),
                 digest.hexdigest())


class _Files(torch.utils.data.Dataset):
    """One sample per file: its facts, or why it can't be read."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __getitem__(self, key: tuple[int, int]) -> Facts | ImageError:
        path = self.paths[key[1]]
        try:
            worker_status.reads(path)
            return examine(path)
        except ImageError as error:
            return error
        finally:
            worker_status.reads("")


def _one(facts: list[Facts | ImageError]) -> tuple[Facts | ImageError, int]:
    return facts[0], 1


def examine_all(paths: list[str], workers: int) -> tuple[list[Facts], list[ImageError]]:
    """Read all files with a progress bar; workers that die or hang on one are restarted."""
    read = Workers(_Files(paths), EpochOrder(len(paths), shuffle=False, seed=0), workers, TIMEOUT, collate_fn=_one)
    with closing(read):
        found = list(tqdm(read, total=len(paths), unit="img", disable=None))
    return [f for f in found if isinstance(f, Facts)], [f for f in found if isinstance(f, ImageError)]
