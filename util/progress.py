"""Where a training stands."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from util.distributed import all_sum, is_main


@dataclass
class Progress:
    """Counts images, not batches; `time` and `data` are seconds per image since the last log line."""

    epoch: int = 1
    iters: int = 0                # images seen in this epoch
    total_iters: int = 0          # images seen in all
    time: float = 0.0             # computing
    data: float = 0.0             # waiting for the loader
    waited: float = 0.0           # seconds of this epoch
    worked: float = 0.0           # seconds of this epoch
    learning_rate: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)  # about the best checkpoint
    means: "Means" = field(default_factory=lambda: Means())  # of the losses of this epoch
    _step: int = 0

    def __post_init__(self) -> None:
        self._lap = self.total_iters, 0.0, 0.0  # total_iters, worked and waited at the last log line

    def batches(self, loader: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The loader's batches, timing the wait for each and its step."""
        start = time.perf_counter()
        for batch in loader:
            loaded = time.perf_counter()
            yield batch
            done = time.perf_counter()
            self.worked += done - loaded
            self.waited += loaded - start
            start = done

    def advance(self, images: int) -> None:
        """A step with so many images is done."""
        self._step = images
        self.iters += images
        self.total_iters += images

    def due(self, every: int) -> bool:
        """Whether the last step reached a multiple of `every` images, for any batch size."""
        return self.total_iters // every > (self.total_iters - self._step) // every

    def lap(self) -> None:
        """Set `time` and `data` to the means since the last call."""
        images, worked, waited = self._lap
        images = self.total_iters - images or 1
        self.time, self.data = (self.worked - worked) / images, (self.waited - waited) / images
        self._lap = self.total_iters, self.worked, self.waited

    def waiting(self) -> float:
        """The share of this epoch's time spent waiting for data."""
        return self.waited / (self.waited + self.worked or 1)

    def next_epoch(self) -> None:
        """The epoch is over."""
        self.epoch, self.iters, self.means = self.epoch + 1, 0, Means()
        images, worked, waited = self._lap
        self._lap = images, worked - self.worked, waited - self.waited
        self.waited = self.worked = 0.0

    def counters(self) -> dict[str, int]:
        """For logs."""
        return {"epoch": self.epoch, "iters": self.iters, "total_iters": self.total_iters}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, plain values; waits for the device."""
        return {**self.counters(), "best": self.best, "means": self.means.state()}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Progress":
        """From `state`, or some of its counters; of several processes, the main one continues the means."""
        means = [(names, table if is_main() else [[0.0] * len(names)] * 2) for names, table in state.get("means", ())]
        return cls(**{**state, "means": Means(means)})


class Means:
    """Means of finite scalars that stay on the device: adding does not wait for it, reading does."""

    def __init__(self, state: Iterable[tuple[list[str], list[list[float]]]] = ()):
        self._tables: dict[tuple[str, ...], Tensor] = {  # names -> (2, names): sums and counts
            tuple(names): torch.tensor(table, dtype=torch.float64) for names, table in state}

    def add(self, values: dict[str, Tensor], weight: float = 1.0) -> None:
        """Count one value per name, with this weight; values that are not finite are left out."""
        if not values:
            return
        names, vector = tuple(values), torch.stack([value.detach().reshape(()) for value in values.values()])
        vector = vector.double() if vector.device.type != "mps" else vector
        finite = vector.isfinite()
        table = weight * torch.stack([vector.where(finite, 0), finite.to(vector.dtype)])
        self._tables[names] = self._tables[names].to(table) + table if names in self._tables else table

    def state(self) -> list[tuple[list[str], list[list[float]]]]:
        """Plain values, of all processes together."""
        return [(list(names), all_sum(table.clone()).tolist()) for names, table in self._tables.items()]

    def read(self) -> dict[str, float]:
        """The mean of each name."""
        sums: dict[str, tuple[float, float]] = {}
        for names, (totals, counts) in self.state():
            for name, total, count in zip(names, totals, counts, strict=True):
                before = sums.get(name, (0.0, 0.0))
                sums[name] = before[0] + total, before[1] + count
        return {name: total / count for name, (total, count) in sums.items() if count}
