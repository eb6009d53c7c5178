"""What happens around a network: autocast, memory format, and in the backward pass recomputation."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint


class Wrapped:
    """Called instead of a method of a module; stored in the module's `__dict__`, where `plain` finds it."""

    def __init__(self, method: Callable):
        self.method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.method(*args, **kwargs)


def wrap(module: nn.Module, name: str, make: Callable[..., Wrapped], *args: Any) -> None:
    """Put a wrapper around a method of a module."""
    setattr(module, name, make(getattr(module, name), *args))


def unwrap(module: nn.Module) -> None:
    """Remove all wrappers from a module."""
    for name in [name for name, value in vars(module).items() if isinstance(value, Wrapped)]:
        delattr(module, name)


class Boundary(Wrapped):
    """`forward` under autocast to `precision` (None casts nothing) and, if asked, on channels-last images.

    What leaves is float32 and contiguous.
    """

    def __init__(self, method: Callable, kind: str, precision: torch.dtype | None, channels_last: bool):
        super().__init__(method)
        self.kind, self.precision, self.channels_last = kind, precision, channels_last  # kind of device

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.channels_last:
            args = tuple(x.contiguous(memory_format=torch.channels_last) if torch.is_tensor(x) and x.dim() == 4 else x
                         for x in args)
        with torch.autocast(self.kind, self.precision) if self.precision is not None else contextlib.nullcontext():
            out = self.method(*args, **kwargs)  # without a precision of ours, a plugin's own autocast holds
        return tree_map(self._restored, out)

    def _restored(self, x: Any) -> Any:
        return (x.float() if x.dtype == self.precision else x).contiguous() if torch.is_tensor(x) else x


class Recomputed(Wrapped):
    """A part of a network that keeps no activations and runs again in the backward pass (Chen et al. 2016)."""

    def __init__(self, method: Callable, net: nn.Module):
        super().__init__(method)
        self.norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        penalty = any(torch.is_tensor(x) and x.is_leaf and x.requires_grad for x in args)  # differentiates by its input
        if penalty or not torch.is_grad_enabled():
            return self.method(*args, **kwargs)
        return checkpoint(self.method, *args, use_reentrant=False, **kwargs,
                          context_fn=lambda: (contextlib.nullcontext(), StatisticsKept(self.norms)))


class StatisticsKept:
    """Inside the block, which may be entered again, batch norm does not count a batch a second time."""

    def __init__(self, norms: list[_BatchNorm]):
        self.buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self.before: list[list[Tensor]] = []

    def __enter__(self) -> None:
        self.before.append([buffer.clone() for buffer in self.buffers])

    def __exit__(self, *_) -> None:
        for buffer, value in zip(self.buffers, self.before.pop(), strict=True):
            buffer.data.copy_(value)  # .data: the backward pass may have saved the buffer
