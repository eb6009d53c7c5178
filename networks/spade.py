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
        sizes = [n_ups, n_ups - 1, *range(n_ups - 1, -1, -1)]  # how often each block's label map is halved
        widths = [ngf * 2 ** min(4, halvings) for halvings in sizes]
        norm = partial(nn.InstanceNorm2d if needs_bias(norm_layer) else nn.BatchNorm2d, affine=False)
        self.shrink = nn.AvgPool2d(2 ** n_ups)
        self.stem = nn.Conv2d(input_nc, widths[0], 3, 1, 1)
        self.blocks = nn.ModuleList(
            SpadeBlock(before, after, input_nc, norm, halvings, doubles=halvings < above)
            for (before, above), (after, halvings) in pairwise([(widths[0], n_ups), *zip(widths, sizes, strict=True)]))
        self.head = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], output_nc, 3, 1, 1), nn.Tanh())

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        y = self.stem(self.shrink(x))                 # (N, 16 ngf, H / 2^n_ups, ...)
        for block in self.blocks:
            y = block(y, x)
        return self.head(y)                           # (N, output_nc, H, W)


class SpadeBlock(nn.Module):
    """(N, C, h, w) and labels (N, L, H, W) -> (N, C', h, w) or, if it `doubles`, (N, C', 2 h, 2 w).

    Two convolutions behind norms, added to the input.
    """

    def __init__(self, before: int, after: int, labels: int, norm: Callable, halvings: int, doubles: bool):
        super().__init__()
        middle = min(before, after)
        self.enlarge = nn.Upsample(scale_factor=2) if doubles else nn.Identity()
        self.shrink = nn.AvgPool2d(2 ** halvings) if halvings else nn.Identity()
        self.norm_1, self.conv_1 = Spade(before, labels, norm), spectral_norm(nn.Conv2d(before, middle, 3, 1, 1))
        self.norm_2, self.conv_2 = Spade(middle, labels, norm), spectral_norm(nn.Conv2d(middle, after, 3, 1, 1))
        self.norm_s = Spade(before, labels, norm) if before != after else None
        self.conv_s = spectral_norm(nn.Conv2d(before, after, 1, bias=False)) if before != after else nn.Identity()
        self.active = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x, labels = self.enlarge(x), self.shrink(labels)
        y = self.conv_1(self.active(self.norm_1(x, labels)))
        y = self.conv_2(self.active(self.norm_2(y, labels)))
        return y + (x if self.norm_s is None else self.conv_s(self.norm_s(x, labels)))


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
