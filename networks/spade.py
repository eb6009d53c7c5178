"""The generator of SPADE (Park et al. 2019): norms whose scale and shift a label map decides, pixel by pixel."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from networks.define import GENERATORS
from networks.layers import AnySize, needs_bias


@GENERATORS.register("spade", n_ups=5)
@GENERATORS.register_family(r"spade_(\d+)ups", lambda n: {"n_ups": n})
class SpadeGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; the input is a label map, or any other image.

    part                                          channels           size
    `stem`: 3x3 convolution of the small input    16 ngf             H / 2^n_ups
    `blocks`, one for each size, two for the      16 ngf (3), 8 ngf  H / 2^n_ups ... H
    second; for n_ups = 5 there are seven         4 ngf, 2 ngf, ngf
    `head`: 3x3 convolution                       output_nc          H

    Smaller inputs are means: the share of each class. Convolutions of the blocks are normalised spectrally.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,                                # channels at full size
        norm_layer: Callable = nn.BatchNorm2d,        # without weights of its own
        use_dropout: bool = False,                    # passed to every generator; unused
        n_ups: int = 5,
    ):
        super().__init__(2 ** n_ups, smallest=2 ** (n_ups + 1))  # instance norm needs more than one pixel
        self.halvings = [n_ups, n_ups - 1, *range(n_ups - 1, -1, -1)]  # of the labels that each block sees
        widths = [ngf * 2 ** min(4, i) for i in self.halvings]
        self.small = nn.ModuleList(nn.AvgPool2d(2 ** i) if i else nn.Identity() for i in range(n_ups + 1))
        self.stem = nn.Conv2d(input_nc, widths[0], 3, 1, 1)
        kind = nn.InstanceNorm2d if needs_bias(norm_layer) else nn.BatchNorm2d
        self.blocks = nn.ModuleList(SpadeBlock(before, after, input_nc, partial(kind, affine=False))
                                    for before, after in pairwise([widths[0], *widths]))
        self.doubled = nn.Upsample(scale_factor=2)
        self.head = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], output_nc, 3, 1, 1), nn.Tanh())

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        maps = [shrink(x) for shrink in self.small]   # (N, input_nc, H, W) ... (N, input_nc, H / 2^n_ups, ...)
        y, before = self.stem(maps[-1]), len(maps) - 1
        for block, halvings in zip(self.blocks, self.halvings, strict=True):
            y = block(y if halvings == before else self.doubled(y), maps[halvings])
            before = halvings
        return self.head(y)                           # (N, output_nc, H, W)


class SpadeBlock(nn.Module):
    """(N, C, H, W) and labels (N, L, H, W) -> (N, C', H, W): two convolutions behind norms, added to the input."""

    def __init__(self, before: int, after: int, labels: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        middle = min(before, after)
        self.norm_1, self.conv_1 = Spade(before, labels, norm), spectral_norm(nn.Conv2d(before, middle, 3, 1, 1))
        self.norm_2, self.conv_2 = Spade(middle, labels, norm), spectral_norm(nn.Conv2d(middle, after, 3, 1, 1))
        self.norm_s = Spade(before, labels, norm) if before != after else nn.Identity()
        self.conv_s = spectral_norm(nn.Conv2d(before, after, 1, bias=False)) if before != after else nn.Identity()
        self.active = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv_1(self.active(self.norm_1(x, labels)))
        y = self.conv_2(self.active(self.norm_2(y, labels)))
        return y + (self.conv_s(self.norm_s(x, labels)) if isinstance(self.norm_s, Spade) else x)


class Spade(nn.Module):
    """norm(x) (1 + scale(labels)) + shift(labels), each pixel with its own scale and shift (equation 1)."""

    def __init__(self, channels: int, labels: int, norm: Callable[[int], nn.Module], hidden: int = 128):
        super().__init__()
        self.norm = norm(channels)
        self.shared = nn.Sequential(nn.Conv2d(labels, hidden, 3, 1, 1), nn.ReLU())
        self.scale, self.shift = nn.Conv2d(hidden, channels, 3, 1, 1), nn.Conv2d(hidden, channels, 3, 1, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        seen = self.shared(labels)                    # (N, hidden, H, W)
        return self.norm(x) * (1 + self.scale(seen)) + self.shift(seen)
