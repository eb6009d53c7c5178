"""Translation inside a mask (N, 1, H, W), 1 inside and 0 outside; None is everywhere."""

from typing import Any

from torch import Tensor


def inside(mask: Tensor | None, image: Any, outside: Any) -> Any:
    """`image` inside the mask, `outside` outside it, (N, C, H, W) both; None if there is no image."""
    return image if mask is None or image is None else mask * image + (1 - mask) * outside


def within(mask: Tensor | None, mean: Tensor) -> Tensor:
    """The mean over the mask of differences that are 0 outside, from their mean over the whole images."""
    return mean if mask is None else mean / mask.mean().clamp(min=1e-3)
