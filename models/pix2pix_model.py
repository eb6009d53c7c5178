"""pix2pix: image-to-image translation from pairs (Isola et al. 2017)."""

from argparse import ArgumentParser

import torch
from torch import Tensor, nn

from models.base_model import BaseModel, frozen
from networks import GANLoss, define_D, define_G


class Pix2PixModel(BaseModel):
    """An L1 loss keeps the generator near the ground truth, a conditional discriminator keeps it sharp (equation 4)."""

    needs, capturable = "pairs", True

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
        self.netG = define_G(opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout,
                             opt.init_type, opt.init_gain)
        if self.isTrain:
            self.netD = define_D(opt.input_nc + opt.output_nc, opt.ndf, opt.netD, opt.n_layers_D, opt.norm,
                                 opt.init_type, opt.init_gain)
            self.criterionGAN = GANLoss(opt.gan_mode)
            self.criterionL1 = nn.L1Loss()
            self.adam("G", self.netG)
            self.adam("D", self.netD)

    def forward(self) -> None:
        self.fake_B = self.netG(self.real_A)

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminator_loss())
        with frozen(self.netD):
            self.minimize("G", self.generator_loss())

    def generator_loss(self) -> Tensor:
        """Fool D about the pair, and stay near the ground truth."""
        scores = self.netD(torch.cat((self.real_A, self.fake_B), 1))
        return self.record(G_GAN=self.criterionGAN(scores, True, for_discriminator=False),
                           G_L1=self.opt.lambda_L1 * self.criterionL1(self.fake_B, self.real_B))

    def discriminator_loss(self) -> Tensor:
        """Tell the real pair from the pair with the generated image."""
        loss, terms = self.criterionGAN.discriminator(self.netD, torch.cat((self.real_A, self.real_B), 1),
                                                      torch.cat((self.real_A, self.fake_B), 1))
        self.record(**{f"D_{name}": value for name, value in terms.items()})
        return loss
