"""Convolutions that are faster than torch's on a CPU; `table` says which module gets which."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.fast import winograd

FEW_POSITIONS = 64    # output positions up to which reading the weights takes longer than multiplying with them
SOME_POSITIONS = 256  # up to which a bf16 product still beats a bf16 convolution
MANY_BLOCKS = 64      # of results, from which Winograd's transforms cost less than they save


class _Unused(torch.autograd.Function):
    """Passes y on; the gradient of the parameter is zero instead of missing."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, parameter: Tensor) -> Tensor:
        ctx.save_for_backward(parameter)
        return y.detach()  # a view of one channels-last image would get other strides, and miss fast kernels

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        parameter, = ctx.saved_tensors
        return gradient, torch.zeros_like(parameter) if ctx.needs_input_grad[1] else None


class WithoutBias(nn.Conv2d):
    """Before instance norm, which removes any bias: neither adds it nor sums its gradient from rounding errors."""

    def forward(self, x: Tensor) -> Tensor:
        return _Unused.apply(self._conv_forward(x, self.weight, None), self.bias)


class TransposedWithoutBias(nn.ConvTranspose2d):
    """The same for a transposed convolution."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            return super().forward(x, output_size)
        return _Unused.apply(F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding,
                                                self.groups, self.dilation), self.bias)


class FewPositions(nn.Conv2d):
    """A matrix product if few positions meet many weights, which it reads without reordering them."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = (_side(self, x, axis) for axis in (-2, -1))
        if (dtype := _product_type(self, x, len(x) * height * width)) is None:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            patches = F.unfold(x.to(dtype), self.kernel_size, padding=self.padding, stride=self.stride)
            y = _product(patches, self.weight.to(dtype).flatten(1).t()).unflatten(1, (height, width))
        return _with_bias(y.permute(0, 3, 1, 2), self.bias).to(x.dtype)


class FewPositionsTransposed(nn.ConvTranspose2d):
    """A matrix product if few positions meet many weights."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        dtype = _product_type(self, x, len(x) * x.shape[-2] * x.shape[-1])
        if dtype is None or output_size is not None:
            return super().forward(x, output_size)
        size = [(length - 1) * self.stride[i] - 2 * self.padding[i] + self.kernel_size[i] + self.output_padding[i]
                for i, length in enumerate(x.shape[-2:])]
        with torch.autocast("cpu", enabled=False):
            patches = _product(x.to(dtype).flatten(2), self.weight.to(dtype).flatten(1))
            y = F.fold(patches.transpose(1, 2), size, self.kernel_size, padding=self.padding, stride=self.stride)
        return _with_bias(y, self.bias).to(x.dtype)


class Winograd(nn.Conv2d):
    """Winograd's algorithm in float32 if there are enough blocks: a 3x3 kernel and one image from 32x32."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (-(-_side(self, x, axis) // winograd.block_side(self.kernel_size[0])) for axis in (-2, -1))
        usual = len(x) * rows * columns < MANY_BLOCKS or _autocast_type(x.dtype) != torch.float32
        if usual or not _on_cpu_in_float32(self, x):
            return super().forward(x)
        return _with_bias(winograd.convolve(x, self.weight, self.padding), self.bias).to(x.dtype)


class ToFewChannels(nn.Conv2d):
    """For few output channels: computes the gradients with input and output swapped, which has faster kernels."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dim() != 4 or not torch.is_grad_enabled():
            return super().forward(x)
        dtype = _autocast_type(x.dtype)
        y = _ToFewChannels.apply(x.to(dtype), self.weight.to(dtype))
        return _with_bias(y, None if self.bias is None else self.bias.to(dtype))


class _ToFewChannels(torch.autograd.Function):
    """y = x * w, a convolution. With w rotated by 180 degrees, x gets g * w, and w the gradient of one from g to x."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        height, width = weight.shape[2] - 1, weight.shape[3] - 1
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        gradient = F.pad(gradient, (width, width, height, height)).contiguous(memory_format=layout)
        rotated = weight.flip(2, 3).transpose(0, 1)
        of_rotated = torch.nn.grad.conv2d_weight(gradient, rotated.shape, x)
        return F.conv2d(gradient, rotated), of_rotated.transpose(0, 1).flip(2, 3)


def _autocast_type(otherwise: torch.dtype) -> torch.dtype:
    """What autocast computes in on a CPU; `otherwise` if it is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else otherwise


def _on_cpu_in_float32(conv: nn.Module, x: Tensor) -> bool:
    return x.device.type == "cpu" and conv.weight.dtype == torch.float32 and x.dim() == 4 and len(x) > 0


def _product_type(conv: nn.Module, x: Tensor, positions: int) -> torch.dtype | None:
    """The type of a product that beats a convolution with this number of positions, or None.

    In float32 the weights are read where they are; under autocast, a few more positions pay for casting them.
    """
    if not _on_cpu_in_float32(conv, x) or positions > SOME_POSITIONS:
        return None
    cast = _autocast_type(torch.float32)
    if cast != torch.float32 and positions >= FEW_POSITIONS:
        return cast
    return torch.float32 if positions <= FEW_POSITIONS else None


def _side(conv: nn.Conv2d, x: Tensor, axis: int) -> int:
    """The height (axis -2) or width (axis -1) of the result of a convolution without dilation."""
    return (x.shape[axis] + 2 * conv.padding[axis] - conv.kernel_size[axis]) // conv.stride[axis] + 1


def _product(columns: Tensor, weights: Tensor) -> Tensor:
    """(N, K, L) and (K, M) -> (N, L, M); positions are the rows, which is how a tall matrix is read best."""
    n, _, length = columns.shape
    return (columns.transpose(1, 2).flatten(0, 1) @ weights).unflatten(0, (n, length))


def _with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias[:, None, None]
