"""The networks of StarGAN (Choi et al. 2018): a generator told attributes, and a discriminator that finds them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize, check_size, needs_bias
from networks.patchgan import activations
from networks.resnet import ResnetBlock


@GENERATORS.register("stargan", n_blocks=6)
@GENERATORS.register_family(r"stargan_(\d+)blocks", lambda n: {"n_blocks": n})
class AttributeGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; attributes are channels of ones and zeros in the input.

    A ResNet with zero padding: instance norm removes what is constant in a channel, so that after reflection nothing of
    the attributes would be left.
    """

    def __init__(
        self,
        input_nc: int,                                # with those of the attributes
        output_nc: int,
        ngf: int = 64,
        norm_layer: Callable = nn.InstanceNorm2d,
        use_dropout: bool = False,                    # inside the residual blocks
        n_blocks: int = 6,
    ):
        super().__init__(4, smallest=8)
        bias = needs_bias(norm_layer)
        layers = [nn.Conv2d(input_nc, ngf, 7, 1, 3, bias=bias), norm_layer(ngf), nn.ReLU(True)]
        for width in (ngf, 2 * ngf):
            layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=bias), norm_layer(2 * width), nn.ReLU(True)]
        layers += [ResnetBlock(4 * ngf, "zero", norm_layer, use_dropout, bias) for _ in range(n_blocks)]
        for width in (4 * ngf, 2 * ngf):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=bias), norm_layer(width // 2), nn.ReLU(True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(ngf, output_nc, 7, 1, 3), nn.Tanh())

    def translate(self, x: Tensor) -> Tensor:
        return self.model(x)


class AttributeDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> scores of patches (N, 1, H / 2^n_layers, W / 2^n_layers); `classify` finds attributes."""

    entrances = ("classify",)

    def __init__(self, input_nc: int, ndf: int, n_layers: int, attributes: int):
        super().__init__()
        self.min_size = 2 ** n_layers
        layers: list[nn.Module] = []
        for i in range(n_layers):
            before, after = (ndf * 2 ** (i - 1) if i else input_nc), ndf * 2 ** i
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.01)]
        self.body = nn.Sequential(*layers)
        self.score = nn.Conv2d(after, 1, 3, 1, 1)
        self.attributes = nn.Conv2d(after, attributes, 3, 1, 1)

    def forward(self, x: Tensor, features: bool = False):  # (N, input_nc, H, W)
        inner = self.inner(x)
        scores = self.score(inner[-1])
        return [[*inner, scores]] if features else scores

    def classify(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> logits (N, attributes)."""
        return self.attributes(self.inner(x)[-1]).mean((2, 3))

    def inner(self, x: Tensor) -> list[Tensor]:
        """The features of each layer."""
        check_size(self, width=x.shape[3], height=x.shape[2])
        return activations(self.body, x)[:-1]


def with_attributes(x: Tensor, attributes: Tensor) -> Tensor:
    """(N, C, H, W) and (N, attributes) -> (N, C + attributes, H, W), each attribute a constant channel."""
    return torch.cat((x, attributes[:, :, None, None].expand(-1, -1, *x.shape[2:])), 1)
