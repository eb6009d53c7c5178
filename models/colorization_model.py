"""Colorization: pix2pix from lightness to colour in the Lab space (Zhang et al. 2016)."""

import warnings
from argparse import ArgumentParser

import numpy as np
import torch
from torch import Tensor

from models.pix2pix_model import Pix2PixModel


class ColorizationModel(Pix2PixModel):
    """real_A is L (N, 1, H, W), real_B is ab (N, 2, H, W), both scaled to [-1, 1]."""

    one_sided = False  # what enters and leaves are parts of a Lab image
    capturable = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        Pix2PixModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(dataset_mode="colorization", input_nc=1, output_nc=2)
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "real_B_rgb", "fake_B_rgb"]

    def compute_visuals(self) -> None:
        self.real_B_rgb = lab_to_rgb(self.real_A, self.real_B)
        self.fake_B_rgb = lab_to_rgb(self.real_A, self.fake_B)

    def visual_domain(self, name: str) -> str:
        return "A"  # all of them are ordinary pictures


def lab_to_rgb(lightness: Tensor, ab: Tensor) -> Tensor:
    """(N, 1, H, W) and (N, 2, H, W) in [-1, 1] -> (N, 3, H, W) RGB in [-1, 1]; L covers 0..100, ab -110..110."""
    from skimage.color import lab2rgb

    lab = torch.cat(((lightness + 1) * 50, ab * 110), 1).detach().float().cpu()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # a network's colours need not exist
        rgb = np.stack([lab2rgb(image) for image in lab.permute(0, 2, 3, 1).double().numpy()])
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float() * 2 - 1
