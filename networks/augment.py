"""Differentiable augmentation of images on their device (Zhao et al. 2020), drawn anew for each image of a batch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from util.registry import Registry

AUGMENTATIONS = Registry("augmentation")


def augmented(x: Tensor, names: Sequence[str]) -> Tensor:
    """(N, C, H, W) after these augmentations, in this order."""
    for name in names:
        x = AUGMENTATIONS.constructor(name)(x)
    return x


def drawn(x: Tensor, low: float, high: float) -> Tensor:
    """A uniform number for each image, (N, 1, 1, 1)."""
    return torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) * (high - low) + low


@AUGMENTATIONS.register("color")
def color(x: Tensor) -> Tensor:
    """Another brightness, saturation and contrast."""
    x = x + drawn(x, -0.5, 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * drawn(x, 0, 2) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * drawn(x, 0.5, 1.5) + mean


@AUGMENTATIONS.register("translation")
def translation(x: Tensor) -> Tensor:
    """Moved by up to an eighth of the size; what enters is 0."""
    for dim in (2, 3):
        size = x.shape[dim]
        most = max(1, size // 8)
        shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        places = torch.arange(size, device=x.device) + shift                       # (N, size)
        inside = ((places >= 0) & (places < size)).to(x.dtype)
        shape = (len(x), 1, size, 1) if dim == 2 else (len(x), 1, 1, size)
        x = x.gather(dim, places.clamp(0, size - 1).view(shape).expand_as(x)) * inside.view(shape)
    return x


@AUGMENTATIONS.register("cutout")
def cutout(x: Tensor) -> Tensor:
    """A rectangle of half the height and width is 0; part of it may be outside."""
    for_dim = []
    for dim in (2, 3):
        size = x.shape[dim]
        middle = drawn(x, 0, size).view(-1, 1)
        for_dim.append((torch.arange(size, device=x.device) + 0.5 - middle).abs() < size / 4)   # (N, size)
    hole = for_dim[0][:, None, :, None] & for_dim[1][:, None, None, :]
    return x * (~hole).to(x.dtype)


@AUGMENTATIONS.register("flip")
def flip(x: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    return flipped(x, drawn(x, 0, 1) < 0.5)


@AUGMENTATIONS.register("affine")
def affine(x: Tensor) -> Tensor:
    """Turned by up to 15 degrees and scaled by 0.8 to 1.25; what enters is reflected."""
    angle, scale = (value.view(-1) for value in (drawn(x, -0.26, 0.26), drawn(x, -0.22, 0.22).exp()))
    cos, sin, zero = angle.cos() * scale, angle.sin() * scale, torch.zeros_like(angle)
    wide = x.shape[3] / x.shape[2]                    # coordinates are relative to the sides
    matrix = torch.stack((cos, -sin / wide, zero, sin * wide, cos, zero), 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def flipped(x: Tensor, which: Tensor) -> Tensor:
    """The images (N, C, H, W) that are chosen in (N, 1, 1, 1), mirrored left to right."""
    return torch.where(which, x.flip(3), x)
