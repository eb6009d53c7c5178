"""Resize, crop, flip and scale as dataset plugins of the reference call it: on Pillow images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.transforms import Geometry, draw_geometry
from util.images import EIGHT_BIT, ValueRange

UNIT = ValueRange("float32", 0.0, 1.0)


def get_params(opt, size: tuple[int, int]) -> dict:
    """Draw a crop position and a flip for an image of this (width, height)."""
    geometry = draw_geometry(opt, size, strict=False)
    return {"crop_pos": geometry.crop[:2] if geometry.crop else (0, 0), "flip": geometry.flip}


def get_transform(opt, params: dict | None = None, grayscale: bool = False, method: Any = Image.Resampling.BICUBIC,
                  convert: bool = True) -> "Transform":
    """From a Pillow image to a (C, H, W) tensor in [-1, 1], or to an image again without `convert`."""
    return Transform(opt, params, grayscale, method, convert)


@dataclass(frozen=True)
class Transform:
    """Callable and picklable; draws for each image unless `params` were drawn before."""

    opt: object
    params: dict | None
    grayscale: bool
    method: Any
    convert: bool

    def __call__(self, image: Image.Image) -> torch.Tensor | Image.Image:
        image = image.convert("L") if self.grayscale or image.mode == "1" else image
        array = np.asarray(image)
        array = array[:, :, None] if array.ndim == 2 else array
        array = self._geometry(image.size)(array, self._resampling())
        if self.convert:
            return (UNIT if image.mode == "F" else EIGHT_BIT).to_tensor(array)
        return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))

    def _resampling(self) -> Image.Resampling:
        """Pillow's constant, also for torchvision's InterpolationMode."""
        method = getattr(self.method, "value", self.method)
        return Image.Resampling[method.upper()] if isinstance(method, str) else Image.Resampling(method)

    def _geometry(self, size: tuple[int, int]) -> Geometry:
        drawn = draw_geometry(self.opt, size, strict=False)
        if self.params is None:
            return drawn
        crop = drawn.crop and (*self.params["crop_pos"], *drawn.crop[2:])
        return Geometry(drawn.resize, crop, self.params["flip"])
