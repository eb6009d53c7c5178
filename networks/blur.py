"""Down and up by two with a blur, so that no frequency folds over (Zhang 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def binomial(channels: int, *weights: float) -> Tensor:
    """The outer product of these weights, which sums to 1, for each channel: (channels, 1, k, k)."""
    row = torch.tensor(weights)
    kernel = row[:, None] * row[None, :]
    return (kernel / kernel.sum()).repeat(channels, 1, 1, 1)


class Downsample(nn.Module):
    """(N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2))."""

    filt: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("filt", binomial(channels, 1, 2, 1))
        self.pad = nn.ReflectionPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.filt, stride=2, groups=self.filt.shape[0])


class Upsample(nn.Module):
    """(N, C, H, W) -> (N, C, 2 H, 2 W)."""

    filt: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("filt", 4 * binomial(channels, 1, 3, 3, 1))
        self.pad = nn.ReplicationPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(self.pad(x), self.filt, stride=2, padding=3, groups=self.filt.shape[0])
