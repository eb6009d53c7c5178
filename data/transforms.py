"""Resize, crop and flip: drawn once, applied to both images of a pair."""

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from util.errors import UsageError

PREPROCESS = ("resize_and_crop", "resize", "crop", "scale_width", "scale_width_and_crop", "none")
Size = int | tuple[int, int]


def width_height(size: Size) -> tuple[int, int]:
    """(width, height) of an option that is one number or two."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True)
class Geometry:
    """What happens to the pixels of an image, in this order."""

    resize: tuple[int, int]                  # (width, height)
    crop: tuple[int, int, int, int] | None   # (x, y, width, height)
    flip: bool

    def __call__(self, array: np.ndarray, method: int = Image.Resampling.BICUBIC) -> np.ndarray:
        """(H, W, C) -> (H', W', C), the same depth."""
        array = resize(array, self.resize, method)
        if self.crop:
            x, y, width, height = self.crop
            array = array[y:y + height, x:x + width]
        return array[:, ::-1] if self.flip else array


def draw_geometry(opt, size: tuple[int, int], strict: bool = True) -> Geometry:
    """Choose for an image of this (width, height) by --preprocess; random in training, central and unflipped at test.

    Raises UsageError if a crop does not fit in training; unless `strict`, the image then keeps its size.
    """
    resized = resized_size(opt, size)
    crop = None
    if "crop" in opt.preprocess:
        wanted = width_height(opt.crop_size)
        if strict and opt.isTrain and (wanted[0] > resized[0] or wanted[1] > resized[1]):
            raise UsageError(f"an image of {resized[0]}x{resized[1]} (width x height, after --preprocess "
                             f"{opt.preprocess}) is smaller than --crop_size {wanted[0]}x{wanted[1]}")
        width, height = min(wanted[0], resized[0]), min(wanted[1], resized[1])
        free = resized[0] - width, resized[1] - height
        x, y = (random.randint(0, free[0]), random.randint(0, free[1])) if opt.isTrain else (free[0] // 2, free[1] // 2)
        crop = (x, y, width, height)
    return Geometry(resized, crop, opt.isTrain and not opt.no_flip and random.random() > 0.5)


def resized_size(opt, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) before the crop; scale_width keeps the aspect ratio, and enlarges if the crop would not fit."""
    if "resize" in opt.preprocess:
        return width_height(opt.load_size)
    if "scale_width" in opt.preprocess:
        scale = width_height(opt.load_size)[0] / size[0]
        if "crop" in opt.preprocess:
            scale = max(scale, width_height(opt.crop_size)[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return size


def trained_size(opt) -> tuple[int, int] | None:
    """(width, height) if --preprocess gives all images of a training one size, else None."""
    if "crop" in opt.preprocess:
        return width_height(opt.crop_size)
    return width_height(opt.load_size) if "resize" in opt.preprocess else None


def resize(array: np.ndarray, size: tuple[int, int], method: int = Image.Resampling.BICUBIC) -> np.ndarray:
    """(H, W, C) -> (height, width, C) for size (width, height); depths without a Pillow mode channel by channel.

    8-bit bicubic is torch's, several times faster than Pillow's; one value in 250 differs, by one.
    """
    if array.shape[1::-1] == tuple(size):
        return array
    if array.dtype == np.uint8 and method == Image.Resampling.BICUBIC:
        planes = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None]
        return F.interpolate(planes, size[::-1], mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    if array.dtype == np.uint8 and array.shape[2] in (1, 3):
        image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).resize(size, method)
        return np.asarray(image).reshape(size[1], size[0], -1)
    stacked = np.stack([np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, method))
                        for plane in np.moveaxis(array, 2, 0)], axis=2)
    return as_depth(stacked, array.dtype)


def as_depth(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values as a type of file values holds them, rounded and clipped if that is a whole number."""
    if dtype == np.float32:
        return values.astype(dtype, copy=False)
    return np.rint(values).clip(0, np.iinfo(dtype).max).astype(dtype)
