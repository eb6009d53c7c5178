"""An exponential moving average of the generators' weights (Yazici et al. 2019), which fluctuates less than they do."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from util.errors import UsageError


def is_averaged(name: str) -> bool:
    """Whether a network of this name is a generator."""
    return name.startswith("G")


class WeightAverage:
    """After step t, average <- d average + (1 - d) weights with d = min(decay, (1 + t) / (10 + t)).

    The second term keeps the first weights, which are noise, from staying in it.
    """

    def __init__(self, networks: dict[str, nn.Module], decay: float):
        self.names = [name for name in networks if is_averaged(name)]
        if not self.names:
            raise UsageError(f"--ema averages generators, networks called G...; this model has {', '.join(networks)}")
        self.decay = decay
        self._weights = [p for name in self.names for p in networks[name].parameters()]
        self.restart()

    def restart(self) -> None:
        """Forget all steps: the average becomes the current weights."""
        self.steps = 0
        self._average = [p.detach().clone() for p in self._weights]

    def update(self) -> None:
        """Count the weights after a step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        self.steps += 1
        get_ema_multi_avg_fn(decay)(self._average, [p.detach() for p in self._weights], self.steps)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block, the networks hold the average; their weights stay where they are in memory."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        with torch.no_grad():
            for weight, average in zip(self._weights, self._average, strict=True):
                kept = weight.clone()
                weight.copy_(average)
                average.copy_(kept)
