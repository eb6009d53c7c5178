"""Super-resolution: SRGAN (Ledig et al. 2017) and ESRGAN (Wang et al. 2018)."""

from argparse import ArgumentParser
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from models.base_model import BaseModel, frozen
from util.errors import UsageError
from util.types import not_negative


class SuperResolutionModel(BaseModel):
    """B is --scale times as large as A. Loss of G: lambda_L1 |G(A) - B| + lambda_GAN times the adversarial loss.

    It is trained in two stages: for a small error, without a discriminator; then, from those weights (--init_from),
    for sharp pictures, with --lambda_GAN.
    """

    one_sided = False  # the generator is made for a scale
    needs, capturable = "pairs", True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="super_resolution", netG="srresnet", preprocess="crop" if is_train else "none",
                            crop_size=128, no_dropout=True, batch_size=16 if is_train else None)
        parser.add_argument("--scale", type=int, choices=(2, 4, 8), default=4, help="how much larger B is")
        if is_train:
            parser.set_defaults(gan_mode="relativistic", beta1=0.9)
            parser.add_argument("--lambda_L1", type=not_negative, default=1.0, help="weight of the reconstruction loss")
            parser.add_argument("--lambda_GAN", type=not_negative, default=0.0, help="weight of the adversarial loss; "
                                "0: no discriminator")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if opt.input_nc != opt.output_nc:
            raise UsageError(f"a larger image has the channels of the small one, so --input_nc {opt.input_nc} and "
                             f"--output_nc {opt.output_nc} must be equal")
        self.visual_names = ["real_A", "bicubic_B", "fake_B", "real_B"]
        self.netG = self.make_G(opt.input_nc, opt.output_nc, scale=opt.scale)
        if self.isTrain:
            self.criterionL1 = self.make_distance()
            self.adam("G", self.netG)
            if opt.lambda_GAN:
                self.netD = self.make_D(opt.output_nc)
                self.criterionGAN = self.make_GAN_loss()
                self.adam("D", self.netD)

    def forward(self) -> None:
        self.fake_B = self.netG(self.real_A)

    def compute_visuals(self) -> None:
        self.bicubic_B = F.interpolate(self.real_A, scale_factor=self.opt.scale, mode="bicubic", antialias=True)

    def optimize_parameters(self) -> None:
        self.forward()
        judges = [self.netD] if self.opt.lambda_GAN else []
        for netD in judges:
            self.minimize("D", self.discriminate(netD, self.real_B, self.fake_B))
        if self.due(self.opt.n_critic):
            with frozen(*judges):
                self.minimize("G", self.generator_loss())

    def generator_loss(self) -> Tensor:
        """Stay near the truth, and with --lambda_GAN fool D."""
        terms = {"G_L1": self.opt.lambda_L1 * self.criterionL1(self.fake_B, self.real_B)}
        if self.opt.lambda_GAN:
            fooled = self.criterionGAN.generator(self.netD, self.fake_B, self.real_B, "G_GAN", paired=True)
            terms |= {name: self.opt.lambda_GAN * loss for name, loss in fooled.items()}
        return self.record(**terms)

    def translations(self) -> dict[str, tuple[Any, Any]]:
        """Bicubic interpolation is scored beside the translation."""
        found = super().translations()
        return found | {"bicubic_B": (self.bicubic_B, found["fake_B"][1])} if "fake_B" in found else found
