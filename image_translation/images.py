"""Images of any kind on their way to a network, and translations on their way back."""

import contextlib
import io
import math
import os
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from data import find_dataset_using_name
from data.base_dataset import BaseDataset
from data.reading import Pixels, as_picture, from_pillow, index_of, with_channels, with_holes
from data.tiff import missing
from util.errors import ImageError, UsageError, one_line
from util.images import EIGHT_BIT, ValueRange, save_exact
from util.notices import notice

UNIT = ValueRange("float32", 0.0, 1.0)
SOME = "the image"  # what one without a name is called


class Item(NamedTuple):
    """An image on its way: a sample of a dataset, and what its translation should look like."""

    sample: dict[str, Any]                          # "A": (C, H, W) in [-1, 1], "A_paths": its name
    kind: str                                       # "picture", "array", "flat" (H, W), "unit", "flat unit"
    holes: tuple[np.ndarray, float] | None = None   # pixels (H, W) without data, and the value that says so
    dtype: Any = None                               # of a float array

    @property
    def name(self) -> str:
        """The file, if it is one."""
        return str(self.sample["A_paths"])

    @property
    def positions(self) -> int:
        """Height times width."""
        return int(self.sample["A"].shape[-2:].numel())


class Translation(NamedTuple):
    """What a network made of an image."""

    value: Any                                      # (C, H, W) in [-1, 1], or an (H, W, 3) array of a colour picture
    values: ValueRange                              # of the files of its domain
    holes: tuple[np.ndarray, float] | None

    def to_array(self) -> np.ndarray:
        """(H, W, C) at the depth and in the range of the domain, missing data marked again."""
        if not torch.is_tensor(self.value):
            return np.asarray(self.value).astype(np.uint8)
        array = self.values.to_array(self.value)
        if self.holes and self.holes[0].shape == array.shape[:2] and self.values.holds(self.holes[1]):
            array[self.holes[0]] = self.holes[1]
        return array


class Images(BaseDataset):
    """Images that come one by one, read and scaled as test.py does."""

    def __init__(self, opt: Namespace, own: bool, trained_size: tuple[int, int] | None):
        """`own`: the run's own dataset makes the sample; `trained_size`: of a run whose images were resized to it."""
        super().__init__(opt)
        self.own, self.trained_size = own, trained_size

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise IndexError(index)

    def prepare(self, image: Any, name: str = "") -> Item:
        """Read, resize and scale an image as test.py does; raises ImageError.

        `name` is the file that it belongs to, unless the image says so itself.
        """
        source = self.source
        name, kind, unit = name or str(getattr(image, "filename", "") or ""), "picture", False
        if self.own:
            return self._by_dataset(image, name)
        if isinstance(image, (str, Path)):
            name = str(image)
            pixels = self.pixels(source, name)
        elif isinstance(image, Image.Image):
            pixels = self._of_pillow(image, name)
        else:
            array, unit = self._of_array(np.asarray(image))
            kind = f"{'flat ' if np.ndim(image) == 2 else ''}{'unit' if unit else 'array'}"
            pixels = with_holes(array, missing(array, self.how.missing), self.how.nodata)
        array = pixels.array if unit else self.in_range(source, pixels, name or SOME)
        self._warn_of_scale(array, name or SOME)
        array = self.resized(source, array)
        geometry = self.geometry(array, name)
        for maps in self.label_maps.values():
            maps.find_instances(self.opt.instances, [os.path.dirname(name)], [name or SOME])
        tensor = (EIGHT_BIT.to_tensor(geometry(array) * 255) if unit
                  else self.to_tensor(source, array, geometry, name or SOME))
        dtype = getattr(image, "dtype", None)
        return Item({"A": tensor, "A_paths": name}, kind, self.holes(pixels, name), dtype)

    def _of_pillow(self, image: Image.Image, name: str) -> Pixels:
        channels = self.channels[self.source]
        try:
            upright = ImageOps.exif_transpose(image)
            if self.source in self.label_maps:
                return Pixels(index_of(upright, name or SOME), None, None)
            array, own = from_pillow(upright, image.format, channels, name or SOME, self.how)
        except (OSError, SyntaxError) as error:  # Pillow reads it only now
            raise ImageError(name or SOME, f"can't be read: {one_line(error)}") from error
        array, own = as_picture(array), as_picture(own)
        holes = missing(own, self.how.missing)
        return with_holes(with_channels(array, channels, name or SOME), holes, self.how.nodata)

    def _of_array(self, array: np.ndarray) -> tuple[np.ndarray, bool]:
        """(H, W, C) in file values, and whether it was given as 0..1."""
        channels = 1 if self.source in self.label_maps else self.channels[self.source]
        try:
            array = as_picture(array)
        except ValueError as error:
            raise UsageError(f"an array {array.shape} of {array.dtype} is no image: {error}") from None
        if self.source in self.label_maps and array.dtype.kind == "f":
            raise UsageError(f"an array of {array.dtype} is no label map, which holds whole numbers")
        values = self.value_ranges[self.source]
        unit = array.dtype == np.float32 and values == EIGHT_BIT
        if unit and not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UsageError("a float array for a run of 8-bit images holds values from 0 to 1, and this one others; "
                             "scale it, or convert it to uint8")
        return with_channels(array, channels, "the array"), unit

    def _warn_of_scale(self, array: np.ndarray, name: str) -> None:
        """Say that an image is far larger than what the run was trained on, if those were made smaller."""
        height, width = array.shape[:2]
        if self.trained_size and width * height > 4 * math.prod(self.trained_size):
            notice("scale", f"{name} is {width}x{height}, and the run was trained on images resized to "
                            f"{self.trained_size[0]}x{self.trained_size[1]}; size 'trained' translates at that scale "
                            f"(further ones too)")

    def _by_dataset(self, image: Any, name: str) -> Item:
        """The sample that the run's own dataset makes of this image, alone in a folder."""
        if hasattr(self.opt, "mask") and not self.opt.masks:
            raise UsageError(f"run {self.opt.name} fills holes; masks (--masks) names a folder of images that are "
                             f"white there")
        kind = "array" if isinstance(image, np.ndarray) else "picture"
        with TemporaryDirectory() as folder:
            if isinstance(image, (str, Path)):
                name = str(image)
                os.symlink(Path(image).resolve(), Path(folder) / Path(image).name)
            else:
                picture = image if kind == "array" else np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
                save_exact(as_picture(picture), Path(folder) / "image.npy")
            opt = Namespace(**{**vars(self.opt), "dataroot": folder})
            with contextlib.redirect_stdout(io.StringIO()):
                sample = find_dataset_using_name(opt.dataset_mode)(opt)[0]
        return Item({**sample, "A_paths": name}, kind)


def finished(item: Item, translation: Translation) -> Any:
    """A translation as the kind of image that went in."""
    array = translation.to_array()
    if item.kind == "picture":
        return to_pillow(array)
    if "unit" in item.kind and torch.is_tensor(translation.value):
        array = UNIT.to_array(translation.value)
    if item.dtype is not None and item.dtype.kind == array.dtype.kind == "f":
        array = array.astype(item.dtype)
    return array[:, :, 0] if "flat" in item.kind and array.shape[2] == 1 else array


def to_pillow(array: np.ndarray) -> Any:
    """A Pillow image, or the array itself (H, W, C) if Pillow has no mode for it."""
    if array.shape[2] == 1:
        return Image.fromarray(array[:, :, 0])
    return Image.fromarray(array) if array.dtype == np.uint8 and array.shape[2] in (3, 4) else array
