"""PatchGAN discriminators (Isola et al. 2017, 3.2.2): one score for each overlapping patch."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from networks.define import DISCRIMINATORS
from networks.layers import check_size, needs_bias


@DISCRIMINATORS.register("basic", n_layers=3)
@DISCRIMINATORS.register("n_layers")
class NLayerDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> (N, 1, H // 2^n_layers - 2, W // 2^n_layers - 2); sees 70x70 pixels with three layers.

    layer of `model`         index             channels
    4x4, stride 2            0                 ndf
    4x4, stride 2, norm      2, 5, ...         2, 4, 8, 8, ... ndf
    4x4, norm                3 n_layers - 1    the next in that row
    4x4                      3 n_layers + 2    1
    """

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()
        self.min_size = 3 * 2 ** n_layers
        bias = needs_bias(norm_layer)
        layers = [nn.Conv2d(input_nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        widths = [ndf * min(2 ** i, 8) for i in range(n_layers + 1)]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            layers += [nn.Conv2d(before, after, 4, 2 if i < n_layers else 1, 1, bias=bias), norm_layer(after),
                       nn.LeakyReLU(0.2, True)]
        layers += [nn.Conv2d(widths[-1], 1, 4, 1, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:           # (N, input_nc, H, W)
        if not torch.jit.is_scripting():
            check_size(self, width=x.shape[3], height=x.shape[2])
        return self.model(x)                          # (N, 1, H // 2^n_layers - 2, W // 2^n_layers - 2)


@DISCRIMINATORS.register("pixel")
class PixelDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> (N, 1, H, W): a score for each pixel by itself, from 1x1 convolutions."""

    def __init__(self, input_nc: int, ndf: int = 64, norm_layer: Callable = nn.BatchNorm2d, n_layers: int = 0):
        super().__init__()                            # define_D passes n_layers to every discriminator; unused here
        self.min_size = 2                             # norms need more than one position
        bias = needs_bias(norm_layer)
        self.net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 1), nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=bias), norm_layer(2 * ndf), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * ndf, 1, 1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:           # (N, input_nc, H, W)
        return self.net(x)                            # (N, 1, H, W)
