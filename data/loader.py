"""Batches from a dataset: what a sample draws is a function of (seed, epoch, index); errors leave workers as raised."""

import contextlib
import math
import os
import pickle
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from data import whereabouts
from data.base_dataset import BaseDataset
from util.errors import ImageError, UsageError
from util.notices import collect, notice, say
from util.plugins import add_plugin_dir
from util.seed import derive, seeded
from util.stall import Watchdog

DRAWS = 10    # of other images, where one can't be used
POLL = 2      # seconds between looks at workers that send nothing
RESTARTS = 5  # of workers without a batch in between


class Loader:
    """Iterates over batches: each a dict of tensors (N, C, H, W) and lists of strings.

    An image that can't be used is kept in `errors`, once. In training another draw takes its place, up to
    --max_bad_images. In testing it is left out, and batches hold images of one size; the order is then nearly that of
    the dataset. Workers that die or hang are started again; a file on which that happens twice can't be used.
    """

    def __init__(self, dataset: BaseDataset, opt):
        self.dataset = dataset
        self.opt = opt
        self.errors: dict[str, ImageError] = {}
        self.while_waiting: Callable[[], None] = lambda: None  # called every few seconds; may raise
        self.order = EpochOrder(len(self), shuffle=opt.isTrain and not opt.serial_batches, seed=opt.seed)
        self._workers = min(opt.num_threads, os.cpu_count() or 1)
        self._board = whereabouts.new_board(self._workers)
        self._samples = _Samples(dataset, opt, len(self), self._board)
        self._strikes: Counter[str] = Counter()
        self._hung: list[whereabouts.Reading] = []
        self._loader = self._start()

    def _start(self) -> DataLoader:
        opt, workers = self.opt, self._workers
        return DataLoader(
            self._samples, sampler=self.order, num_workers=workers,
            batch_size=opt.batch_size if opt.isTrain else 1, collate_fn=_stack if opt.isTrain else _keep,
            generator=torch.Generator().manual_seed(opt.seed),  # else it draws from the training's
            worker_init_fn=_enter_worker, timeout=POLL if workers else 0,
            persistent_workers=opt.isTrain and workers > 0, pin_memory=opt.device.type == "cuda",
        )

    def __len__(self) -> int:
        """Images per epoch, not batches."""
        return int(min(len(self.dataset), self.opt.max_dataset_size))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Which epoch comes next, and after how many of its images to begin."""
        self.order.epoch, self.order.start = epoch, start

    def close(self) -> None:
        """End the workers now; left to the garbage collector, they may have lost the queue that tells them to."""
        self._loader = None

    def readings(self) -> list[str]:
        """What the workers are reading now, in words."""
        return [f"data worker {reading.pid} is reading {reading.what or 'nothing'}"
                for reading in whereabouts.readings(self._board)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._batches() if self.opt.isTrain else group_by_size(self._batches(), self.opt.batch_size)

    def _batches(self) -> Iterator[dict[str, Any]]:
        """Batches in training, samples in testing; tells what was left out."""
        with Watchdog(self.opt.worker_timeout, self._kill_hung) as watch:
            for result in self._results(watch):
                for kind, text in result.notices.items():
                    notice(kind, text)
                for error in result.unusable:
                    self._leave_out(error)
                if result.failure is not None:
                    raise result.failure
                if result.value is not None:
                    yield result.value

    def _results(self, watch: Watchdog) -> Iterator["Result"]:
        """What the workers send, starting them again where they fail."""
        start, seen, failures = self.order.start, 0, 0
        iterator = None
        while True:
            try:
                iterator = iterator or self._iterate()
                result = next(iterator)
            except StopIteration:
                break
            except (RuntimeError, OSError, EOFError) as failure:
                if not self._workers or str(failure).startswith("Caught "):  # raised by the dataset
                    raise
                if iterator is not None and "timed out" in str(failure) and not self._hung:
                    self.while_waiting()
                    continue
                failures += 1
                if failures > RESTARTS:
                    raise UsageError(f"data workers fail again and again ({failure}); is /dev/shm large enough? "
                                     f"--num_threads 0 reads without them") from failure
                self._blame(str(failure))
                watch.beat()
                self.order.start = start + seen
                iterator, self._loader = None, self._start()
                continue
            watch.rest()
            failures = 0
            seen += result.images
            yield result
            watch.beat()
        self.order.start = start

    def _iterate(self) -> Iterator["Result"]:
        """A pass over the workers, without the handler that would raise their deaths in the middle of a step."""
        before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        iterator = iter(self._loader)
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)
        return iterator

    def _kill_hung(self) -> None:
        """End the workers that the training has waited for too long: those that read, or all when none does."""
        there = whereabouts.readings(self._board)
        self._hung = [reading for reading in there if reading.what] or there
        for reading in self._hung:
            with contextlib.suppress(ProcessLookupError):
                os.kill(reading.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _blame(self, failure: str) -> None:
        """Name what the hung or dead workers were reading; the second time it is banned."""
        dead = {int(number) for number in re.findall(r"\d+", failure)}
        verb = "hung" if self._hung else "died"
        for reading in self._hung or [r for r in whereabouts.readings(self._board) if r.pid in dead]:
            self._strikes[reading.what] += bool(reading.what)
            say(f"warning: a data worker {verb}, reading {reading.what or 'nothing'}; it is started again")
        self._samples.banned = frozenset(what for what, strikes in self._strikes.items() if strikes > 1)
        self._hung = []
        self._board.zero_()

    def _leave_out(self, error: ImageError) -> None:
        """Note an image that can't be used, once; raises UsageError when they are too many for a training."""
        if error.path in self.errors:
            return
        self.errors[error.path] = error
        if not self.opt.isTrain:
            return
        if self.opt.max_bad_images == 0:
            raise error
        say(f"warning: {error}; another draw takes its place")
        if len(self.errors) > self.opt.max_bad_images:
            raise UsageError(f"{len(self.errors)} images can't be used, more than --max_bad_images "
                             f"{self.opt.max_bad_images}; python -m data.check {self.opt.dataroot} lists all of them")


def _enter_worker(worker: int) -> None:
    """A signal to the group, as Ctrl-C is, reaches only the main process, which finishes its step first."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    samples = get_worker_info().dataset
    whereabouts.take_row(samples.board, worker, samples.banned)


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


class _Sample(NamedTuple):
    """What was read, or why it could not be; `unusable` are the images tried before."""

    value: dict[str, Any] | None
    unusable: list[ImageError]
    failure: UsageError | None = None


class _Samples(Dataset):
    """The dataset, seeded for each sample; a UsageError is returned, since a worker can't raise it unharmed."""

    def __init__(self, dataset: BaseDataset, opt, length: int, board: torch.Tensor):
        self.dataset, self.seed, self.plugin_dir = dataset, opt.seed, opt.plugin_dir
        self.length, self.board = length, board
        self.draws = 1 + DRAWS if opt.isTrain else 1
        self.banned: frozenset[str] = frozenset()

    def __getitem__(self, key: tuple[int, int]) -> _Sample:
        unusable: list[ImageError] = []
        for draw in range(self.draws):
            seed = derive(self.seed, *key, *([draw] if draw else []))
            try:
                return _Sample(self._read(key[1] if draw == 0 else seed % self.length, seed), unusable)
            except ImageError as error:
                unusable.append(error)
            except UsageError as error:
                return _Sample(None, unusable, error)
            finally:
                whereabouts.end()
        return _Sample(None, unusable, unusable[0] if self.draws > 1 else None)

    def _read(self, index: int, seed: int) -> dict[str, Any]:
        """One sample; raises ImageError, also for a dataset that opens its files itself."""
        name = f"sample {index} of {type(self.dataset).__name__}"
        whereabouts.note(name)
        try:
            with seeded(seed):
                sample = self.dataset[index]
        except (OSError, SyntaxError) as error:
            raise ImageError(name, str(error)) from error
        for key, value in sample.items():
            if torch.is_tensor(value) and value.is_floating_point() and not math.isfinite(value.sum()):
                raise ImageError(sample.get(f"{key}_paths", name), "becomes values that are not finite")
        return sample

    def __getstate__(self) -> tuple[str | None, bytes, torch.Tensor]:
        plain = {name: value for name, value in vars(self).items() if name != "board"}
        return self.plugin_dir, pickle.dumps(plain), self.board

    def __setstate__(self, state: tuple[str | None, bytes, torch.Tensor]) -> None:
        plugin_dir, dumped, board = state
        if plugin_dir:  # a spawned worker must find the plugin before it can unpickle it
            add_plugin_dir(plugin_dir, "data")
        vars(self).update(pickle.loads(dumped), board=board)


class Result(NamedTuple):
    """What a worker sends: a batch in training, a sample in testing."""

    value: dict[str, Any] | None
    images: int                   # of the order, whatever became of them
    unusable: list[ImageError]
    failure: UsageError | None    # that ends the run
    notices: dict[str, str]


def _stack(samples: list[_Sample]) -> Result:
    """A batch, or the first failure among its samples."""
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
    return Result(batch, len(samples), unusable, failure, collect())


def _keep(samples: list[_Sample]) -> Result:
    """The only sample as it is."""
    return Result(samples[0].value, 1, samples[0].unusable, samples[0].failure, collect())


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
