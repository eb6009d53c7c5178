"""The networks of DCGAN (Radford et al. 2016), as an encoder and a decoder of images, and BEGAN's autoencoder."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from networks.define import DISCRIMINATORS, GENERATORS
from networks.layers import AnySize, check_size, needs_bias
from networks.patchgan import activations


def halvings(input_nc: int, widths: list[int], norm_layer: Callable) -> list[nn.Module]:
    """4x4 convolutions with stride 2, LeakyReLU, and a norm in all but the first."""
    layers: list[nn.Module] = [nn.Conv2d(input_nc, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=needs_bias(norm_layer)), norm_layer(after),
                   nn.LeakyReLU(0.2, True)]
    return layers


@GENERATORS.register("dcgan")
class DCGANGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]: DCGAN's generator behind its discriminator, no skips.

    layers of `model`          channels                  size
    four 4x4, stride 2         ngf, 2, 4, 8 ngf          H/2 ... H/16, the code: 4x4 for an image of 64x64
    four transposed, stride 2  4, 2, 1 ngf, output_nc    H/8 ... H
    """

    def __init__(self, input_nc: int, output_nc: int, ngf: int = 64, norm_layer: Callable = nn.BatchNorm2d,
                 use_dropout: bool = False):
        super().__init__(16, smallest=32)
        widths = [ngf, 2 * ngf, 4 * ngf, 8 * ngf]
        layers = halvings(input_nc, widths, norm_layer) + ([nn.Dropout(0.5)] if use_dropout else [])
        for before, after in pairwise(widths[::-1]):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=needs_bias(norm_layer)), norm_layer(after),
                       nn.ReLU(True)]
        self.model = nn.Sequential(*layers, nn.ConvTranspose2d(ngf, output_nc, 4, 2, 1), nn.Tanh())

    def translate(self, x: Tensor) -> Tensor:
        return self.model(x)


@DISCRIMINATORS.register("dcgan")
class DCGANDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> (N, 1, H // 16 - 3, W // 16 - 3): one score for an image of 64x64."""

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 0, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()                            # define_D passes n_layers to every discriminator; unused here
        self.min_size = 64
        self.model = nn.Sequential(*halvings(input_nc, [ndf, 2 * ndf, 4 * ndf, 8 * ndf], norm_layer),
                                   nn.Conv2d(8 * ndf, 1, 4))

    def forward(self, x: Tensor, features: bool = False):  # (N, input_nc, H, W)
        check_size(self, width=x.shape[3], height=x.shape[2])
        return [activations(self.model, x)] if features else self.model(x)   # (N, 1, H // 16 - 3, W // 16 - 3)


@DISCRIMINATORS.register("autoencoder")
class AutoencoderDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> (N, 1, H, W): energies, how far its reconstruction is from each pixel (BEGAN, 3.1).

    `balance` is k, which --gan_mode began controls.
    """

    balance: Tensor

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()
        self.min_size = 2 ** (n_layers + 1)           # norms need more than one position
        widths = [ndf * min(2 ** i, 8) for i in range(n_layers)]
        layers = halvings(input_nc, widths, norm_layer)
        for before, after in pairwise([*widths[::-1], input_nc]):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1), nn.LeakyReLU(0.2, True)]
        self.model = nn.Sequential(*layers[:-1])
        self.register_buffer("balance", torch.zeros(()))

    def forward(self, x: Tensor, features: bool = False):  # (N, input_nc, H, W)
        check_size(self, width=x.shape[3], height=x.shape[2])
        *inner, rebuilt = activations(self.model, x)
        energies = (rebuilt[:, :, :x.shape[2], :x.shape[3]] - x[:, :, :rebuilt.shape[2], :rebuilt.shape[3]]).abs()
        energies = energies.mean(1, keepdim=True)
        return [[*inner, energies]] if features else energies
