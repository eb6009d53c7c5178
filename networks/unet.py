"""The U-Net generator of pix2pix (Isola et al. 2017, 6.1.1), built from the innermost block outwards."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize, needs_bias


@GENERATORS.register("unet_64", num_downs=6)
@GENERATORS.register("unet_128", num_downs=7)
@GENERATORS.register("unet_256", num_downs=8)
@GENERATORS.register("unet_512", num_downs=9)
@GENERATORS.register("unet_1024", num_downs=10)
@GENERATORS.register_family(r"unet_(32|2048|4096)", lambda side: {"num_downs": side.bit_length() - 1})
class UnetGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; halves the image num_downs times, to one pixel.

    block          channels inside      size at its inside
    outermost      ngf                  H/2
    three blocks   2, 4, 8 ngf          H/4, H/8, H/16
    the rest       8 ngf                down to H / 2^num_downs; dropout in all but the innermost
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        num_downs: int,                               # at least 5
        ngf: int = 64,                                # channels after the first convolution
        norm_layer: Callable = nn.BatchNorm2d,
        use_dropout: bool = False,
    ):
        super().__init__(2 ** num_downs)
        self.min_size = 2 ** num_downs
        block = UnetSkipConnectionBlock(8 * ngf, 8 * ngf, norm_layer=norm_layer, innermost=True)
        for _ in range(num_downs - 5):
            block = UnetSkipConnectionBlock(8 * ngf, 8 * ngf, submodule=block, norm_layer=norm_layer,
                                            use_dropout=use_dropout)
        for width in (4 * ngf, 2 * ngf, ngf):
            block = UnetSkipConnectionBlock(width, 2 * width, submodule=block, norm_layer=norm_layer)
        self.model = UnetSkipConnectionBlock(output_nc, ngf, input_nc=input_nc, submodule=block, norm_layer=norm_layer,
                                             outermost=True)

    def translate(self, x: Tensor) -> Tensor:
        return self.model(x)


class UnetSkipConnectionBlock(nn.Module):
    """Halve, go through the submodule, double, and join what came in: (N, C, H, W) -> (N, 2 outer_nc, H, W).

    The outermost block has no skip: (N, input_nc, H, W) -> (N, outer_nc, H, W).
    """

    def __init__(
        self,
        outer_nc: int,                                # channels that leave
        inner_nc: int,                                # channels at half the size
        input_nc: int | None = None,                  # channels that enter, outer_nc unless given
        submodule: nn.Module | None = None,
        outermost: bool = False,
        innermost: bool = False,
        norm_layer: Callable = nn.BatchNorm2d,
        use_dropout: bool = False,
    ):
        super().__init__()
        self.outermost = outermost
        bias = needs_bias(norm_layer)
        down = nn.Conv2d(outer_nc if input_nc is None else input_nc, inner_nc, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(inner_nc if innermost else 2 * inner_nc, outer_nc, 4, 2, 1, bias=outermost or bias)
        layers: list[Any]
        if outermost:
            layers = [down, submodule, nn.ReLU(True), up, nn.Tanh()]
        elif innermost:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(True), up, norm_layer(outer_nc)]
        else:
            layers = [nn.LeakyReLU(0.2), down, norm_layer(inner_nc), submodule, nn.ReLU(True), up, norm_layer(outer_nc)]
            layers += [nn.Dropout(0.5)] if use_dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:           # (N, outer_nc, H, W), or input_nc if outermost
        if self.outermost:
            return self.model(x)                      # (N, outer_nc, H, W)
        # The skip carries the activated tensor: published weights were trained with an activation in place.
        skip = x
        for i, layer in enumerate(self.model):
            x = layer(x)
            if i == 0:
                skip = x
        return torch.cat([skip, x], 1)                # (N, 2 outer_nc, H, W)
