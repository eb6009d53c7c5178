"""Where a training stands."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Progress:
    """Counts images, not batches; `time` and `data` are seconds per image since the last log line."""

    epoch: int = 1
    iters: int = 0                # images seen of this epoch
    total_iters: int = 0          # images seen at all
    time: float = 0.0             # of computing
    data: float = 0.0             # of waiting for the loader
    _batch: int = 0
    _since: dict[str, float] = field(default_factory=lambda: {"images": 0, "time": 0.0, "data": 0.0})

    def batches(self, loader: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The loader's batches, timing the wait for each and its step."""
        start = time.perf_counter()
        for batch in loader:
            loaded = time.perf_counter()
            yield batch
            done = time.perf_counter()
            self._since["time"] += done - loaded
            self._since["data"] += loaded - start
            start = done

    def advance(self, images: int) -> None:
        """A step with so many images is done."""
        self._batch = images
        self.iters += images
        self.total_iters += images
        self._since["images"] += images

    def due(self, every: int) -> bool:
        """Whether the last step reached a multiple of `every` images, for any batch size."""
        return self.total_iters // every > (self.total_iters - self._batch) // every

    def lap(self) -> None:
        """Set `time` and `data` to the means since the last call."""
        images = self._since["images"] or 1
        self.time, self.data = self._since["time"] / images, self._since["data"] / images
        self._since = {"images": 0, "time": 0.0, "data": 0.0}

    def next_epoch(self) -> None:
        """The epoch is over."""
        self.epoch, self.iters = self.epoch + 1, 0

    def counters(self) -> dict[str, int]:
        """What a resumed run needs."""
        return {"epoch": self.epoch, "iters": self.iters, "total_iters": self.total_iters}


class Means:
    """Means of scalars that stay on the device: adding never waits for it, reading does."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Count one value of each name."""
        for name, value in values.items():
            value = value.detach().double() if value.device.type != "mps" else value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """The mean of each name, in one transfer."""
        if not self.sums:
            return {}
        values = torch.stack([value.reshape(()) for value in self.sums.values()]).tolist()
        return {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}
