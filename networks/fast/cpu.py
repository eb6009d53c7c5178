"""Convolutions with the weights and keys of torch's own, without work that changes nothing."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.fast import winograd
from networks.fast.products import multiply

FEW_POSITIONS = 64      # of a batch: below, reading the weights takes longer than multiplying with them
SOME_POSITIONS = 256    # up to which casting them pays, but not reordering them too
MANY_WEIGHTS = 2 ** 19
MANY_BLOCKS = 64        # of results: from which Winograd's transforms cost less than they save
FEW_CHANNELS = 4        # that leave a convolution


class _BeforeNorm(nn.Module):
    """`before_norm` says that instance norm follows, which takes any bias away again: it is neither added, nor is its
    gradient, zero, summed up from rounding errors.
    """

    def __init__(self, *args: Any, before_norm: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.before_norm = before_norm

    def used_bias(self) -> Tensor | None:
        """The bias, where it has an effect."""
        return None if self.before_norm else self.bias

    def with_unused_bias(self, y: Tensor) -> Tensor:
        """y, of which the gradient of a bias without effect is zero instead of missing."""
        return _Unused.apply(y, self.bias) if self.before_norm and self.bias is not None else y


class Conv2d(_BeforeNorm, nn.Conv2d):
    """torch's own; large weights meet a few positions as a matrix product, many in Winograd's way."""

    def forward(self, x: Tensor) -> Tensor:
        positions = x.shape[0] * x.shape[2] * x.shape[3] // (self.stride[0] * self.stride[1])
        if (dtype := _product_type(self, x, positions)) is not None:
            y = self._product(x, dtype)
        elif _winograd_pays(self, x):
            y = winograd.convolve(x, self.weight, self.padding)
        else:
            return self.with_unused_bias(self._conv_forward(x, self.weight, self.used_bias()))
        return self.with_unused_bias(_add(y, self.used_bias()).to(x.dtype))

    def _product(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            patches = F.unfold(x.to(dtype), self.kernel_size, padding=self.padding, stride=self.stride)
            rows = _multiply(patches, self.weight.to(dtype).flatten(1).t())
            return rows.unflatten(1, _size_of_result(self, x)).permute(0, 3, 1, 2)


class ConvTranspose2d(_BeforeNorm, nn.ConvTranspose2d):
    """torch's own; large weights meet a few positions as a matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        if (dtype := _product_type(self, x, x.shape[0] * x.shape[2] * x.shape[3])) is None:
            y = F.conv_transpose2d(x, self.weight, self.used_bias(), self.stride, self.padding, self.output_padding,
                                   self.groups, self.dilation)
            return self.with_unused_bias(y)
        size = [(length - 1) * self.stride[i] - 2 * self.padding[i] + self.kernel_size[i] + self.output_padding[i]
                for i, length in enumerate(x.shape[-2:])]
        with torch.autocast(x.device.type, enabled=False):
            patches = _multiply(x.to(dtype).flatten(2), self.weight.to(dtype).flatten(1))
            y = F.fold(patches.transpose(1, 2), size, self.kernel_size, padding=self.padding, stride=self.stride)
        return self.with_unused_bias(_add(y, self.used_bias()).to(x.dtype))


class ConvToFewChannels(nn.Conv2d):
    """torch's own with a stride of 1 and no padding: on a CPU, the gradients of few channels are computed as if those
    were what enters, for which there are quicker kernels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int]):
        super().__init__(in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or self.out_channels > FEW_CHANNELS or not torch.is_grad_enabled():
            return super().forward(x)
        dtype = _autocast_type(x.dtype)
        return _add(_ToFewChannels.apply(x.to(dtype), self.weight.to(dtype)), self.bias.to(dtype))


class _ToFewChannels(torch.autograd.Function):
    """y = x * w. With w turned by 180 degrees, x's gradient is g * w, and w's that of a convolution from g to x."""

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
        turned = weight.flip(2, 3).transpose(0, 1)
        of_turned = torch.nn.grad.conv2d_weight(gradient, turned.shape, x)
        return F.conv2d(gradient, turned), of_turned.transpose(0, 1).flip(2, 3)


def _autocast_type(otherwise: torch.dtype) -> torch.dtype:
    """What autocast computes in on a CPU; `otherwise` where it is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else otherwise


def _product_type(conv: nn.Module, x: Tensor, positions: int) -> torch.dtype | None:
    """The type of a matrix product that beats a convolution: on a CPU, for large weights.

    A few positions meet them in float32, where they lie; some more in bf16, if autocast computes in it.
    """
    if not _large(conv, x):
        return None
    cast = _autocast_type(torch.float32)
    if cast != torch.float32 and FEW_POSITIONS <= positions <= SOME_POSITIONS:
        return cast
    return torch.float32 if positions <= FEW_POSITIONS else None


def _winograd_pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether `networks.fast.winograd` is quicker: for 256 channels at 32x32 and more."""
    kernel, other = conv.kernel_size
    if not _large(conv, x) or kernel not in winograd.KERNELS or other != kernel or conv.stride != (1, 1):
        return False
    rows, columns = (-(-length // winograd.block_side(kernel)) for length in _size_of_result(conv, x))
    return len(x) * rows * columns >= MANY_BLOCKS and _autocast_type(x.dtype) == torch.float32


def _size_of_result(conv: nn.Conv2d, x: Tensor) -> list[int]:
    """[H, W] of what a convolution without dilation makes of x."""
    return [(length + 2 * conv.padding[i] - conv.kernel_size[i]) // conv.stride[i] + 1
            for i, length in enumerate(x.shape[-2:])]


def _large(conv: nn.Module, x: Tensor) -> bool:
    """Whether a convolution on a CPU has many weights, in float32, and nothing out of the ordinary."""
    return (x.device.type == "cpu" and conv.weight.numel() >= MANY_WEIGHTS and conv.weight.dtype == torch.float32
            and conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros")


def _multiply(columns: Tensor, weights: Tensor) -> Tensor:
    """(N, K, L) and (K, M) -> (N, L, M); positions are the rows, which is how a tall matrix is read best."""
    n, _, length = columns.shape
    return multiply(columns.transpose(1, 2).flatten(0, 1), weights).unflatten(0, (n, length))


def _add(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias[:, None, None]


class _Unused(torch.autograd.Function):
    """Passes y on; the parameter's gradient is zero instead of missing."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, parameter: Tensor) -> Tensor:
        ctx.save_for_backward(parameter)
        return y.detach()  # a view would count the strides of one channels-last image anew, and miss quick kernels

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        parameter, = ctx.saved_tensors
        return gradient, torch.zeros_like(parameter) if ctx.needs_input_grad[1] else None
