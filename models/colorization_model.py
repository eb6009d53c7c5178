"""Colorization: pix2pix from lightness to colour in the Lab space (Zhang et al. 2016), also with hints of a user."""

import warnings
from argparse import ArgumentParser
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.pix2pix_model import Pix2PixModel
from networks.colour_classes import CLASSES, Colouring, class_loss, decoded
from networks.holes import points
from util.errors import UsageError
from util.types import natural, not_negative


class ColorizationModel(Pix2PixModel):
    """real_A is L (N, 1, H, W), real_B is ab (N, 2, H, W), both scaled to [-1, 1].

    With --hints, G also sees the colours of a few points (Zhang et al. 2017); with --chroma classes it answers with the
    probabilities of colours.
    """

    one_sided = False  # what enters and leaves are parts of a Lab image
    capturable = True
    hints: Tensor | None  # (N, 3, H, W): the chroma of the points, 0 elsewhere, and where they are

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        Pix2PixModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(dataset_mode="colorization", input_nc=1, output_nc=2)
        parser.add_argument("--hints", type=natural, default=0, help="show the generator the true colours of at most "
                                                                     "this many points; 0: none")
        parser.add_argument("--chroma", choices=("l1", "classes"), default="l1", help="what the colours are compared "
                                                                                      "by")
        if is_train:
            parser.add_argument("--lambda_classes", type=not_negative, default=5.0, help="weight of --chroma classes")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if getattr(opt, "points", 0) and not opt.hints:
            raise UsageError(f"--points {opt.points} is for runs trained with --hints, and this one sees none")
        self.visual_names = ["real_A", *(["hinted_A"] if opt.hints else []), "real_B_rgb", "fake_B_rgb"]

    def generator(self) -> nn.Module:
        opt = self.opt
        return self.make_G(opt.input_nc + (3 if opt.hints else 0),
                           CLASSES if opt.chroma == "classes" else opt.output_nc)

    def set_input(self, batch: dict[str, Any]) -> None:
        super().set_input(batch)
        self.hints = batch["A_hints"].to(self.device) if "A_hints" in batch else None

    def forward(self) -> None:
        given = self.real_A
        if self.opt.hints:
            if self.hints is None or self.isTrain:
                places = points(self.opt.hints if self.isTrain else self.opt.points, not self.isTrain, self.uniform,
                                self.real_A)
                self.hints = torch.cat((places * self.real_B, places), 1)
            given = torch.cat((self.real_A, self.hints), 1)
        self.output = self.netG(given)
        self.fake_B = decoded(self.output) if self.opt.chroma == "classes" else self.output

    def exported(self, net: nn.Module) -> nn.Module:
        return Colouring(net, 4 if self.opt.hints else 1, self.opt.chroma == "classes")

    def distance(self, target: Tensor) -> dict[str, Tensor]:
        if self.opt.chroma == "classes":
            return {"G_classes": self.opt.lambda_classes * class_loss(self.output, target)}
        return super().distance(target)

    def compute_visuals(self) -> None:
        self.real_B_rgb = lab_to_rgb(self.real_A, self.real_B)
        self.fake_B_rgb = lab_to_rgb(self.real_A, self.fake_B)
        if self.hints is not None:
            self.hinted_A = lab_to_rgb(self.real_A, self.hints[:, :2])

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
