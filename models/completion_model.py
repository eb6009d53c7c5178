"""Completion of images with holes: by pix2pix, or by a context-conditional GAN (Denton et al. 2016)."""

from argparse import ArgumentParser
from typing import Any

import torch
from torch import Tensor, nn

from models.base_model import BaseModel, frozen
from networks.holes import HOLES, Completing, entering, hole
from networks.masking import inside, within
from util.errors import UsageError
from util.types import not_negative


class CompletionModel(BaseModel):
    """G fills a hole; the rest of the image is the input's. D judges the completed image.

    --objective pix2pix: adversarial, D sees the input too, + lambda_L1 |G - x| in the hole. --objective ccgan:
    adversarial alone; G sees the whole image at a quarter of its resolution, and D the completed image only.
    """

    hole: Any           # (N, 1, H, W), 1 inside
    one_sided = False  # the generator's input has channels for the hole
    capturable = takes_masks = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="single", norm="batch", netG="unet_256", no_dropout=True)
        parser.add_argument("--mask", choices=list(HOLES), default="random_box", help="the hole of an image, unless "
                            "--masks has it")
        parser.add_argument("--objective", choices=("pix2pix", "ccgan"), default="pix2pix", help="what G minimises")
        if is_train:
            parser.set_defaults(gan_mode="vanilla")
            parser.add_argument("--lambda_L1", type=not_negative, default=100.0, help="weight of the L1 in the hole")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if opt.input_nc != opt.output_nc:
            raise UsageError(f"a completed image has the channels of its input, so --input_nc {opt.input_nc} and "
                             f"--output_nc {opt.output_nc} must be equal")
        self.paired = opt.objective == "pix2pix"
        self.visual_names = ["real_A", "hidden_A", "fake_A"]
        channels = opt.input_nc
        self.netG = self.make_G(channels + 1 + (0 if self.paired else channels), channels)
        if self.isTrain:
            self.netD = self.make_D(2 * channels + 1 if self.paired else channels)
            self.criterionGAN = self.make_GAN_loss()
            self.criterionL1 = self.make_distance()
            self.adam("G", self.netG)
            self.adam("D", self.netD)

    def set_input(self, batch: dict[str, Any]) -> None:
        super().set_input(batch)
        self.hole = self.mask_A

    def forward(self) -> None:
        if self.mask_A is None and (self.isTrain or self.hole is None):  # in a test, all samples of an image have one
            self.hole = hole(self.opt.mask, self.uniform, self.real_A)
        self.hidden_A = self.real_A * (1 - self.hole)
        found = self.netG(entering(self.real_A, self.hole, coarse=not self.paired))
        self.fake_A = inside(self.hole, found, self.real_A)

    def exported(self, net: nn.Module) -> nn.Module:
        return Completing(net, self.opt.input_nc, coarse=not self.paired)

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminate(self.netD, self.judged(self.real_A), self.judged(self.fake_A)))
        if self.due(self.opt.n_critic):
            with frozen(self.netD):
                self.minimize("G", self.generator_loss())

    def judged(self, image: Tensor) -> Tensor:
        """What D sees of an image."""
        return torch.cat((self.hidden_A, self.hole, image), 1) if self.paired else image

    def generator_loss(self) -> Tensor:
        """Fool D, and with --objective pix2pix stay near what was in the hole."""
        fake, real = self.judged(self.fake_A), self.judged(self.real_A)
        loss = self.record(**self.criterionGAN.generator(self.netD, fake, real, "G_GAN", paired=self.paired))
        if not self.paired:
            return loss
        difference = within(self.hole, self.criterionL1(self.fake_A, self.real_A))
        return loss + self.record(G_L1=self.opt.lambda_L1 * difference)

    def translations(self) -> dict[str, tuple[Any, Any]]:
        """The truth of a completed image is the image."""
        return {"fake_A": (self.fake_A, self.real_A)}
