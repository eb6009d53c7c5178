"""One sample of a dataset, or why there is none: what a data worker returns."""

import math
import pickle
import struct
import time
import zlib
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.utils.data import Dataset, default_collate

from data.base_dataset import BaseDataset
from data.loading.workers import reads
from util.errors import ImageError, UsageError, is_away
from util.notices import collect
from util.plugins import use_plugin_dir
from util.seed import derive, seeded

DRAWS = 10  # of other images if one is unusable
UNREADABLE = (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)  # Pillow's errors


class Sample(NamedTuple):
    """What was read, or why it could not be; `unusable` are the images tried first."""

    value: dict[str, Any] | None
    unusable: list[ImageError]
    failure: UsageError | None = None


class Samples(Dataset):
    """The dataset, seeded for each sample; a UsageError is returned, because raising it would end the worker.

    In training, an unusable image is replaced by others, drawn from (seed, epoch, index, draw).
    """

    def __init__(self, dataset: BaseDataset, opt, length: int):
        self.dataset, self.seed, self.plugin_dir = dataset, opt.seed, opt.plugin_dir
        self.length = length
        self.crops = opt.crops if opt.isTrain else 1
        self.draws = 1 + DRAWS if opt.isTrain else 1
        self.patience = opt.worker_timeout / 2  # seconds

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        end = time.monotonic() + self.patience
        while True:
            sample = self._draw(key)
            away = isinstance(sample.failure, ImageError) and all(error.away for error in sample.unusable)
            if not away or time.monotonic() > end:
                return sample
            time.sleep(1)  # a network folder may come back

    def _draw(self, key: tuple[int, int]) -> Sample:
        unusable: list[ImageError] = []
        for draw in range(self.draws):
            seed = derive(self.seed, *key, *([draw] if draw else []))
            try:
                return Sample(self._read(seed % self.length if draw else key[1], seed), unusable)
            except ImageError as error:
                unusable.append(error)
            except UsageError as error:
                return Sample(None, unusable, error)
            finally:
                reads("")
        return Sample(None, unusable, unusable[0] if self.draws > 1 else None)

    def _read(self, index: int, seed: int) -> dict[str, Any]:
        """One sample; raises ImageError, also for a dataset that opens its files itself."""
        name = f"sample {index} of {type(self.dataset).__name__}"
        reads(name)
        try:
            with seeded(seed):
                sample = self.dataset[index // self.crops]
        except UNREADABLE as error:
            raise ImageError(name, str(error), away=is_away(error)) from error
        for key, value in sample.items():
            if torch.is_tensor(value) and value.is_floating_point() and not is_finite(value):
                raise ImageError(sample.get(f"{key}_paths", name), "becomes values that are not finite")
        return sample

    def __getstate__(self) -> tuple[str | None, bytes, torch.Tensor]:
        plain = {name: value for name, value in vars(self).items() if name != "board"}
        return self.plugin_dir, pickle.dumps(plain), self.board

    def __setstate__(self, state: tuple[str | None, bytes, torch.Tensor]) -> None:
        plugin_dir, dumped, board = state
        if plugin_dir:  # a spawned worker must find the plugin before it can unpickle it
            use_plugin_dir(plugin_dir, "data")
        vars(self).update(pickle.loads(dumped), board=board)


def is_finite(value: torch.Tensor) -> bool:
    """Whether all values are finite; their sum shows it, unless it overflows."""
    return math.isfinite(value.sum()) or bool(value.isfinite().all())


class Result(NamedTuple):
    """A batch in training, a sample in testing, or why there is none."""

    value: dict[str, Any] | None
    unusable: list[ImageError]
    failure: UsageError | None    # that ends the run
    notices: dict[str, str]


def stack(samples: list[Sample]) -> tuple[Result, int]:
    """A batch or the first failure among its samples, and the number of samples."""
    failure = next((sample.failure for sample in samples if sample.failure), None)
    batch = None
    if failure is None:
        values = [sample.value for sample in samples]
        try:
            batch = default_collate(values)
        except RuntimeError:
            shapes = sorted({tuple(v.shape) for value in values for v in value.values() if torch.is_tensor(v)})
            failure = UsageError(f"a batch needs images of one size, not (C, H, W) = {shapes}; use --preprocess "
                                 f"resize_and_crop, or --batch_size 1")
    unusable = [error for sample in samples for error in sample.unusable] if failure is None else []
    return Result(batch, unusable, failure, collect()), len(samples)


def keep(samples: list[Sample]) -> tuple[Result, int]:
    """The only sample, unchanged."""
    return Result(*samples[0], collect()), 1
