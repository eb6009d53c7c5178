"""The order of the samples of an epoch: a function of seed, epoch and process."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from util.distributed import rank, world_size
from util.seed import derive


class EpochOrder(Sampler):
    """Yields (epoch, index): a permutation drawn from (seed, epoch), or the plain order.

    With several processes, each takes `batch_size` of every stretch that holds a batch for all. At the end some may get
    fewer or none; with `fill`, these get the stretch's first image, which must not count.
    """

    def __init__(self, length: int, shuffle: bool, seed: int, batch_size: int = 1, fill: bool = False):
        self.length, self.shuffle, self.seed = length, shuffle, seed
        self.batch_size, self.fill = batch_size, fill
        self.epoch, self.start = 1, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = range(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive(self.seed, self.epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
        return iter([(self.epoch, index) for index in self._mine(order)])

    def _mine(self, order: Sequence[int]) -> Sequence[int]:
        if world_size() == 1:
            return order[self.start:]
        first, stretch = rank() * self.batch_size, world_size() * self.batch_size
        mine: list[int] = []
        for start in range(self.start, self.length, stretch):
            part = order[start:start + stretch]
            mine += part[first:first + self.batch_size] or part[:int(self.fill)]
        return mine

    def advance(self, size: int) -> None:
        """This process has had another batch, of `size` samples, and so have the others."""
        self.start = min(self.start + (size if world_size() == 1 else world_size() * self.batch_size), self.length)
