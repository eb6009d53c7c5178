"""PatchGAN discriminators (Isola et al. 2017, 3.2.2): one score for each overlapping patch."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.blur import Downsample
from networks.define import DISCRIMINATORS
from networks.layers import check_size, needs_bias


def activations(layers: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What each activation in a discriminator's layers returns, and then the scores."""
    found = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            found.append(x)
    return [*found, x]


@DISCRIMINATORS.register("basic", n_layers=3)
@DISCRIMINATORS.register("basic_blurpool", n_layers=3, blur=True)
@DISCRIMINATORS.register("n_layers")
class NLayerDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> (N, 1, H // 2^n_layers - 2, W // 2^n_layers - 2); sees 70x70 pixels with three layers.

    layer of `model`         index             channels
    4x4, stride 2            0                 ndf
    4x4, stride 2, norm      2, 5, ...         2, 4, 8, 8, ... ndf
    4x4, norm                3 n_layers - 1    the next in that row
    4x4                      3 n_layers + 2    1

    With `blur`, a layer has stride 1 and is halved by a `Downsample` behind its activation, as in CUT's code.
    """

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer: Callable = nn.BatchNorm2d,
                 blur: bool = False):
        super().__init__()
        self.min_size = 3 * 2 ** n_layers
        bias = needs_bias(norm_layer)
        widths = [ndf * min(2 ** i, 8) for i in range(n_layers + 1)]
        stride = 1 if blur else 2

        def half(channels: int) -> list[nn.Module]:
            return [Downsample(channels)] if blur else []

        layers = [nn.Conv2d(input_nc, ndf, 4, stride, 1), nn.LeakyReLU(0.2, True), *half(ndf)]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            inner = i < n_layers
            layers += [nn.Conv2d(before, after, 4, stride if inner else 1, 1, bias=bias), norm_layer(after),
                       nn.LeakyReLU(0.2, True), *(half(after) if inner else [])]
        layers += [nn.Conv2d(widths[-1], 1, 4, 1, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor, features: bool = False):  # (N, input_nc, H, W)
        if not torch.jit.is_scripting():
            check_size(self, width=x.shape[3], height=x.shape[2])
            if features:
                return [activations(self.model, x)]
        return self.model(x)                          # (N, 1, H // 2^n_layers - 2, W // 2^n_layers - 2)


@DISCRIMINATORS.register("multiscale")
class MultiscaleDiscriminator(nn.Module):
    """Two PatchGANs, for the image and for half of it: scores of each, a list (Wang et al. 2018, 3.2)."""

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer: Callable = nn.BatchNorm2d,
                 scales: int = 2):
        super().__init__()
        self.min_size = 3 * 2 ** (n_layers + scales - 1)
        self.scales = nn.ModuleList(NLayerDiscriminator(input_nc, ndf, n_layers, norm_layer) for _ in range(scales))

    def forward(self, x: Tensor, features: bool = False):  # (N, input_nc, H, W)
        check_size(self, width=x.shape[3], height=x.shape[2])
        found: list = []
        for i, net in enumerate(self.scales):
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False) if i else x
            found += net(x, features=True) if features else [net(x)]
        return found


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

    def forward(self, x: Tensor, features: bool = False):  # (N, input_nc, H, W)
        if not torch.jit.is_scripting() and features:
            return [activations(self.net, x)]
        return self.net(x)                            # (N, 1, H, W)
