"""The generator of Johnson et al. (2016): down, residual blocks, up."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from networks.blur import Downsample, Upsample
from networks.define import GENERATORS
from networks.layers import AnySize, needs_bias
from util.errors import unknown

PADDINGS = {"reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d, "zero": None}


@GENERATORS.register("resnet_6blocks", n_blocks=6)
@GENERATORS.register("resnet_9blocks", n_blocks=9)
@GENERATORS.register("resnet_9blocks_blurpool", n_blocks=9, blur=True)
@GENERATORS.register_family(r"resnet_(\d+)blocks", lambda n: {"n_blocks": n})
@GENERATORS.register_family(r"resnet_(\d+)blocks_blurpool", lambda n: {"n_blocks": n, "blur": True})
class ResnetGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; n = n_blocks.

    layer of `model`   index            channels         size
    7x7 convolution    1                ngf              H
    two 3x3, stride 2  4, 7             2 ngf, 4 ngf     H/2, H/4
    residual blocks    10 .. 9+n        4 ngf            H/4
    two transposed     10+n, 13+n       2 ngf, ngf       H/2, H
    7x7 convolution    17+n             output_nc        H

    With `blur`, 3x3 convolutions have stride 1, and a `Downsample` behind the activation or an `Upsample` before them
    changes the size, as in CUT: two more layers on each side.
    """

    entrances = ("features",)  # methods that are called from outside, besides `forward`
    first: torch.jit.Final[int]
    last: torch.jit.Final[int]

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,                                # channels at full size
        norm_layer: Callable = nn.BatchNorm2d,
        use_dropout: bool = False,                    # inside the residual blocks
        n_blocks: int = 6,
        padding_type: str = "reflect",
        blur: bool = False,
    ):
        super().__init__(4, smallest=8)  # a block reflects one pixel, so it needs two, and instance norm more than one
        bias = needs_bias(norm_layer)
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7, bias=bias), norm_layer(ngf),
                  nn.ReLU(True)]
        for width in (ngf, 2 * ngf):
            layers += [nn.Conv2d(width, 2 * width, 3, 1 if blur else 2, 1, bias=bias), norm_layer(2 * width),
                       nn.ReLU(True), *([Downsample(2 * width)] if blur else [])]
        self.first, self.last = len(layers), len(layers) + n_blocks  # of the blocks; `last` is one past them
        layers += [ResnetBlock(4 * ngf, padding_type, norm_layer, use_dropout, bias) for _ in range(n_blocks)]
        for width in (4 * ngf, 2 * ngf):
            up = ([Upsample(width), nn.Conv2d(width, width // 2, 3, 1, 1, bias=bias)] if blur else
                  [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1, bias=bias)])
            layers += [*up, norm_layer(width // 2), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        x = self.encode(x)                            # (N, 4 ngf, H/4, W/4)
        x = self.run(x, self.first, self.last)        # (N, 4 ngf, H/4, W/4)
        return self.decode(x)                         # (N, output_nc, H, W)

    def encode(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, 4 ngf, H/4, W/4)."""
        return self.run(x, 0, self.first)

    def decode(self, x: Tensor) -> Tensor:
        """(N, 4 ngf, H/4, W/4) -> (N, output_nc, H, W)."""
        return self.run(x, self.last, len(self.model))

    def run(self, x: Tensor, first: int, last: int) -> Tensor:
        """Some layers of `model`; a loop over a slice is beyond TorchScript."""
        for i, layer in enumerate(self.model):
            if first <= i < last:
                x = layer(x)
        return x


    @torch.jit.unused
    def features(self, x: Tensor, layers: Collection[int], take: Callable[[Tensor], Tensor],
                 whole: bool = False) -> list[Tensor]:
        """`take(output)` of these layers of `model`, in ascending order, and with `whole` the translation last."""
        height, width = x.shape[2:]
        x = self.enlarged(self.enlarged(x, -2), -1)
        found = []
        for i, layer in enumerate(self.model if whole else self.model[:max(layers) + 1]):
            x = layer(x)
            if i in layers:
                found.append(take(x))
        return [*found, x[:, :, :height, :width]] if whole else found


class ResnetBlock(nn.Module):
    """x + two 3x3 convolutions of x, (N, dim, H, W) -> (N, dim, H, W), without an activation after the sum."""

    def __init__(self, dim: int, padding_type: str, norm_layer: Callable, use_dropout: bool, use_bias: bool):
        super().__init__()
        if padding_type not in PADDINGS:
            raise unknown("padding", padding_type, PADDINGS)
        pad = PADDINGS[padding_type]

        def convolution() -> list[nn.Module]:
            return [*([pad(1)] if pad else []),
                    nn.Conv2d(dim, dim, 3, padding=0 if pad else 1, bias=use_bias), norm_layer(dim)]

        dropout = [nn.Dropout(0.5)] if use_dropout else []
        self.conv_block = nn.Sequential(*convolution(), nn.ReLU(True), *dropout, *convolution())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)
