"""Conversion between pictures and tensors, and files that keep the depth of a domain."""

import importlib.util
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, features

from util.errors import UsageError
from util.files import atomic

IMG_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif",
                  ".apng", ".npy", *([".avif"] if features.check("avif") else []),
                  *([".heic", ".heif"] if importlib.util.find_spec("pillow_heif") else []))
# Kinds of files that are opened; no others, as opening some of them runs programs.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "HEIF")
ONE_AT_A_TIME = threading.Lock()  # while Pillow's own limit is off
QUICK = {"compress_level": 1, "compress_type": 3}  # run lengths: a quarter of the time, files 3 percent larger
DEPTHS = ("uint8", "uint16", "float32")


def open_picture(path: str) -> Image.Image:
    """Open a file with Pillow if it is of these kinds, of any size: the limit is ours, --max_megapixels."""
    Image.init()
    with ONE_AT_A_TIME:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = before


def is_image_file(filename: str) -> bool:
    """By its extension; hidden files are not images."""
    return filename.lower().endswith(IMG_EXTENSIONS) and not os.path.basename(filename).startswith(".")


@dataclass(frozen=True)
class ValueRange:
    """The values of a domain's files: [low, high] of a depth stands for [-1, 1] of a tensor."""

    depth: str = "uint8"
    low: float = 0.0
    high: float = 255.0

    @classmethod
    def parse(cls, depth: str, limits: str) -> "ValueRange":
        """From the options --depth_X and --range_X (`LOW:HIGH`); `auto` that no dataset has resolved is 8-bit.

        Percentiles are resolved as `auto` is. Raises UsageError.
        """
        if depth == "auto":
            depth = "uint8"
        if limits == "auto" or "%" in limits:
            limits = {"uint8": "0:255", "uint16": "0:65535", "float32": "0:1"}[depth]
        try:
            low, high = map(float, limits.split(":"))
        except ValueError:
            raise UsageError(f"'{limits}' is not a range of values; write LOW:HIGH, such as 0:4095") from None
        if not low < high:
            raise UsageError(f"the range {limits} is empty; write LOW:HIGH with LOW < HIGH")
        return cls(depth, low, high)

    @property
    def limits(self) -> str:
        """As the options --range_A and --range_B take it."""
        return f"{self.low:g}:{self.high:g}" if self.depth == "uint8" else f"{self.low!r}:{self.high!r}"

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """(H, W, C) in file values -> (C, H, W) float32, low..high becoming -1..1."""
        values = torch.from_numpy(np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C"))
        return (values.sub_(self.low) if self.low else values).mul_(2 / (self.high - self.low)).sub_(1)

    def to_array(self, tensor: torch.Tensor) -> np.ndarray:
        """(C, H, W) in [-1, 1] -> (H, W, C) in file values, rounded and clipped to the depth's limits."""
        precision = torch.float32 if self.depth == "uint8" else torch.float64
        values = tensor.detach().cpu().to(precision).permute(1, 2, 0).add(1).mul_((self.high - self.low) / 2)
        values = values.add_(self.low)
        if self.depth != "float32":
            values = values.nan_to_num_(nan=self.low).round_().clamp_(0, np.iinfo(self.depth).max)
        return values.numpy().astype(self.depth, order="C")

    def holds(self, value: float) -> bool:
        """Whether files of this depth can have a value."""
        return self.depth == "float32" or (value.is_integer() and 0 <= value <= np.iinfo(self.depth).max)

    def to_unit(self, array: np.ndarray) -> torch.Tensor:
        """(H, W, C) in file values -> (C, H, W) in double precision, low..high becoming 0..1."""
        return torch.from_numpy((array.astype(np.float64) - self.low) / (self.high - self.low)).permute(2, 0, 1)

    def as_written(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in [-1, 1] -> the values of their files, scaled by `to_unit`."""
        return torch.stack([self.to_unit(self.to_array(image)) for image in images])


EIGHT_BIT = ValueRange()


def tensor2im(image: Any, imtype: type = np.uint8) -> np.ndarray:
    """(N, C, H, W) or (C, H, W) in [-1, 1], the first of a batch -> (H, W, 3) in 0..255; an array passes.

    Of more than three channels the first three are shown, of two the first as grey.
    """
    if not torch.is_tensor(image):
        return np.asarray(image).astype(imtype)
    image = image[0] if image.dim() == 4 else image
    array = EIGHT_BIT.to_array(image)
    return (array[:, :, :3] if array.shape[2] >= 3 else np.repeat(array[:, :, :1], 3, axis=2)).astype(imtype)


def save_image(image: np.ndarray, path: str | Path, aspect_ratio: float = 1.0) -> None:
    """Write (H, W) or (H, W, 1), uint8 or uint16, or (H, W, 3) or (H, W, 4) uint8, resized to `stretched_size`."""
    picture = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if aspect_ratio != 1.0:
        picture = picture.resize(stretched_size(*picture.size, aspect_ratio), Image.Resampling.BICUBIC)
    with atomic(path, "wb", lasting=False) as file:  # it can be made again
        picture.save(file, format=Image.registered_extensions().get(Path(path).suffix.lower(), "PNG"),
                     **QUICK)


def stretched_size(width: int, height: int, aspect_ratio: float) -> tuple[int, int]:
    """A ratio above 1 makes an image wider, below 1 taller."""
    return round(width * max(1, aspect_ratio)), round(height / min(1, aspect_ratio))


def stretched(image: torch.Tensor, aspect_ratio: float) -> torch.Tensor:
    """(C, H, W) of any range, by cubic interpolation, which overshoots at edges."""
    if aspect_ratio == 1.0:
        return image
    width, height = stretched_size(image.shape[2], image.shape[1], aspect_ratio)
    return F.interpolate(image[None].double(), (height, width), mode="bicubic", antialias=True)[0]


def save_exact(array: np.ndarray, path: str | Path, nodata: float | None = None, **more: Any) -> None:
    """Write (H, W, C) of any depth as .npy or .tif, by the path's ending; `nodata` goes into GDAL's tag of a TIFF.

    `more` are further arguments of `tifffile.imwrite`.
    """
    with atomic(path, "wb", lasting=False) as file:
        if Path(path).suffix == ".npy":
            np.save(file, array)
        else:
            import tifffile

            tags = list(more.pop("extratags", []))
            tags += [] if nodata is None else [(42113, "s", 0, repr(float(nodata)).removesuffix(".0"), True)]
            if array.shape[2] == 1:
                tifffile.imwrite(file, array[:, :, 0], photometric="minisblack", extratags=tags, **more)
            else:
                tifffile.imwrite(file, array, planarconfig="contig", extratags=tags,
                                 photometric="rgb" if array.shape[2] == 3 else "minisblack", **more)
