"""Chroma as classes (Zhang et al. 2016): a network that may be in doubt between colours need not answer with grey."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 12                  # centres along a and along b, from -1 to 1: 20 apart in the Lab space
CLASSES = SIDE ** 2
STEEPNESS = 10.0           # logits of a generator whose output is in [-1, 1]
TEMPERATURE = 0.38         # of the mean that a colour is: between the likeliest class and the plain mean


def centres(like: Tensor, side: int = SIDE) -> Tensor:
    """(SIDE,) from -1 to 1."""
    return torch.linspace(-1, 1, side, device=like.device, dtype=like.dtype)


def encoded(ab: Tensor) -> Tensor:
    """(N, 2, H, W) in [-1, 1] -> (N, CLASSES, H, W): shares of the four nearest centres, whose mean is the colour."""
    distance = (ab.clamp(-1, 1)[:, :, None] - centres(ab)[:, None, None]).abs()  # (N, 2, SIDE, H, W)
    a, b = (1 - distance * (SIDE - 1) / 2).clamp(min=0).unbind(1)
    return (a[:, :, None] * b[:, None]).flatten(1, 2)


def decoded(output: Tensor, side: int = SIDE, steepness: float = STEEPNESS / TEMPERATURE) -> Tensor:
    """A generator's output (N, CLASSES, H, W) in [-1, 1] -> the colour (N, 2, H, W) that it stands for (equation 5)."""
    # Numbers are arguments because TorchScript reads no globals.
    shares = (steepness * output.float()).softmax(1).unflatten(1, (side, side))
    places = centres(shares, side)[:, None, None]
    return torch.stack(((shares.sum(2) * places).sum(1), (shares.sum(1) * places).sum(1)), 1)


def class_loss(output: Tensor, ab: Tensor) -> Tensor:
    """The cross-entropy between a generator's output (N, CLASSES, H, W) and the true colours (N, 2, H, W)."""
    return F.cross_entropy(STEEPNESS * output.float(), encoded(ab.float()))


class Colouring(nn.Module):
    """Lightness (N, 1, H, W), or also hints, (N, 4, H, W): their chroma and where they are -> ab (N, 2, H, W)."""

    def __init__(self, net: nn.Module, channels: int, classes: bool):
        super().__init__()
        self.net, self.channels, self.classes = net, channels, classes

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        return decoded(y) if self.classes else y
