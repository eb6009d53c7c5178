"""Translate each image by itself and repeatably, and leave no trace in the network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode


@contextmanager
def translating(model: nn.Module, seeds: list[int], device: torch.device,
                evaluate: bool = False) -> Iterator[list[torch.Generator]]:
    """Inside the block, the translation of an image depends on the weights, the image and its seed alone.

    Batch norm uses each image's own statistics and leaves the running ones alone; dropout stays on, drawn for image i
    from `seeds[i]`: what training mode does with a batch of one (Isola et al. 2017, 3.2), for any batch size. With
    `evaluate`, running statistics and no dropout instead. Yields a generator for each image, for `drawn`; the list is
    empty after the block.
    """
    modes = {module: module.training for module in model.modules()}
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    nn.Module.train(model, not evaluate)  # a plugin may have its own `train`
    for module in modes:
        if isinstance(module, ParametrizationList):
            module.eval()  # spectral norm would go on estimating
    try:
        if evaluate or not any(isinstance(module, (_BatchNorm, _DropoutNd)) for module in modes):
            yield generators
        else:
            counters = {id(norm.num_batches_tracked) for norm in modes if isinstance(norm, _BatchNorm)}
            with PerImage(generators, counters):
                yield generators
    finally:
        generators.clear()
        for module, mode in modes.items():
            module.training = mode


def drawn(draw: Callable[..., Tensor], size: tuple[int, ...], generators: list[torch.Generator],
          device: torch.device) -> Tensor:
    """Numbers from torch.randn or torch.rand; if there are generators, those of image i come from its own."""
    if not generators:
        return draw(size, device=device)
    return torch.stack([draw(size[1:], generator=generators[i % len(generators)], device=device)
                        for i in range(size[0])])


class PerImage(TorchFunctionMode):
    """Inside the block, in this thread, batch norm and dropout treat each image of a batch by itself."""

    def __init__(self, generators: list[torch.Generator], counters: set[int]):
        super().__init__()
        self.generators, self.counters = generators, counters

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.batch_norm and kwargs.get("training"):
            if args[0].dim() == 2 and args[1] is not None:  # (N, C) has no statistics of one image
                return function(*args, **{**kwargs, "training": False})
            return F.instance_norm(args[0], weight=kwargs["weight"], bias=kwargs["bias"], eps=kwargs["eps"])
        if function in (F.dropout, F.dropout2d) and kwargs["training"]:
            x, p = args[0], kwargs["p"]
            return self._dropout(x, p, x.shape[1:] if function is F.dropout else (x.shape[1], 1, 1))
        if id(args[0] if args else None) in self.counters:  # batch norm counts its batches, and may divide by them
            if function == Tensor.add_:
                return args[0]
            if function == Tensor.__float__:
                return max(1.0, function(*args))
        return function(*args, **kwargs)

    def _dropout(self, x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        """One draw of `shape` for each image of (N, C, H, W)."""
        if p == 1:
            return torch.zeros_like(x)
        first = getattr(x, "image", 0)  # of a batch whose images come one after the other
        draws = [torch.rand(shape, generator=self.generators[i % len(self.generators)], device=x.device)
                 for i in range(first, first + len(x))]
        return x * (torch.stack(draws) < 1 - p).to(x.dtype) / (1 - p)
