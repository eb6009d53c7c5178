"""Batches from a dataset, in an order that is a function of the seed and the epoch."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import default_collate

from data.base_dataset import BaseDataset
from data.loading.cache import make_cache
from data.loading.order import EpochOrder
from data.loading.samples import DRAWS, Samples, keep, stack
from data.loading.workers import Workers
from util.distributed import local_world_size
from util.errors import ImageError, UsageError
from util.notices import notice, say

MANY_POSITIONS = 2 ** 20  # of a batch in a test: a GPU is busy with these


class Loader:
    """Iterates over batches: each a dict of tensors (N, C, H, W) and lists of strings.

    An unusable image is kept in `errors`, once. In training another draw replaces it, up to --max_bad_images. In
    testing it is left out, and batches hold images of one size, nearly in the order of the dataset.
    """

    def __init__(self, dataset: BaseDataset, opt):
        self.dataset = dataset
        self.opt = opt
        self.errors: dict[str, ImageError] = {}
        if opt.isTrain:
            dataset.cache = make_cache(opt.cache, 2 * len(dataset), opt.checkpoints_dir, shares=local_world_size())
            opt.cache = ("disk" if opt.cache == "disk" else "ram") if dataset.cache else "off"  # for the record
        batch_size = opt.batch_size if opt.isTrain else 1
        shuffle = opt.isTrain and not opt.serial_batches
        self.order = EpochOrder(len(self), shuffle, opt.seed, batch_size, fill=opt.isTrain)
        self.workers = Workers(
            Samples(dataset, opt, len(self)), self.order, opt.num_threads, opt.worker_timeout,
            batch_size=batch_size, collate_fn=stack if opt.isTrain else keep,
            generator=torch.Generator().manual_seed(opt.seed),  # else it draws from the training's
            persistent_workers=opt.isTrain and opt.num_threads > 0, pin_memory=opt.device.type == "cuda",
        )

    def __len__(self) -> int:
        """Images per epoch, not batches; crops of one image count as images."""
        return int(min(len(self.dataset), self.opt.max_dataset_size)) * (self.opt.crops if self.opt.isTrain else 1)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Set which epoch comes next, and how many of its images to skip."""
        self.order.epoch, self.order.start = epoch, start

    def first_batch(self) -> dict[str, Any]:
        """The batch that a training starts with, read here and now."""
        keys = islice(iter(self.order), self.opt.batch_size)
        result, _ = stack([self.workers.samples[key] for key in keys])
        if result.failure is not None:
            raise result.failure
        return result.value or {}

    def samples(self, count: int) -> list[dict[str, Any]]:
        """Batches of one image, evenly spaced in the dataset and always the same, read here and now.

        Images that can't be read are left out.
        """
        places = sorted({i * len(self) // count for i in range(count)})
        found = (self.workers.samples[0, place].value for place in places)
        return [merged([sample]) for sample in found if sample is not None]

    def close(self) -> None:
        """End the workers."""
        self.workers.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._read() if self.opt.isTrain else group_by_size(self._read(), self.opt.batch_size)

    def _read(self) -> Iterator[dict[str, Any]]:
        """Batches in training, samples in testing; reports what was left out."""
        for result in self.workers:
            for kind, text in result.notices.items():
                notice(kind, text)
            for error in result.unusable:
                self._leave_out(error)
            if getattr(result.failure, "away", False):
                raise UsageError(f"{result.failure}, nor could {DRAWS} others for half of --worker_timeout; "
                                 f"--continue_train resumes from the last save once the images are back")
            if result.failure is not None:
                raise result.failure
            if result.value is not None:
                yield result.value

    def _leave_out(self, error: ImageError) -> None:
        """Note an unusable image, once; raises UsageError if they are too many for a training."""
        if error.path in self.errors:
            return
        self.errors[error.path] = error
        if not self.opt.isTrain:
            return
        if self.opt.max_bad_images == 0:
            raise error
        say(f"warning: {error}; another draw replaces it")
        if len(self.errors) > self.opt.max_bad_images:
            raise UsageError(f"{len(self.errors)} images are unusable, more than --max_bad_images "
                             f"{self.opt.max_bad_images}; python -m data.check {self.opt.dataroot} lists all of them; "
                             f"--continue_train resumes from the last save")


def group_by_size(samples: Iterable[dict[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """Batches of samples with equal shapes; at most four batches' worth of samples are held back."""
    return map(merged, grouped(samples, batch_size, 4 * batch_size))


def grouped(things: Iterable[Any], batch_size: int, held: int, sample_of: Callable = lambda thing: thing,
            ) -> Iterator[list[Any]]:
    """Lists of things whose samples have equal shapes; holds back fewer than `held`, in order if that is 0."""
    waiting: dict[Any, list] = {}
    for thing in things:
        sample = sample_of(thing)
        kind = tuple((key, value.shape if torch.is_tensor(value) else key == "repeated" and value)
                     for key, value in sorted(sample.items()))
        if not held and kind not in waiting:
            yield from waiting.values()
            waiting.clear()
        waiting.setdefault(kind, []).append(thing)
        positions = max((value.shape[-2:].numel() for value in sample.values() if torch.is_tensor(value)), default=0)
        if len(waiting[kind]) >= batch_size or len(waiting[kind]) * positions >= MANY_POSITIONS:
            yield waiting.pop(kind)
        elif held and sum(map(len, waiting.values())) >= held:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def merged(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """One batch of samples of equal shapes."""
    if len(samples) == 1:  # without a copy of a large image
        batch = {key: value[None] if torch.is_tensor(value) else default_collate([value])
                 for key, value in samples[0].items()}
    else:
        batch = default_collate(samples)
    return {**batch, "repeated": samples[0]["repeated"]} if "repeated" in batch else batch
