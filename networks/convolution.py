"""Convolutions with the weights and keys of torch's own, without work that changes nothing."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_POSITIONS = 64      # of a batch: below, reading the weights takes longer than multiplying with them
MANY_WEIGHTS = 2 ** 19


class Conv2d(nn.Conv2d):
    """`before_norm` says that instance norm follows, which takes any bias away again: it is neither added, nor is its
    gradient, zero, summed up from rounding errors.
    """

    def __init__(self, *args: Any, before_norm: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.before_norm = before_norm

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.before_norm else self.bias
        positions = x.shape[0] * x.shape[2] * x.shape[3] // (self.stride[0] * self.stride[1])
        if not _weights_dominate(self, x, positions):
            return _without_effect(self, F.conv2d(x, self.weight, bias, self.stride, self.padding))
        height, width = ((size + 2 * self.padding[i] - self.kernel_size[i]) // self.stride[i] + 1
                         for i, size in enumerate(x.shape[-2:]))
        with torch.autocast(x.device.type, enabled=False):
            patches = F.unfold(x.float(), self.kernel_size, padding=self.padding, stride=self.stride)
            y = _multiply(patches, self.weight.flatten(1).t()).unflatten(2, (height, width))
        return _without_effect(self, _finished(y, bias, x))


class ConvTranspose2d(nn.ConvTranspose2d):
    """`before_norm` as in `Conv2d`."""

    def __init__(self, *args: Any, before_norm: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.before_norm = before_norm

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.before_norm else self.bias
        if not _weights_dominate(self, x, x.shape[0] * x.shape[2] * x.shape[3]):
            y = F.conv_transpose2d(x, self.weight, bias, self.stride, self.padding, self.output_padding)
            return _without_effect(self, y)
        size = [(length - 1) * self.stride[i] - 2 * self.padding[i] + self.kernel_size[i] + self.output_padding[i]
                for i, length in enumerate(x.shape[-2:])]
        with torch.autocast(x.device.type, enabled=False):
            patches = _multiply(x.float().flatten(2), self.weight.flatten(1))
            y = F.fold(patches, size, self.kernel_size, padding=self.padding, stride=self.stride)
        return _without_effect(self, _finished(y, bias, x))


def _weights_dominate(conv: nn.Module, x: Tensor, positions: int) -> bool:
    """Whether a matrix product in float32, which reads the weights where they lie, beats casting and reordering them:
    on a CPU, for large weights and a few positions.
    """
    return (x.device.type == "cpu" and positions <= FEW_POSITIONS and conv.weight.numel() >= MANY_WEIGHTS
            and conv.weight.dtype == torch.float32)


def _multiply(columns: Tensor, weights: Tensor) -> Tensor:
    """(N, K, L) and (K, M) -> (N, M, L); positions are the rows, which is how a tall matrix is read best."""
    n, _, length = columns.shape
    return (columns.transpose(1, 2).flatten(0, 1) @ weights).unflatten(0, (n, length)).transpose(1, 2)


def _finished(y: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    y = y if bias is None else y + bias[:, None, None]
    return y.to(x.dtype)


def _without_effect(conv: nn.Module, y: Tensor) -> Tensor:
    return _Unused.apply(y, conv.bias) if conv.before_norm and conv.bias is not None else y


class _Unused(torch.autograd.Function):
    """Passes y on; the parameter's gradient is zero instead of missing."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, parameter: Tensor) -> Tensor:
        ctx.save_for_backward(parameter)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        parameter, = ctx.saved_tensors
        return gradient, torch.zeros_like(parameter) if ctx.needs_input_grad[1] else None
