"""The generator of SANTA (Xie et al. 2023): one decoder for every point of a path from domain A (0) to domain B (1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize
from networks.resnet import ResnetGenerator

CODE = 8  # numbers that describe a domain


@GENERATORS.register("santa_9blocks", n_blocks=9)
@GENERATORS.register_family(r"santa_(\d+)blocks", lambda n: {"n_blocks": n})
class PathGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1], at the end of the path; n = n_blocks.

    part        what                                                       channels, size
    `encoder`   a ResNet's head and (n - 1) // 2 of its blocks             4 ngf, H/4
    `blocks`    the other blocks, with adaptive instance norm              4 ngf, H/4
    `ups`       two transposed convolutions, with adaptive instance norm   2 ngf, ngf, up to H
    `head`      7x7 convolution                                            output_nc, H
    """

    entrances = ("encode", "decode", "inner")

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        norm_layer: Callable = nn.InstanceNorm2d,     # of the encoder
        use_dropout: bool = False,
        n_blocks: int = 9,
    ):
        super().__init__(4, smallest=8)
        plain = ResnetGenerator(input_nc, output_nc, ngf, norm_layer, use_dropout, (n_blocks - 1) // 2).model
        self.encoder = nn.Sequential(*plain[:-9])
        self.blocks = nn.ModuleList(AdaptiveBlock(4 * ngf) for _ in range(n_blocks - (n_blocks - 1) // 2))
        self.ups = nn.ModuleList(AdaptiveUp(width, width // 2) for width in (4 * ngf, 2 * ngf))
        self.head = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh())
        self.codes = nn.Parameter(torch.randn(2, CODE))  # of A and of B

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        return self.decode(self.encode(x), torch.ones_like(x[:, :1, 0, 0]))

    def encode(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, 4 ngf, H/4, W/4)."""
        return self.encoder(x)

    def decode(self, z: Tensor, place: Tensor) -> Tensor:
        """(N, 4 ngf, H/4, W/4), and (N, 1) on the path -> (N, output_nc, H, W)."""
        code = self.code(place)
        for block in self.blocks:
            z = block(z, code)
        for up in self.ups:
            z = up(z, code)
        return self.head(z)

    @torch.jit.unused
    def inner(self, z: Tensor, place: Tensor) -> list[Tensor]:
        """What each block of the decoder computes, (N, 4 ngf, H/4, W/4) each."""
        code, found = self.code(place), []
        for block in self.blocks:
            z = block(z, code)
            found.append(z)
        return found

    def parts(self) -> list[tuple[nn.Module, str]]:
        """What is compiled or recomputed by itself."""
        return [(self, "encode"), *((part, "forward") for part in (*self.blocks, *self.ups))]

    def code(self, place: Tensor) -> Tensor:
        """(N, 1) on the path -> (N, CODE), between the codes of the two domains."""
        return self.codes[:1] + place * (self.codes[1:] - self.codes[:1])


class AdaptiveNorm(nn.Module):
    """Instance norm, scaled and shifted as a code says (Huang and Belongie 2017): (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.scale, self.shift = nn.Linear(CODE, channels), nn.Linear(CODE, channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.scale(code))[:, :, None, None] + self.shift(code)[:, :, None, None]


class AdaptiveBlock(nn.Module):
    """x + two 3x3 convolutions of x with adaptive norms: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.one, self.norm_one = self.convolution(channels), AdaptiveNorm(channels)
        self.two, self.norm_two = self.convolution(channels), AdaptiveNorm(channels)

    @staticmethod
    def convolution(channels: int) -> nn.Sequential:
        """3x3, reflected at the edge."""
        return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        y = torch.relu(self.norm_one(self.one(x), code))
        return x + self.norm_two(self.two(y), code)


class AdaptiveUp(nn.Module):
    """(N, C, H, W) -> (N, C', 2 H, 2 W)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1)
        self.norm = AdaptiveNorm(after)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return torch.relu(self.norm(self.up(x), code))
