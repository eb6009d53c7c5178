"""What every dataset plugin shares; docs/dataset_plugin.md says how to write one."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from data.image_folder import contents, list_images
from data.loading.cache import PixelCache, key_of
from data.loading.workers import reads
from data.pillow_transform import get_params, get_transform
from data.reading import read_image
from data.transforms import Geometry, draw_geometry, resize, resized_size
from util.errors import ImageError, UsageError
from util.images import ValueRange
from util.notices import notice, tell
from util.seed import derive

__all__ = ["BaseDataset", "get_params", "get_transform"]

SCANNED = 500  # images read to find the range of a 16-bit or float domain


class BaseDataset(Dataset, ABC):
    """A dataset lists its files in the constructor and reads one sample at a time.

    A sample is {"A": (C, H, W) float32 in [-1, 1], "A_paths": str}, with "B" and "B_paths" if there is a B.
    """

    paired = False                   # whether A and B of a sample show the same scene
    cache: PixelCache | None = None  # set by the loader if the dataset is read more than once

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        """Add the dataset's options, change defaults with `parser.set_defaults`, and return the parser."""
        return parser

    def __init__(self, opt):
        self.opt = opt
        self.root = opt.dataroot
        self.roots: list[str] = []       # the folders listed: results mirror them
        self.source, target = ("A", "B") if opt.direction == "AtoB" else ("B", "A")
        self.channels = {self.source: opt.input_nc, target: opt.output_nc}
        self.value_ranges = {d: ValueRange.parse(getattr(opt, f"depth_{d}"), getattr(opt, f"range_{d}")) for d in "AB"}

    @abstractmethod
    def __len__(self) -> int:
        """How many samples an epoch has."""

    @abstractmethod
    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one sample; random choices may use `random`, NumPy or torch, which are seeded for it."""

    def list_images(self, folder: str | Path) -> list[str]:
        """The images below a folder, sorted, their number logged; with --val_split one part of them.

        Raises UsageError if there are none.
        """
        paths = list_images(folder)
        self.roots.append(str(folder))
        part = ""
        if share := getattr(self.opt, "val_split", 0):
            held_out = not self.opt.isTrain
            paths = split(paths, folder, share, held_out)
            part = ", held out" if held_out else f", {share:.0%} held out"
        tell(f"{len(paths)} images in {folder}{part}")
        return paths

    def find_folders(self, *layouts: tuple[str, ...]) -> list[Path]:
        """The first layout of which all folders exist below the data root, e.g. ("trainA", "trainB").

        Raises UsageError that says what was looked for and what exists.
        """
        for layout in layouts:
            folders = [Path(self.root) / name for name in layout]
            if all(folder.is_dir() for folder in folders):
                return folders
        wanted = ", or ".join(" + ".join(f"{name}/" for name in layout) for layout in layouts)
        raise UsageError(f"--dataroot {self.root} --phase {self.opt.phase} needs {wanted}; {contents(self.root)}")

    def detect_value_range(self, domain: str, paths: list[str]) -> None:
        """Find depth and range of a domain from its files, unless given, and put them into opt, for the record."""
        depth, limits = getattr(self.opt, f"depth_{domain}"), getattr(self.opt, f"range_{domain}")
        if "auto" not in (depth, limits):
            return
        if depth == "auto":
            depth = self._first_depth(domain, paths)
        if limits == "auto" and depth != "uint8":
            limits = self._observed_range(domain, paths[::max(1, len(paths) // SCANNED)], depth)
        self.value_ranges[domain] = values = ValueRange.parse(depth, limits)
        setattr(self.opt, f"depth_{domain}", values.depth)
        setattr(self.opt, f"range_{domain}", values.limits)
        if depth != "uint8":
            tell(f"domain {domain} is {depth}: {values.limits} becomes -1..1 (--range_{domain} changes that)")

    def _first_depth(self, domain: str, paths: list[str]) -> str:
        for path in paths:
            try:
                return str(self.read(domain, path).dtype)
            except ImageError:
                continue  # reported when it is read
        return "uint8"

    def _observed_range(self, domain: str, paths: list[str], depth: str) -> str:
        lows, highs = [], []
        for path in paths:
            try:
                image = self.read(domain, path)
            except ImageError:
                continue
            finite = image[np.isfinite(image)]
            if image.dtype == depth and finite.size:
                lows.append(float(finite.min()))
                highs.append(float(finite.max()))
        low, high = min(lows, default=0.0), max(highs, default=1.0)
        return f"{low!r}:{max(high, low + 1e-6 if depth == 'float32' else low + 1)!r}"

    def load(self, domain: str, path: str) -> torch.Tensor:
        """Read, resize, crop, flip and scale one image: (C, H, W) in [-1, 1]; raises ImageError."""
        image, = self.cached(self.read_resized, domain, path, paths=(path,))
        return self.to_tensor(domain, image, self.geometry(image, path), path)

    def read_resized(self, domain: str, path: str) -> list[np.ndarray]:
        """[(H, W, C)] as --preprocess resizes it; raises ImageError."""
        return [self.resized(self.read(domain, path))]

    def resized(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) -> (H', W', C) as --preprocess resizes it, which is not random."""
        return resize(image, resized_size(self.opt, image.shape[1::-1]))

    def cached(self, read: Callable[..., list[np.ndarray]], *arguments: Any, paths: Iterable[str]) -> list[np.ndarray]:
        """`read(*arguments)`, arrays (H, W, C), kept until one of the files at `paths` changes."""
        if self.cache is None:
            return read(*arguments)
        try:
            key = key_of(read.__name__, *arguments, paths=paths)
        except OSError:  # the reader reports the problem
            return read(*arguments)
        arrays = self.cache.get(key)
        if arrays is None:
            arrays = read(*arguments)
            self.cache.put(key, arrays)
        return arrays

    def read(self, domain: str, path: str) -> np.ndarray:
        """(H, W, C) with the domain's channels; raises ImageError."""
        reads(path)
        return read_image(path, self.channels[domain])

    def geometry(self, image: np.ndarray, path: str) -> Geometry:
        """Draw resize, crop and flip for an (H, W, C) image and its partner."""
        try:
            return draw_geometry(self.opt, image.shape[1::-1])
        except UsageError as error:
            raise ImageError(path, str(error)) from error

    def to_tensor(self, domain: str, image: np.ndarray, geometry: Geometry, path: str) -> torch.Tensor:
        """(H, W, C) in file values -> (C, H', W') in [-1, 1]; raises ImageError if the depth is not the domain's."""
        values = self.value_ranges[domain]
        if str(image.dtype) != values.depth:
            raise ImageError(path, f"is {image.dtype} while domain {domain} is {values.depth}; convert it, or give "
                                   f"--depth_{domain} and --range_{domain}")
        if image.dtype == np.float32 and not np.isfinite(image).all():
            notice("not finite", f"{path} has pixels without a value (NaN or infinite); they become {values.low:g}, "
                                 f"the lowest of domain {domain} (further ones too)")
            image = np.where(np.isfinite(image), image, np.float32(values.low))
        return values.to_tensor(geometry(image))


def split(paths: list[str], folder: str | Path, share: float, held_out: bool) -> list[str]:
    """The share of the images that is held out from training, or the rest; by name, so that partners stay together.

    Raises UsageError if nothing would be left.
    """
    order = sorted(paths, key=lambda path: derive(Path(path).relative_to(folder).with_suffix("")))
    cut = max(1, round(share * len(paths)))
    if cut >= len(paths):
        raise UsageError(f"--val_split {share} of the {len(paths)} images in {folder} leaves none to train on")
    part = set(order[:cut]) if held_out else set(order[cut:])
    return [path for path in paths if path in part]
