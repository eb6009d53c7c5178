"""What every dataset plugin shares; docs/dataset_plugin.md says how to write one."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from data.film import with_frames
from data.image_folder import contents, list_images
from data.label_maps import LabelMaps
from data.labels import Labels, find_labels
from data.loading.cache import PixelCache, key_of
from data.loading.workers import reads
from data.masks import Masks
from data.pillow_transform import get_params, get_transform
from data.reading import Pixels, Reading, read_index, read_pixels
from data.transforms import Geometry, draw_geometry, resize, resized_size
from data.value_ranges import found_range
from util.errors import ImageError, UsageError
from util.frames import file_of
from util.images import EIGHT_BIT, ValueRange
from util.notices import notice, tell
from util.seed import derive

__all__ = ["BaseDataset", "get_params", "get_transform"]


class BaseDataset(Dataset, ABC):
    """A dataset lists its files in the constructor and reads one sample at a time.

    A sample is {"A": (C, H, W) float32 in [-1, 1], "A_paths": str}, with "B" and "B_paths" if there is a B.
    """

    paired: bool | None = None       # whether A and B of a sample show the same scene; None: it does not say
    has_B: bool | None = None        # whether there is a B
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
        self.labels: Labels | None = None
        self.masks: Masks | None = None
        self.how = Reading(opt.max_megapixels, opt.keep_profile, opt.nodata)
        maps = LabelMaps(opt.label_nc, opt.input_nc > opt.label_nc, self.how)
        self.label_maps = {self.source: maps} if opt.label_nc else {}
        self.value_ranges = {d: ValueRange.parse(getattr(opt, f"depth_{d}"), getattr(opt, f"range_{d}")) for d in "AB"}

    @abstractmethod
    def __len__(self) -> int:
        """How many samples an epoch has."""

    @abstractmethod
    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one sample; random choices may use `random`, NumPy or torch, which are seeded for it."""

    def list_images(self, folder: str | Path) -> list[str]:
        """The images below a folder and its counterparts in --more_data, sorted in each, their number logged.

        With --val_split one part of them. Raises UsageError if there are none.
        """
        found, part = [], ""
        for place in (Path(folder), *self.counterparts(folder)):
            paths = list_images(place, videos=True)
            self.roots.append(str(place))
            if share := getattr(self.opt, "val_split", 0):
                held_out = not self.opt.isTrain
                paths = split(paths, place, share, held_out)
                part = ", held out" if held_out else f", {share:.0%} held out"
            found += self.with_frames(paths, f"in {place}{part}")
        return found

    def counterparts(self, folder: str | Path) -> list[Path]:
        """What corresponds to a folder of --dataroot in the data roots of --more_data that have it."""
        if not Path(folder).is_relative_to(self.root):
            return []
        below = Path(folder).relative_to(self.root)
        return [Path(root) / below for root in getattr(self.opt, "more_data", ()) if (Path(root) / below).is_dir()]

    def with_frames(self, paths: list[str], where: str) -> list[str]:
        """The images, with the frames of animations and videos in the place of their files, their number logged."""
        step = getattr(self.opt, "frame_step", 1)
        found = list(with_frames(paths, step))
        films = len({*paths} - {*found})
        of_films = f", frames of {films} videos and animations among them" if films else ""
        tell(f"{len(found)} images {where}{of_films}")
        return found

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
        if domain in self.label_maps:
            setattr(self.opt, f"depth_{domain}", "uint8")
            setattr(self.opt, f"range_{domain}", EIGHT_BIT.limits)
        depth, limits = getattr(self.opt, f"depth_{domain}"), getattr(self.opt, f"range_{domain}")
        if "auto" not in (depth, limits) and "%" not in limits:
            return
        self.value_ranges[domain] = values = found_range(lambda path: self.pixels(domain, path), paths, depth, limits)
        setattr(self.opt, f"depth_{domain}", values.depth)
        setattr(self.opt, f"range_{domain}", values.limits)
        if values.depth != "uint8":
            tell(f"domain {domain} is {values.depth}: {values.limits} becomes -1..1 (--range_{domain} changes that)")

    def find_known(self, paths: list[str]) -> None:
        """Find masks, labels and instances of the images at `paths`, and check --more_data; raises UsageError."""
        opt, roots = self.opt, [self.root, *self.opt.more_data]
        check_more_data(self.root, opt.more_data, self.roots)
        for maps in self.label_maps.values():
            maps.find_instances(opt.instances, roots, paths)
        if opt.masks:
            self.masks = Masks(opt.masks, roots, paths, every=hasattr(opt, "mask"))  # which draws holes
        if opt.labels:
            self.labels = find_labels(opt, paths, self.roots)

    def sample(self, domain: str, path: str, key: str = "") -> dict[str, Any]:
        """{"A": image, "A_paths": path} of a domain, and what `known` adds; raises ImageError."""
        key = key or domain
        image, geometry = self._image_and_geometry(domain, path)
        return {key: self.to_tensor(domain, image, geometry, path), f"{key}_paths": path,
                **self.known(key, path, geometry)}

    def known(self, key: str, path: str, geometry: Geometry) -> dict[str, torch.Tensor]:
        """"A_label" (attributes,) if there are labels, and "A_mask" (1, H, W) of 0 and 1 if there are masks."""
        found = {f"{key}_label": self.labels.of(path)} if self.labels else {}
        if self.masks:
            mask, = self.cached(self.read_mask, path, paths=(self.masks.files.get(path, path),))
            mask = geometry(mask, Image.Resampling.NEAREST)
            found[f"{key}_mask"] = torch.from_numpy(np.ascontiguousarray(mask[:, :, 0] > 127))[None].float()
        return found

    def read_mask(self, path: str) -> list[np.ndarray]:
        """[(H, W, 1)], uint8, in the size of the file; a single 255 if the image has no mask; raises ImageError."""
        file = self.masks.files.get(path) if self.masks else None
        mask = np.full((1, 1, 1), 255, np.uint8) if file is None else read_pixels(file, 1, self.how).array
        return [mask if mask.dtype == np.uint8 else (mask > 0).astype(np.uint8) * 255]

    def load(self, domain: str, path: str) -> torch.Tensor:
        """Read, resize, crop, flip and scale one image: (C, H, W) in [-1, 1]; raises ImageError."""
        image, geometry = self._image_and_geometry(domain, path)
        return self.to_tensor(domain, image, geometry, path)

    def _image_and_geometry(self, domain: str, path: str) -> tuple[np.ndarray, Geometry]:
        """An image (H, W, C) as --preprocess resizes it, and the crop and flip drawn for it; raises ImageError."""
        image, = self.cached(self.read_resized, domain, path, paths=(path,))
        return image, self.geometry(image, path)

    def read_resized(self, domain: str, path: str) -> list[np.ndarray]:
        """[(H, W, C)] as --preprocess resizes it; raises ImageError."""
        return [self.resized(domain, self.read(domain, path))]

    def resized(self, domain: str, image: np.ndarray) -> np.ndarray:
        """(H, W, C) -> (H', W', C) as --preprocess resizes it, which is not random."""
        method = Image.Resampling.NEAREST if domain in self.label_maps else Image.Resampling.BICUBIC
        return resize(image, resized_size(self.opt, image.shape[1::-1]), method)

    def cached(self, read: Callable[..., list[np.ndarray]], *arguments: Any, paths: Iterable[str]) -> list[np.ndarray]:
        """`read(*arguments)`, arrays (H, W, C), kept until one of the files at `paths` changes."""
        if self.cache is None:
            return read(*arguments)
        try:
            key = key_of(read.__name__, *arguments, paths=map(file_of, paths))
        except OSError:  # the reader reports the problem
            return read(*arguments)
        arrays = self.cache.get(key)
        if arrays is None:
            arrays = read(*arguments)
            self.cache.put(key, arrays)
        return arrays

    def pixels(self, domain: str, path: str) -> Pixels:
        """A file with the domain's channels, its values unchanged, and its missing data; raises ImageError."""
        if domain in self.label_maps:
            return Pixels(read_index(path, self.how), None, None)
        return read_pixels(path, self.channels[domain], self.how)

    def read(self, domain: str, path: str) -> np.ndarray:
        """(H, W, C) with the domain's channels; raises ImageError."""
        reads(path)
        return self.in_range(domain, self.pixels(domain, path), path)

    def in_range(self, domain: str, pixels: Pixels, path: str) -> np.ndarray:
        """(H, W, C) with missing data set to the lowest value, and values outside the domain's range clipped."""
        array, holes, _ = pixels
        values = self.value_ranges[domain]
        if holes is not None:
            notice("no data", f"{path} has pixels without data; they become {values.low:g}, the lowest value of domain "
                              f"{domain} (further ones too)")
            array = np.where(holes, array.dtype.type(values.low), array)
        if str(array.dtype) == values.depth and values != EIGHT_BIT and (
                array.min() < values.low or array.max() > values.high):
            notice(f"clipped {domain}", f"{path} has values from {array.min():g} to {array.max():g}, clipped to "
                                        f"{values.limits} (further ones too); --range_{domain} changes that")
            array = array.clip(values.low, values.high).astype(array.dtype)
        return array

    def no_data(self, path: str) -> tuple[np.ndarray, float] | None:
        """The mask (H, W) of missing data after test geometry, and the value that marks it; None if none is missing."""
        return self.holes(self.pixels(self.source, path), path)

    def holes(self, pixels: Pixels, path: str) -> tuple[np.ndarray, float] | None:
        """The same for a source image that has been read."""
        _, holes, value = pixels
        if holes is None or value is None:
            return None
        whole: Any = holes.any(2, keepdims=True).astype(np.uint8)
        spots = self.source_part(whole)
        return self.geometry(spots, path)(spots, Image.Resampling.NEAREST)[:, :, 0] > 0, value

    def source_part(self, array: np.ndarray) -> np.ndarray:
        """The source image in an array of a file (H, W, C): all of it, unless the file holds a pair."""
        return array

    def geometry(self, image: np.ndarray, path: str) -> Geometry:
        """Draw resize, crop and flip for an (H, W, C) image and its partner."""
        try:
            return draw_geometry(self.opt, image.shape[1::-1])
        except UsageError as error:
            raise ImageError(path, str(error)) from error

    def to_tensor(self, domain: str, image: np.ndarray, geometry: Geometry, path: str) -> torch.Tensor:
        """(H, W, C) in file values -> (C, H', W') in [-1, 1]; raises ImageError if the depth is not the domain's."""
        if domain in self.label_maps:
            return self.label_maps[domain].to_tensor(image, geometry, path)
        values = self.value_ranges[domain]
        if str(image.dtype) != values.depth:
            raise ImageError(path, f"is {image.dtype} while domain {domain} is {values.depth}; convert it, or give "
                                   f"--depth_{domain} and --range_{domain}")
        return values.to_tensor(geometry(image))


def check_more_data(dataroot: str | Path, more_data: list[str], listed: list[str]) -> None:
    """Raise UsageError for a folder of --more_data that is there twice, or has none of the folders listed."""
    roots = [Path(root).resolve() for root in (dataroot, *more_data)]
    if len({*roots}) < len(roots):
        raise UsageError(f"--more_data {','.join(more_data)} names a folder twice, or that of --dataroot")
    for root in more_data:
        if not any(Path(place).is_relative_to(root) for place in listed):
            raise UsageError(f"--more_data {root} has no folder like those of --dataroot {dataroot} "
                             f"({', '.join(listed)}); {contents(root)}")


def split(paths: list[str], folder: str | Path, share: float, held_out: bool) -> list[str]:
    """The share of the images that is held out from training, or the rest; by name, so that partners stay together.

    Raises UsageError if nothing would be left.
    """
    order = sorted(paths, key=lambda path: derive(Path(path).relative_to(folder).with_suffix("")))
    cut = max(1, round(share * len(paths)))
    if cut >= len(paths):
        raise UsageError(f"--val_split {share} of the {len(paths)} images in {folder}, where a video counts as one, "
                         f"leaves none to train on; use a folder of its own for the validation")
    part = set(order[:cut]) if held_out else set(order[cut:])
    return [path for path in paths if path in part]
