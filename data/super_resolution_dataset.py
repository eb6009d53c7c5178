"""Photographs of `train/` and themselves made smaller, or pairs: `trainA` + `trainB` or `A/train` + `B/train`."""

from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np

from data.aligned_dataset import pair_by_stem
from data.base_dataset import BaseDataset
from data.degradation import Degradation
from data.transforms import Geometry, draw_geometry, width_height
from util.errors import ImageError, UsageError
from util.images import ValueRange
from util.types import natural, not_negative


class SuperResolutionDataset(BaseDataset):
    """B is --scale times as large as A."""

    paired = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.add_argument("--blur", type=not_negative, default=0, help="largest sigma of a blur before photographs "
                                                                         "are made smaller")
        parser.add_argument("--noise", type=not_negative, default=0, help="largest standard deviation of noise in the "
                                                                          "small images, in 1/255 of their range")
        parser.add_argument("--jpeg", type=natural, default=0, help="lowest quality, 1 to 95, at which the small "
                                                                    "images are stored as JPEG; 0: they are not")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.scale = getattr(opt, "scale", 0)
        self.check()
        self.degrade = Degradation(self.scale, opt.blur, opt.noise, opt.jpeg)
        phase = opt.phase
        folders = self.find_folders((phase,), (f"{phase}A", f"{phase}B"), (f"A/{phase}", f"B/{phase}"))
        lists = [self.list_images(folder) for folder in folders]
        self.made = len(folders) == 1
        self.pairs = [(path, path) for path in lists[0]] if self.made else pair_by_stem(
            *([folder, *self.counterparts(folder)] for folder in folders), *lists)
        self.detect_value_range("B", [path for _, path in self.pairs])
        opt.depth_A, opt.range_A = opt.depth_B, opt.range_B
        self.value_ranges["A"] = ValueRange.parse(opt.depth_A, opt.range_A)
        self.find_known([path for path, _ in self.pairs])

    def check(self) -> None:
        """Raise UsageError for options that contradict each other."""
        opt = self.opt
        if not self.scale:
            raise UsageError(f"--dataset_mode super_resolution is for --model super_resolution; --model {opt.model} "
                             f"has no --scale")
        if opt.label_nc:
            raise UsageError("--label_nc is for models that translate label maps, and super_resolution enlarges images")
        if opt.direction != "AtoB":
            raise UsageError("super-resolution goes from A, small, to B, large: --direction AtoB")
        if opt.jpeg > 95:
            raise UsageError(f"--jpeg {opt.jpeg} is no quality from 1 to 95")
        if opt.isTrain and "crop" in opt.preprocess and any(side % self.scale for side in width_height(opt.crop_size)):
            raise UsageError(f"--crop_size {opt.crop_size} is no multiple of --scale {self.scale}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path_A, path_B = self.pairs[index]
        images = self.cached(self.read_pair, path_A, path_B, paths={path_A, path_B})
        small = self.small_geometry(images[-1], path_B)
        image_B = self.times_scale(small)(images[-1])
        image_A = self.degrade(image_B) if self.made else small(images[0])
        as_read = Geometry(image_A.shape[1::-1], None, False)
        return {"A": self.to_tensor("A", image_A, as_read, path_A), "A_paths": path_A,
                "B": self.to_tensor("B", image_B, Geometry(image_B.shape[1::-1], None, False), path_B),
                "B_paths": path_B, **self.known("A", path_A, small)}

    def read_pair(self, path_A: str, path_B: str) -> list[np.ndarray]:
        """The photograph (H, W, C) as --preprocess resizes it, or both of a pair; raises ImageError."""
        if self.made:
            image = self.resized("B", self.read("B", path_B))
            height, width = (side - side % self.scale for side in image.shape[:2])
            if not height or not width:
                raise ImageError(path_B, f"has fewer than {self.scale} pixels on a side, so it can't be made smaller")
            return [image[:height, :width]]
        if "resize" in self.opt.preprocess or "scale" in self.opt.preprocess:
            raise UsageError(f"--preprocess {self.opt.preprocess} would resize given pairs; use crop or none")
        small, large = self.read("A", path_A), self.read("B", path_B)
        if any(self.scale * a != b for a, b in zip(small.shape[:2], large.shape[:2], strict=True)):
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (small, large)]
            raise ImageError(path_B, f"is {sizes[1]}, not --scale {self.scale} times its partner {path_A}, {sizes[0]}")
        return [small, large]

    def small_geometry(self, large: np.ndarray, path: str) -> Geometry:
        """The crop and flip drawn for A, given B (H, W, C); raises ImageError."""
        width, height = (side // self.scale for side in large.shape[1::-1])
        crop = tuple(max(1, side // self.scale) for side in width_height(self.opt.crop_size))
        cut = "crop" if "crop" in self.opt.preprocess else "none"
        try:
            return draw_geometry(Namespace(**{**vars(self.opt), "crop_size": crop, "preprocess": cut}), (width, height))
        except UsageError as error:
            raise ImageError(path, f"is smaller than --crop_size {self.opt.crop_size}: 1 / --scale of it is "
                                   f"{width}x{height}") from error

    def times_scale(self, small: Geometry) -> Geometry:
        """What happens to B if this happens to A."""
        crop = small.crop and tuple(self.scale * number for number in small.crop)
        return Geometry((small.resize[0] * self.scale, small.resize[1] * self.scale), crop, small.flip)
