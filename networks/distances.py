"""How far a reconstruction is from the truth: what --reconstruction weights and adds up. (N, C, H, W) in [-1, 1]."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.errors import UsageError
from util.metrics import pretrained
from util.metrics.pair_metrics import three_channels
from util.registry import Registry

DISTANCES = Registry("distance")
VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of relu1_1 to relu5_1


@DISTANCES.register("l1")
def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference."""
    return F.l1_loss(x, y)


@DISTANCES.register("l2")
def l2(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(x, y)


@DISTANCES.register("gradient")
def gradient(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference of the differences between neighbours, down and across (Mathieu et al. 2016)."""
    return (x - y).diff(dim=2).abs().mean() + (x - y).diff(dim=3).abs().mean()


@DISTANCES.register("frequency")
def frequency(x: Tensor, y: Tensor) -> Tensor:
    """Squared difference of the spectra, weighted by its own size, at most 1 in each plane (Jiang et al. 2021)."""
    difference = torch.fft.fft2(x - y, norm="ortho")
    squares = difference.real.square() + difference.imag.square()
    weight = squares.detach().sqrt()
    weight = weight / weight.amax((2, 3), keepdim=True).clamp(min=1e-12)
    return (weight * squares).mean()


@DISTANCES.register("vgg", needs="vgg")
def vgg(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """L1 of VGG19's features, the first of each stage (Wang et al. 2018); y gets no gradient."""
    mean, std = (torch.tensor(values, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
                 for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, y = (((three_channels(images) + 1) / 2 - mean) / std for images in (x, y.detach()))
    found: list[Tensor] = []
    fresh = True                                      # no activation since the last pooling
    for layer in network.children():
        x, y = layer(x), layer(y)
        if isinstance(layer, nn.ReLU) and fresh:
            found.append(F.l1_loss(x, y))
        fresh = isinstance(layer, nn.MaxPool2d) or (fresh and not isinstance(layer, nn.ReLU))
    total: Any = sum(weight * loss for weight, loss in zip(VGG_WEIGHTS[-len(found):], found, strict=True))
    return total


@DISTANCES.register("lpips", needs="lpips")
def lpips(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """LPIPS of AlexNet (Zhang et al. 2018)."""
    compare: Any = network.net
    return compare(three_channels(x), three_channels(y.detach())).mean()


@DISTANCES.register("dists", needs="dists")
def dists(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """DISTS: structure and texture of VGG16's features (Ding et al. 2020)."""
    return network((three_channels(x) + 1) / 2, (three_channels(y.detach()) + 1) / 2).mean()


class Distance(nn.Module):
    """The weighted sum of distances, written NAME or NAME:WEIGHT; `weights` is where those of networks are.

    Raises UsageError for an unknown name, or weights that are not here.
    """

    def __init__(self, words: Sequence[str], weights: str | None = None):
        super().__init__()
        if weights and any("needs" in DISTANCES[parse(word)[0]][1] for word in words):
            pretrained.check_given(weights)
        self.terms = [parse(word) for word in words]
        self.extractors = nn.ModuleDict({
            name: pretrained.load(need, weights, torch.device("cpu"))
            for name, _ in self.terms if (need := DISTANCES[name][1].get("needs"))})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total: Any = sum(weight * self.one(name, x, y) for name, weight in self.terms)
        return total

    def one(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """The distance of this name."""
        function = DISTANCES[name][0]
        return function(self.extractors[name], x, y) if name in self.extractors else function(x, y)


def parse(word: str) -> tuple[str, float]:
    """(name, weight) of NAME or NAME:WEIGHT; raises UsageError."""
    name, _, weight = word.partition(":")
    DISTANCES.constructor(name)
    try:
        number = float(weight or 1)
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise UsageError(f"--reconstruction {word}: '{weight}' is no number above 0; write {name}:0.5")
    return name, number
