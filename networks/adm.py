"""The U-Net of diffusion models (Dhariwal and Nichol 2021): residual blocks that know the time, and attention."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize, zero


@GENERATORS.register("adm_small", multiples=(1, 2, 3, 4), n_blocks=1)
@GENERATORS.register("adm_medium", multiples=(1, 2, 3, 4), n_blocks=2)
class AdmUnet(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W), in [-1, 1] unless `timed`.

    If `timed`, the last channel of the input is constant, the time in [0, 1], and the output is not bounded.

    part                          channels          size
    `stem`                        ngf               H
    `down`, a level each          ngf * multiple    H, H/2, H/4, H/8
    `middle`, with attention      4 ngf             H/8
    `up`, a level each            ngf * multiple    H/8 ... H
    """

    def __init__(
        self,
        input_nc: int,                                # with that of the time
        output_nc: int,
        ngf: int = 64,
        norm_layer: Callable | None = None,           # passed to every generator; there are group norms here
        use_dropout: bool = False,                    # passed to every generator; unused
        multiples: tuple[int, ...] = (1, 2, 3, 4),
        n_blocks: int = 1,                            # at each level down, and one more up
        timed: bool = False,
    ):
        side = 2 ** (len(multiples) - 1)
        super().__init__(side, smallest=side)
        self.initialised = self.timed = timed         # zeros at the end of a block are part of the design
        widths = [ngf * multiple for multiple in multiples]
        time = 4 * ngf if timed else 0
        self.embed = TimeEmbedding(ngf, time) if timed else None
        self.stem = nn.Conv2d(input_nc - timed, ngf, 3, 1, 1)
        self.down, self.up, kept = nn.ModuleList(), nn.ModuleList(), [ngf]
        before = ngf
        for level, width in enumerate(widths):
            for _ in range(n_blocks):
                self.down.append(ResidualBlock(before, width, time))
                kept.append(before := width)
            if level < len(widths) - 1:
                self.down.append(Halved(width))
                kept.append(width)
        self.middle = nn.ModuleList((ResidualBlock(before, before, time), Attention(before),
                                     ResidualBlock(before, before, time)))
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(n_blocks + 1):
                self.up.append(ResidualBlock(before + kept.pop(), width, time))
                before = width
            if level:
                self.up.append(Doubled(width))
        self.head = nn.Sequential(group_norm(ngf), nn.SiLU(), zero(nn.Conv2d(ngf, output_nc, 3, 1, 1)),
                                  nn.Identity() if timed else nn.Tanh())

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        time = None
        if self.embed is not None:
            time = self.embed(x[:, -1, 0, 0])         # (N, 4 ngf)
            x = x[:, :-1]
        x = self.stem(x)                              # (N, ngf, H, W)
        skips = [x]
        for layer in self.down:
            x = layer(x, time)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, time)
        for layer in self.up:
            x = layer(x if isinstance(layer, Doubled) else torch.cat((x, skips.pop()), 1), time)
        return self.head(x)                           # (N, output_nc, H, W)


class TimeEmbedding(nn.Module):
    """Times (N,) in [0, 1] -> (N, width): sines and cosines of 1000 t (Vaswani et al. 2017), and a perceptron."""

    def __init__(self, waves: int, width: int):
        super().__init__()
        self.waves = waves
        self.layers = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        half = self.waves // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=time.device) / half)
        angles = 1000 * time.float()[:, None] * frequencies                   # (N, waves / 2)
        waves = F.pad(torch.cat((angles.cos(), angles.sin()), 1), (0, self.waves % 2))
        return self.layers(waves.to(time))


class ResidualBlock(nn.Module):
    """(N, C, H, W) -> (N, C', H, W): two convolutions, between which the time scales and shifts; begins as identity."""

    def __init__(self, before: int, after: int, time: int):
        super().__init__()
        self.first = nn.Sequential(group_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, 1, 1))
        self.norm = group_norm(after)
        self.second = nn.Sequential(nn.SiLU(), zero(nn.Conv2d(after, after, 3, 1, 1)))
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * after)) if time else None
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        y = self.norm(self.first(x))
        if self.modulate is not None:
            scale, shift = self.modulate(time)[:, :, None, None].chunk(2, 1)  # (N, C', 1, 1)
            y = y * (1 + scale) + shift
        return self.shortcut(x) + self.second(y)


class Attention(nn.Module):
    """(N, C, H, W) -> (N, C, H, W): every position sees all others, in heads of 64 channels."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = next(n for n in range(max(1, width // 64), 0, -1) if width % n == 0)
        self.norm, self.qkv = group_norm(width), nn.Conv2d(width, 3 * width, 1)
        self.out = zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        n, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).contiguous().view(n, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(3, 4).unbind(1)       # not reshaped: an export would depend on the batch's size
        seen = F.scaled_dot_product_attention(q, k, v)                        # (N, heads, H*W, C / heads)
        return x + self.out(seen.transpose(2, 3).contiguous().view(n, c, height, width))


class Halved(nn.Module):
    """(N, C, H, W) -> (N, C, H/2, W/2)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        return self.conv(x)


class Doubled(nn.Module):
    """(N, C, H, W) -> (N, C, 2 H, 2 W)."""

    def __init__(self, width: int):
        super().__init__()
        self.repeat, self.conv = nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        return self.conv(self.repeat(x))


def group_norm(channels: int) -> nn.GroupNorm:
    """A norm of 32 groups, or as many as divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels)
