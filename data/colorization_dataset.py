"""Colour photographs of `train/` as lightness (A) and colour (B) in the Lab space."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.base_dataset import BaseDataset
from util.errors import ImageError, UsageError


class ColorizationDataset(BaseDataset):
    """A is L (1, H, W), B is ab (2, H, W), both scaled to [-1, 1]: L covers 0..100, ab -110..110."""

    paired = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(input_nc=1, output_nc=2)
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if (opt.input_nc, opt.output_nc, opt.direction) != (1, 2, "AtoB"):
            raise UsageError("colorization goes from --input_nc 1 to --output_nc 2 with --direction AtoB")
        self.channels["A"] = 3  # in the files
        below = (Path(opt.dataroot) / opt.phase).is_dir() or opt.isTrain
        self.paths = self.list_images(self.find_folders((opt.phase,))[0] if below else opt.dataroot)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from skimage.color import rgb2lab

        path = self.paths[index]
        image, = self.cached(self.read_resized, "A", path, paths=(path,))
        if image.dtype != np.uint8:
            raise ImageError(path, f"is {image.dtype}; colorization reads 8-bit photographs")
        lab = torch.from_numpy(rgb2lab(self.geometry(image, path)(image)).astype(np.float32)).permute(2, 0, 1)
        return {"A": lab[:1] / 50 - 1, "B": lab[1:] / 110, "A_paths": path, "B_paths": path}
