"""Colour photographs of `train/` as lightness (A) and colour (B) in the Lab space."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.base_dataset import BaseDataset
from data.masks import Masks
from data.reading import read_pixels
from data.transforms import Geometry
from util.errors import ImageError, UsageError
from util.types import natural_or_word


class ColorizationDataset(BaseDataset):
    """A is L (1, H, W), B is ab (2, H, W), both scaled to [-1, 1]: L covers 0..100, ab -110..110."""

    paired = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(input_nc=1, output_nc=2)
        parser.add_argument("--points", type=natural_or_word, default=0, help="with --hints: how many points of the "
                            "true colours a test or validation shows; or a folder of your hints, laid out like the "
                            "data root: images that are transparent but for the points")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if (opt.input_nc, opt.output_nc, opt.direction) != (1, 2, "AtoB"):
            raise UsageError("colorization goes from --input_nc 1 to --output_nc 2 with --direction AtoB")
        self.channels["A"] = 3  # in the files
        below = (Path(opt.dataroot) / opt.phase).is_dir() or opt.isTrain
        self.paths = self.list_images(self.find_folders((opt.phase,))[0] if below else opt.dataroot)
        self.find_known(self.paths)
        self.given = isinstance(opt.points, str)
        self.points = Masks(opt.points, [opt.dataroot], self.paths, "--points").files if self.given else {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        image, = self.cached(self.read_resized, "A", path, paths=(path,))
        if image.dtype != np.uint8:
            raise ImageError(path, f"is {image.dtype}; colorization reads 8-bit photographs")
        geometry = self.geometry(image, path)
        lightness, chroma = in_lab(geometry(image))
        hints = {"A_hints": self.hints(path, geometry)} if self.given else {}
        return {"A": lightness, "B": chroma, "A_paths": path, "B_paths": path, **hints,
                **self.known("A", path, geometry)}

    def hints(self, path: str, geometry: Geometry) -> torch.Tensor:
        """(3, H, W): the chroma of the points of an image, 0 elsewhere, and 1 where they are; raises ImageError."""
        file = self.points.get(path)
        picture = np.zeros((1, 1, 4), np.uint8) if file is None else read_pixels(file, 4, self.how).array
        if picture[:, :, 3].min() > 127:
            raise ImageError(str(file), "is opaque; hints are transparent except for their points")
        picture = geometry(picture, Image.Resampling.NEAREST)
        there = torch.from_numpy(picture[:, :, 3] > 127)[None].float()
        return torch.cat((in_lab(picture[:, :, :3])[1] * there, there))


def in_lab(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, W, 3) uint8 -> L (1, H, W) and ab (2, H, W), in [-1, 1]."""
    from skimage.color import rgb2lab

    lab = torch.from_numpy(rgb2lab(image).astype(np.float32)).permute(2, 0, 1)
    return lab[:1] / 50 - 1, lab[1:] / 110
