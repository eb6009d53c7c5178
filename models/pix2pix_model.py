"""pix2pix: image-to-image translation from pairs (Isola et al. 2017)."""

from argparse import ArgumentParser

import torch
from torch import Tensor, nn

from models.base_model import BaseModel, frozen
from networks.masking import inside, within


class Pix2PixModel(BaseModel):
    """An L1 loss keeps the generator near the ground truth, a conditional discriminator keeps it sharp (equation 4)."""

    needs, capturable, takes_masks = "pairs", True, True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(norm="batch", netG="unet_256", dataset_mode="aligned")
        if is_train:
            parser.set_defaults(pool_size=0, gan_mode="vanilla")
            parser.add_argument("--lambda_L1", type=float, default=100.0, help="weight of the L1 loss")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.netG = self.generator()
        if self.isTrain:
            self.netD = self.make_D(opt.input_nc + opt.output_nc)
            self.criterionGAN = self.make_GAN_loss()
            self.criterionL1 = self.make_distance()
            self.adam("G", self.netG)
            self.adam("D", self.netD)

    def generator(self) -> nn.Module:
        """What becomes netG."""
        return self.make_G(self.opt.input_nc, self.opt.output_nc)

    def forward(self) -> None:
        self.fake_B = inside(self.mask_A, self.netG(self.real_A), self.real_A)

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminator_loss())
        if self.due(self.opt.n_critic):
            with frozen(self.netD):
                self.minimize("G", self.generator_loss())

    def generator_loss(self) -> Tensor:
        """Fool D about the pair, and stay near the ground truth."""
        target = inside(self.mask_A, self.real_B, self.real_A)
        fake, real = (torch.cat((self.real_A, x), 1) for x in (self.fake_B, target))
        return self.record(**self.criterionGAN.generator(self.netD, fake, real, "G_GAN", paired=True),
                           **self.distance(target))

    def distance(self, target: Tensor) -> dict[str, Tensor]:
        """The loss that keeps the translation near the ground truth."""
        return {"G_L1": self.opt.lambda_L1 * within(self.mask_A, self.criterionL1(self.fake_B, target))}

    def discriminator_loss(self) -> Tensor:
        """Tell the real pair from the pair with the generated image."""
        target = inside(self.mask_A, self.real_B, self.real_A)
        return self.discriminate(self.netD, *(torch.cat((self.real_A, x), 1) for x in (target, self.fake_B)))
