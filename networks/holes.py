"""Holes in images: (N, 1, H, W), 1 where an image is missing, drawn on the device for each image of a batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.registry import Registry

HOLES = Registry("hole")
Draw = Callable[..., Tensor]  # draw(N, ...) gives numbers between 0 and 1
STROKES, WIDTH = 6, 0.06      # of a brush: its strokes, and its radius, of the image's side


def hole(name: str, draw: Draw, like: Tensor) -> Tensor:
    """A hole of this name in each image of (N, C, H, W); raises UsageError for an unknown one."""
    n, _, height, width = like.shape
    y = (torch.arange(height, device=like.device) + 0.5)[:, None] / height
    x = (torch.arange(width, device=like.device) + 0.5) / width
    inside: Tensor = HOLES.constructor(name)(draw, n, y.expand(n, -1, width), x.expand(n, height, -1))  # (N, H, W)
    return inside[:, None].to(like.dtype)


def entering(image: Tensor, hole: Tensor, coarse: bool) -> Tensor:
    """What a network that fills holes sees: the image (N, C, H, W) without the hole (N, 1, H, W), and the hole.

    With `coarse`, also all of the image at a quarter of its resolution.
    """
    given = [image * (1 - hole), hole]
    if coarse:
        small = F.interpolate(image, ((image.shape[2] + 3) // 4, (image.shape[3] + 3) // 4), mode="area")
        given.append(F.interpolate(small, image.shape[2:], mode="bilinear"))
    return torch.cat(given, 1)                        # (N, C + 1, H, W) or (N, 2 C + 1, H, W)


class Completing(nn.Module):
    """(N, C + 1, H, W), an image and a channel above 0 where it is missing -> the completed image (N, C, H, W)."""

    def __init__(self, net: nn.Module, channels: int, coarse: bool):
        super().__init__()
        self.net, self.channels, self.coarse = net, channels + 1, coarse

    def forward(self, x: Tensor) -> Tensor:
        image, hole = x[:, :-1], (x[:, -1:] > 0).to(x)
        return hole * self.net(entering(image, hole, self.coarse)) + (1 - hole) * image


def points(most: int, always: bool, draw: Draw, like: Tensor) -> Tensor:
    """Squares of three pixels anywhere in each image of (N, C, H, W): `most` of them, or fewer unless `always`."""
    n, _, height, width = like.shape
    count = torch.full((n, 1), float(most), device=like.device) if always else (draw(n, 1) * (most + 1)).floor()
    y, x = (draw(n, 2, most, 1, 1) * torch.tensor([height, width], device=like.device).view(2, 1, 1, 1)).unbind(1)
    rows, columns = (torch.arange(side, device=like.device) + 0.5 for side in (height, width))
    near = ((rows[:, None] - y).abs() <= 1.5) & ((columns - x).abs() <= 1.5)  # (N, most, H, W)
    taken = torch.arange(most, device=like.device) < count                    # (N, most)
    return (near & taken[:, :, None, None]).any(1, keepdim=True).to(like.dtype)


@HOLES.register("center")
def center(draw: Draw, n: int, y: Tensor, x: Tensor) -> Tensor:
    """A box of half the height and width in the middle."""
    return ((y - 0.5).abs() < 0.25) & ((x - 0.5).abs() < 0.25)


@HOLES.register("random_box")
def random_box(draw: Draw, n: int, y: Tensor, x: Tensor) -> Tensor:
    """A box of half the height and width anywhere."""
    top, left = (draw(n, 2, 1, 1) / 2).unbind(1)
    return (y >= top) & (y < top + 0.5) & (x >= left) & (x < left + 0.5)


@HOLES.register("half")
def half(draw: Draw, n: int, y: Tensor, x: Tensor) -> Tensor:
    """The upper, lower, left or right half."""
    side = (4 * draw(n, 1, 1)).long()
    return torch.where(side == 0, y < 0.5, torch.where(side == 1, y >= 0.5, torch.where(side == 2, x < 0.5, x >= 0.5)))


@HOLES.register("brush")
def brush(draw: Draw, n: int, y: Tensor, x: Tensor) -> Tensor:
    """Connected strokes of a round brush."""
    ends = draw(n, STROKES + 1, 2, 1, 1)
    near = torch.zeros_like(y, dtype=torch.bool)
    for stroke in range(STROKES):
        (top, left), (down, across) = ends[:, stroke].unbind(1), (ends[:, stroke + 1] - ends[:, stroke]).unbind(1)
        share = ((y - top) * down + (x - left) * across) / (down.square() + across.square()).clamp(min=1e-6)
        share = share.clamp(0, 1)                     # where on the stroke its nearest point is
        near |= (y - top - share * down).square() + (x - left - share * across).square() < WIDTH ** 2
    return near
