"""Batches from a dataset: what a sample draws is a function of (seed, epoch, index); errors leave workers as raised."""

import os
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from data.base_dataset import BaseDataset
from util.errors import ImageError, UsageError
from util.notices import collect, notice
from util.plugins import add_plugin_dir
from util.seed import derive, seeded


class Loader:
    """Iterates over batches: each a dict of tensors (N, C, H, W) and lists of strings.

    In training a broken image raises ImageError. In testing it is kept in `errors`, and batches hold images of one
    size; the order is then nearly that of the dataset.
    """

    def __init__(self, dataset: BaseDataset, opt):
        self.dataset = dataset
        self.opt = opt
        self.errors: list[ImageError] = []
        self.order = EpochOrder(len(self), shuffle=opt.isTrain and not opt.serial_batches, seed=opt.seed)
        workers = min(opt.num_threads, os.cpu_count() or 1)
        self._loader = DataLoader(
            _Samples(dataset, opt), sampler=self.order, num_workers=workers,
            batch_size=opt.batch_size if opt.isTrain else 1, collate_fn=_stack if opt.isTrain else _keep,
            generator=torch.Generator().manual_seed(opt.seed),  # else it draws from the training's
            worker_init_fn=_leave_group,
            persistent_workers=opt.isTrain and workers > 0, pin_memory=opt.device.type == "cuda",
        )

    def __len__(self) -> int:
        """Images per epoch, not batches."""
        return int(min(len(self.dataset), self.opt.max_dataset_size))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Which epoch comes next, and after how many of its images to begin."""
        self.order.epoch, self.order.start = epoch, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._read() if self.opt.isTrain else group_by_size(self._read(), self.opt.batch_size)

    def _read(self) -> Iterator[dict[str, Any]]:
        """Batches in training, samples in testing."""
        for value, error, notices in self._loader:
            for kind, text in notices.items():
                notice(kind, text)
            if error is None:
                yield value
            elif self.opt.isTrain or not isinstance(error, ImageError):
                raise error
            else:
                self.errors.append(error)


def _leave_group(_: int) -> None:
    """A signal to the group, as Ctrl-C is, reaches only the main process, which finishes its step first."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


class EpochOrder(Sampler):
    """Yields (epoch, index): a permutation drawn from (seed, epoch), or the plain order."""

    def __init__(self, length: int, shuffle: bool, seed: int):
        self.length, self.shuffle, self.seed = length, shuffle, seed
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        return self.length - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = range(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive(self.seed, self.epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
        return iter([(self.epoch, index) for index in order[self.start:]])


class _Samples(Dataset):
    """The dataset, seeded for each sample; a UsageError is returned, since a worker can't raise it unharmed."""

    def __init__(self, dataset: BaseDataset, opt):
        self.dataset, self.seed, self.plugin_dir = dataset, opt.seed, opt.plugin_dir

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        with seeded(derive(self.seed, epoch, index)):
            try:
                return self.dataset[index]
            except UsageError as error:
                return error
            except (OSError, SyntaxError) as error:  # a dataset that opens its files itself
                return ImageError(f"sample {index} of {type(self.dataset).__name__}", str(error))

    def __getstate__(self) -> tuple[str | None, bytes]:
        return self.plugin_dir, pickle.dumps((self.dataset, self.seed))

    def __setstate__(self, state: tuple[str | None, bytes]) -> None:
        self.plugin_dir, dumped = state
        if self.plugin_dir:  # a spawned worker must find the plugin before it can unpickle it
            add_plugin_dir(self.plugin_dir, "data")
        self.dataset, self.seed = pickle.loads(dumped)


Result = tuple[dict[str, Any] | None, UsageError | None, dict[str, str]]


def _stack(samples: list) -> Result:
    """A batch, or the first error among its samples."""
    error = next((s for s in samples if isinstance(s, UsageError)), None)
    if error is None:
        try:
            return default_collate(samples), None, collect()
        except RuntimeError:
            shapes = sorted({tuple(value.shape) for sample in samples for value in sample.values()
                             if torch.is_tensor(value)})
            error = UsageError(f"a batch needs images of one size, not (C, H, W) = {shapes}; use --preprocess "
                               f"resize_and_crop, or --batch_size 1")
    return None, error, collect()


def _keep(samples: list) -> Result:
    """The only sample as it is."""
    failed = isinstance(samples[0], UsageError)
    return (None, samples[0], collect()) if failed else (samples[0], None, collect())


def group_by_size(samples: Iterable[dict[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """Batches of samples with equal shapes; at most four batches' worth of samples wait for company."""
    waiting: dict[Any, list] = {}
    for sample in samples:
        kind = tuple((key, value.shape if torch.is_tensor(value) else key == "repeated" and value)
                     for key, value in sorted(sample.items()))
        waiting.setdefault(kind, []).append(sample)
        if len(waiting[kind]) == batch_size:
            yield _merge(waiting.pop(kind))
        elif sum(map(len, waiting.values())) >= 4 * batch_size:
            yield _merge(waiting.pop(next(iter(waiting))))
    for group in waiting.values():
        yield _merge(group)


def _merge(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch = default_collate(samples)
    return {**batch, "repeated": samples[0]["repeated"]} if "repeated" in batch else batch
