"""Generators whose output is larger than their input: SRResNet (Ledig et al. 2017) and RRDB (Wang et al. 2018)."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import init_weights, zero


class Enlarging(nn.Module, ABC):
    """(N, input_nc, H, W) -> (N, output_nc, scale H, scale W): what the layers add to the bicubic image.

    part                                                   channels    size
    `stem`: 3x3 convolution                                ngf         H
    `body`: blocks, 3x3 convolution, added to the stem     ngf         H
    `up`: doubled log2(scale) times                        ngf         2 H ... scale H
    `head`: two 3x3 convolutions                           output_nc   scale H

    There are no norms: they cost accuracy here. It begins as bicubic interpolation, unless output_nc differs.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        norm_layer: Callable | None = None,           # passed to every generator; unused
        use_dropout: bool = False,                    # passed to every generator; unused
        *,
        n_blocks: int,
        scale: int,                                   # a power of 2
    ):
        super().__init__()
        self.initialised, self.scale = True, scale    # blocks that begin small are part of the design
        self.enlarge = nn.Upsample(scale_factor=scale, mode="bicubic") if input_nc == output_nc else None
        self.stem = nn.Conv2d(input_nc, ngf, 3, 1, 1)
        self.body = nn.Sequential(*(self.block(ngf) for _ in range(n_blocks)), nn.Conv2d(ngf, ngf, 3, 1, 1))
        doublings = scale.bit_length() - 1
        self.up = nn.Sequential(*(layer for _ in range(doublings) for layer in self.doubled(ngf)))
        last = nn.Conv2d(ngf, output_nc, 3, 1, 1)
        self.head = nn.Sequential(nn.Conv2d(ngf, ngf, 3, 1, 1), nn.LeakyReLU(0.2), last)
        init_weights(self, "kaiming")
        zero(last)

    def forward(self, x: Tensor) -> Tensor:           # (N, input_nc, H, W)
        y = self.stem(x)                              # (N, ngf, H, W)
        y = y + self.body(y)
        y = self.head(self.up(y))                     # (N, output_nc, scale H, scale W)
        return y if self.enlarge is None else self.enlarge(x) + y

    @abstractmethod
    def block(self, width: int) -> nn.Module:
        """A block of the body, (N, width, H, W) -> (N, width, H, W)."""

    @abstractmethod
    def doubled(self, width: int) -> list[nn.Module]:
        """Layers (N, width, H, W) -> (N, width, 2 H, 2 W)."""


@GENERATORS.register("srresnet", n_blocks=16)
@GENERATORS.register_family(r"srresnet_(\d+)blocks", lambda n: {"n_blocks": n})
class SRResNet(Enlarging):
    """`Enlarging` with residual blocks, doubled by exchanging channels for pixels."""

    def block(self, width: int) -> nn.Module:
        return Residual(nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, 1, 1))

    def doubled(self, width: int) -> list[nn.Module]:
        return [nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]


@GENERATORS.register("rrdb", n_blocks=23)
@GENERATORS.register_family(r"rrdb_(\d+)blocks", lambda n: {"n_blocks": n})
class RRDBNet(Enlarging):
    """`Enlarging` with blocks of three dense blocks, doubled by repeating pixels."""

    def block(self, width: int) -> nn.Module:
        return Residual(*(Dense(width, max(1, width // 2)) for _ in range(3)))

    def doubled(self, width: int) -> list[nn.Module]:
        return [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.2)]


class Residual(nn.Module):
    """x + 0.2 layers(x): what is added is small (Wang et al. 2018, 3.1)."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.layers(x)


class Dense(nn.Module):
    """x + 0.2 of the last of five convolutions, (N, C, H, W) -> (N, C, H, W), each of which sees all before it."""

    def __init__(self, width: int, growth: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(width + i * growth, growth, 3, 1, 1) for i in range(4))
        self.last = nn.Conv2d(width + 4 * growth, width, 3, 1, 1)
        self.active = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for layer in self.layers:
            seen = torch.cat((seen, self.active(layer(seen))), 1)
        return x + 0.2 * self.last(seen)
