"""Norms, padding, tanh and the U-Net's skips with the right gradient, precision or memory format."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.unet import UnetSkipConnectionBlock

POSITIONS = 2 ** 14  # over which torch sums channels-last values on a CPU in float32; over millions it loses digits


class Statistics:
    """Mean and variance per channel of an image that comes in parts, merged in double precision (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0  # sum of squared deviations

    def add(self, image: Tensor) -> None:
        """(1, C, H, W)."""
        rows = max(1, POSITIONS // image.shape[3]) if image.device.type == "cpu" else image.shape[2]
        for part in image.split(rows, 2):
            if part.device.type == "cpu":  # thirty times as fast as `var_mean` on channels-last values
                width = part.shape[1]
                mean, variance = torch.batch_norm_update_stats(part, torch.zeros(width), torch.ones(width), 0.0)
            else:
                variance, mean = torch.var_mean(part.float(), (0, 2, 3), correction=0)
            mean, variance = mean.cpu().double(), variance.cpu().double()
            count = part.shape[2] * part.shape[3]
            total, delta = self.count + count, mean - self.mean
            self.squares = self.squares + variance * count + delta ** 2 * (self.count * count / total)
            self.mean, self.count = self.mean + delta * (count / total), total

    def found(self) -> tuple[Tensor, Tensor]:
        """(mean, variance), each (C), on the CPU."""
        return self.mean.float(), (self.squares / self.count).float()


class InstanceNorm2d(nn.InstanceNorm2d):
    """Statistics in float32 for every input, and the right gradient.

    On a CPU the gradient of `F.instance_norm` is wrong for one image if the incoming one is channels-last (torch 2.11
    to 2.15); batch norm of each image by itself is the same function. Compiled, the formula fuses with its neighbours.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.track_running_stats or x.dim() != 4 or (x.device.type != "cpu" and not torch.compiler.is_compiling()):
            return super().forward(x)
        if torch.compiler.is_compiling():
            values = x if x.dtype == torch.float64 else x.float()
            variance, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
            y = (values - mean) * torch.rsqrt(variance + self.eps)
            return (y if self.weight is None else y * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)
        images = [self._normalised(image) for image in x.split(1)]
        return images[0] if len(images) == 1 else torch.cat(images)

    def _normalised(self, image: Tensor) -> Tensor:
        if torch.is_grad_enabled() or image.shape[2] * image.shape[3] <= 8 * POSITIONS:
            return F.batch_norm(image, None, None, self.weight, self.bias, training=True, eps=self.eps)
        statistics = Statistics()
        statistics.add(image)
        return F.batch_norm(image, *statistics.found(), self.weight, self.bias, training=False, eps=self.eps)


class ReflectionPad2d(nn.ReflectionPad2d):
    """Pads in the type of its input; compiled, out of slices, whose gradient fuses better than that of a gather."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            with torch.autocast("cpu", enabled=False):  # which would pad in float32
                return super().forward(x)
        left, right, above, below = self.padding
        x = torch.cat((x[..., 1:left + 1].flip(-1), x, x[..., -right - 1:-1].flip(-1)), -1)
        return torch.cat((x[..., 1:above + 1, :].flip(-2), x, x[..., -below - 1:-1, :].flip(-2)), -2)


class Tanh(nn.Tanh):
    """In float32: in bf16, values above 0.998 round to 1, where the gradient is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)


class ChannelsLastSkip(UnetSkipConnectionBlock):
    """Joins skip and features in one memory format on a CPU, where norms and ReLU have a slow path for mixed ones."""

    def forward(self, x: Tensor) -> Tensor:
        if self.outermost or x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        skip = x
        for i, layer in enumerate(self.model):
            x = layer(x)
            if i == 0:
                skip = x
        return _Joined.apply(skip, x)


class _Joined(torch.autograd.Function):
    """`torch.cat` along the channels, channels-last, whose gradients are dense instead of slices."""

    @staticmethod
    def forward(ctx: Any, skip: Tensor, x: Tensor) -> Tensor:
        ctx.widths = skip.shape[1], x.shape[1]
        return torch.cat([skip, x.contiguous(memory_format=torch.channels_last)], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in gradient.split(ctx.widths, 1))
