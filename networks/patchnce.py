"""Contrast of patches (Park et al. 2020): a translated patch should resemble its source patch more than any other."""

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.augment import flipped
from networks.layers import init_weights
from util.errors import UsageError
from util.types import numbers, positive, positive_number


class Keys(NamedTuple):
    """Features of an image's patches."""

    places: list[Tensor]    # of each layer, (positions,)
    features: list[Tensor]  # (N, positions, C)


class Taking:
    """Samples features at given or random positions, one layer per call."""

    def __init__(self, count: int, places: Sequence[Tensor] = (), turned: Tensor | None = None):
        self.count, self.turned = count, turned
        self.given, self.places = list(places), list[Tensor]()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, positions, C); images `turned` (N, 1, 1, 1) are mirrored before."""
        if self.turned is not None:
            x = flipped(x, self.turned)
        size = x.shape[2] * x.shape[3]
        place = (self.given.pop(0) if self.given else
                 torch.rand(size, device=x.device).topk(min(self.count, size)).indices)
        self.places.append(place)
        return x.flatten(2).index_select(2, place).transpose(1, 2)


class PatchHeads(nn.Module):
    """A two-layer perceptron for each layer of a generator: (N, positions, C) -> (N, positions, width)."""

    def __init__(self, channels: Sequence[int], width: int = 256):
        super().__init__()
        for i, count in enumerate(channels):
            self.add_module(f"mlp_{i}", nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)))

    def forward(self, layers: list[Tensor]) -> list[Tensor]:
        return [head(x) for head, x in zip(self.children(), layers, strict=True)]


class Contrast:
    """The contrast of patches in some layers of generators, and what it needs."""

    def __init__(self, layers: Sequence[int], num_patches: int, temperature: float):
        self.layers, self.num_patches, self.temperature = layers, num_patches, temperature

    @staticmethod
    def add_options(parser: ArgumentParser, layers: list[int]) -> None:
        """Add what a contrast depends on; `layers` is the default."""
        parser.add_argument("--nce_layers", type=numbers, default=layers, help="layers of the generator whose patches "
                                                                               "contrast")
        parser.add_argument("--nce_T", type=positive_number, default=0.07, help="temperature of the contrast")
        parser.add_argument("--num_patches", type=positive, default=256, help="patches per layer")
        parser.add_argument("--netF_nc", type=positive, default=256, help="channels of the heads")

    def heads(self, netG: Any, input_nc: int, width: int, init_type: str, init_gain: float) -> PatchHeads:
        """Heads for these layers of a generator; raises UsageError for one that it does not have."""
        arguments = getattr(netG, "arguments", {})
        name = arguments.get("netG", type(netG).__name__)
        if arguments.get("output_nc", input_nc) != arguments.get("input_nc", input_nc):
            raise UsageError(f"the encoder that contrasts patches sees inputs and outputs, so --input_nc "
                             f"{arguments['input_nc']} and --output_nc {arguments['output_nc']} must be equal")
        if not hasattr(netG, "features"):
            raise UsageError(f"--netG {name} does not give the features of its layers, which the contrast of patches "
                             f"needs; a resnet does (--netG resnet_9blocks_blurpool)")
        last = len(netG.model)
        if list(self.layers) != sorted(set(self.layers)) or self.layers[-1] >= last:
            raise UsageError(f"--nce_layers {','.join(map(str, self.layers))} are not layers of --netG {name} in "
                             f"ascending order, which has 0 to {last - 1}")
        training = netG.training
        with torch.no_grad():
            found = netG.eval().features(torch.zeros(1, input_nc, 64, 64), self.layers, lambda x: x)
        netG.train(training)
        net = PatchHeads([x.shape[1] for x in found], width)
        init_weights(net, init_type, init_gain)
        return net

    def translate(self, netG: Any, x: Tensor) -> tuple[Tensor, Keys]:
        """The translation (N, C, H, W), and what the layers compute on the way to it at random places."""
        taking = Taking(self.num_patches)
        *features, fake = netG.features(x, self.layers, taking, whole=True)
        return fake, Keys(taking.places, [feature.detach() for feature in features])

    def keys(self, netG: Any, x: Tensor) -> Keys:
        """The features at random places, without a translation."""
        taking = Taking(self.num_patches)
        with torch.no_grad():
            return Keys(taking.places, netG.features(x, self.layers, taking))

    def __call__(self, netG: Any, netF: nn.Module, fake: Tensor, keys: Keys, key_netF: nn.Module | None = None,
                 turned: Tensor | None = None) -> Tensor:
        """`patch_nce` of a translation seen by netG and netF; keys pass through `key_netF`, or netF."""
        queries = netF(netG.features(fake, self.layers, Taking(self.num_patches, keys.places, turned)))
        with torch.no_grad():
            features = (key_netF or netF)(keys.features)
        return patch_nce(queries, features, self.temperature)


def patch_nce(queries: list[Tensor], keys: list[Tensor], temperature: float = 0.07) -> Tensor:
    """The mean over layers of the cross entropy of finding each query's key among those of its image (equation 3).

    Both are lists of (N, positions, C); keys get no gradient.
    """
    losses = []
    for query, key in zip(queries, keys, strict=True):
        query, key = F.normalize(query, dim=2), F.normalize(key.detach(), dim=2)
        similarity = query @ key.transpose(1, 2) / temperature                    # (N, positions, positions)
        truth = torch.arange(similarity.shape[1], device=similarity.device).expand(len(similarity), -1)
        losses.append(F.cross_entropy(similarity.flatten(0, 1), truth.flatten()))
    return torch.stack(losses).mean()
