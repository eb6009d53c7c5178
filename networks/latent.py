"""The networks of BicycleGAN (Zhu et al. 2017): a U-Net with a code at each level, and the encoder that finds it."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize, check_size, needs_bias


@GENERATORS.register_family(r"latent_unet_(32|64|128|256|512|1024)", lambda side: {"num_downs": side.bit_length() - 1})
class LatentUnetGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; the last `latent` channels of the input are the code.

    A U-Net (Isola et al. 2017) of num_downs levels, to one pixel, whose every level down sees the code again: a norm
    removes what is constant in a channel, so that little of a code that enters once would arrive.

    level of `down`, `up`    channels         size behind `down`
    0                        ngf              H/2
    1, 2, 3                  2, 4, 8 ngf      H/4, H/8, H/16
    the rest                 8 ngf            down to H / 2^num_downs
    """

    def __init__(
        self,
        input_nc: int,                                # with those of the code
        output_nc: int,
        ngf: int = 64,
        norm_layer: Callable = nn.InstanceNorm2d,
        use_dropout: bool = False,                    # at the levels with 8 ngf channels inside and outside
        num_downs: int = 8,
        *,
        latent: int,
    ):
        super().__init__(2 ** num_downs)
        self.min_size, self.latent = 2 ** num_downs, latent
        bias = needs_bias(norm_layer)
        widths = [input_nc - latent, *(ngf * min(8, 2 ** i) for i in range(num_downs))]
        last = num_downs - 1
        self.halve = nn.AvgPool2d(2)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (outer, inner) in enumerate(pairwise(widths)):
            normed = 0 < level < last                 # of one pixel a norm leaves nothing
            self.down.append(nn.Sequential(
                nn.LeakyReLU(0.2) if level else nn.Identity(),
                nn.Conv2d(outer + latent, inner, 4, 2, 1, bias=bias or not normed),
                norm_layer(inner) if normed else nn.Identity()))
            above = inner if level == last else 2 * inner
            self.up.append(nn.Sequential(
                nn.ReLU(), nn.ConvTranspose2d(above, outer if level else output_nc, 4, 2, 1, bias=bias or not level),
                norm_layer(outer) if level else nn.Tanh(),
                *([nn.Dropout(0.5)] if use_dropout and inner == outer == 8 * ngf and level < last else [])))

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        x, code = x[:, :-self.latent], x[:, -self.latent:]
        skips: list[Tensor] = []
        for down in self.down:
            skips.append(x)
            x = down(torch.cat((x, code), 1))         # (N, inner, h/2, w/2)
            code = self.halve(code)                   # (N, latent, h/2, w/2): still the same everywhere
        for level in range(len(self.up) - 1, -1, -1):
            x = self.up[level](x)                     # (N, outer, h, w)
            x = torch.cat((skips[level], x), 1) if level else x
        return x                                      # (N, output_nc, H, W)


class WithoutCode(nn.Module):
    """(N, C, H, W) -> (N, output_nc, H, W): a generator given a code of zeros, the mean of all codes."""

    def __init__(self, net: nn.Module, latent: int):
        super().__init__()
        self.net, self.latent = net, latent

    def forward(self, x: Tensor) -> Tensor:
        code = torch.zeros_like(x[:, :1]).repeat(1, self.latent, 1, 1)
        return self.net(torch.cat((x, code), 1))


class CodeEncoder(nn.Module):
    """(N, input_nc, H, W) -> mean and log variance of the code, (N, latent) each: a ResNet that halves its input."""

    def __init__(self, input_nc: int, latent: int, ngf: int = 64, norm_layer: Callable = nn.InstanceNorm2d,
                 n_blocks: int = 4):
        super().__init__()
        self.min_size = 2 ** (n_blocks + 1)
        widths = [ngf * min(4, i + 1) for i in range(n_blocks + 1)]
        self.stem = nn.Conv2d(input_nc, ngf, 4, 2, 1)
        self.blocks = nn.Sequential(*(HalvingBlock(before, after, norm_layer) for before, after in pairwise(widths)))
        self.mean, self.log_variance = nn.Linear(widths[-1], latent), nn.Linear(widths[-1], latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_size(self, *x.shape[:1:-1])
        x = F.leaky_relu(self.blocks(self.stem(x)), 0.2).mean((2, 3))  # (N, 4 ngf)
        return self.mean(x), self.log_variance(x)


class HalvingBlock(nn.Module):
    """(N, C, H, W) -> (N, C', H/2, W/2): two convolutions and their means over 2x2, added to those of the input."""

    def __init__(self, before: int, after: int, norm_layer: Callable):
        super().__init__()
        bias = needs_bias(norm_layer)
        self.layers = nn.Sequential(
            norm_layer(before), nn.LeakyReLU(0.2), nn.Conv2d(before, before, 3, 1, 1, bias=bias),
            norm_layer(before), nn.LeakyReLU(0.2), nn.Conv2d(before, after, 3, 1, 1), nn.AvgPool2d(2))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.shortcut(x)
