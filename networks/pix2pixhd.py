"""The generators of pix2pixHD (Wang et al. 2018, 3.1): a coarse one, and one that refines it at twice the size."""

from collections.abc import Callable

from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize, needs_bias
from networks.resnet import ResnetBlock


@GENERATORS.register("global", n_blocks=9, n_downs=4)
class GlobalGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1].

    part                                  channels                size
    `trunk`: 7x7 convolution              ngf                     H
             n_downs 3x3, stride 2        2 ngf ... 2^n_downs ngf  H/2 ... H / 2^n_downs
             residual blocks              2^n_downs ngf           H / 2^n_downs
             n_downs transposed           ... 2 ngf, ngf          ... H
    `head`                                output_nc               H
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,                                # channels at full size
        norm_layer: Callable = nn.InstanceNorm2d,
        use_dropout: bool = False,                    # inside the residual blocks
        n_blocks: int = 9,
        n_downs: int = 4,
    ):
        super().__init__(2 ** n_downs, smallest=2 ** (n_downs + 1))  # a block reflects one pixel, so it needs two
        self.trunk = trunk(input_nc, ngf, norm_layer, use_dropout, n_blocks, n_downs)
        self.head = head(ngf, output_nc)

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        return self.head(self.trunk(x))               # (N, output_nc, H, W)


@GENERATORS.register("local", n_blocks=9, n_downs=4, n_local=3)
class LocalGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]: adds what a `global` trunk makes of the halved image.

    The trunk of a run with --netG global and twice the --ngf fits (--init_from). Its image is the mean over 2x2 pixels.

    part                                  channels       size
    `trunk`                               2 ngf          H/2
    `down`: 7x7; 3x3, stride 2            ngf, 2 ngf     H, H/2
    `up`: residual blocks; transposed     2 ngf, ngf     H/2, H
    `head`                                output_nc      H
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 32,                                # channels at full size
        norm_layer: Callable = nn.InstanceNorm2d,
        use_dropout: bool = False,                    # inside the residual blocks
        n_blocks: int = 9,                            # of the trunk
        n_downs: int = 4,                             # of the trunk
        n_local: int = 3,                             # residual blocks at half the size
    ):
        super().__init__(2 ** (n_downs + 1), smallest=2 ** (n_downs + 2))
        bias = needs_bias(norm_layer)
        self.halve = nn.AvgPool2d(2)
        self.trunk = trunk(input_nc, 2 * ngf, norm_layer, use_dropout, n_blocks, n_downs)
        self.down = nn.Sequential(*stem(input_nc, ngf, norm_layer), *halved(ngf, norm_layer))
        blocks = (ResnetBlock(2 * ngf, "reflect", norm_layer, use_dropout, bias) for _ in range(n_local))
        self.up = nn.Sequential(*blocks, *doubled(2 * ngf, norm_layer))
        self.head = head(ngf, output_nc)

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        coarse = self.trunk(self.halve(x))            # (N, 2 ngf, H/2, W/2)
        return self.head(self.up(self.down(x) + coarse))  # (N, output_nc, H, W)


def trunk(input_nc: int, ngf: int, norm_layer: Callable, use_dropout: bool, n_blocks: int,
          n_downs: int) -> nn.Sequential:
    """(N, input_nc, H, W) -> (N, ngf, H, W)."""
    widths, bias = [ngf * 2 ** i for i in range(n_downs)], needs_bias(norm_layer)
    layers = stem(input_nc, ngf, norm_layer)
    for width in widths:
        layers += halved(width, norm_layer)
    layers += [ResnetBlock(2 * widths[-1], "reflect", norm_layer, use_dropout, bias) for _ in range(n_blocks)]
    for width in reversed(widths):
        layers += doubled(2 * width, norm_layer)
    return nn.Sequential(*layers)


def stem(input_nc: int, ngf: int, norm_layer: Callable) -> list[nn.Module]:
    """(N, input_nc, H, W) -> (N, ngf, H, W)."""
    convolution = nn.Conv2d(input_nc, ngf, 7, bias=needs_bias(norm_layer))
    return [nn.ReflectionPad2d(3), convolution, norm_layer(ngf), nn.ReLU(True)]


def halved(width: int, norm_layer: Callable) -> list[nn.Module]:
    """(N, width, H, W) -> (N, 2 width, H/2, W/2)."""
    return [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=needs_bias(norm_layer)), norm_layer(2 * width), nn.ReLU(True)]


def doubled(width: int, norm_layer: Callable) -> list[nn.Module]:
    """(N, width, H, W) -> (N, width/2, 2 H, 2 W)."""
    return [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1, bias=needs_bias(norm_layer)),
            norm_layer(width // 2), nn.ReLU(True)]


def head(ngf: int, output_nc: int) -> nn.Sequential:
    """(N, ngf, H, W) -> (N, output_nc, H, W) in [-1, 1]."""
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh())
