"""BicycleGAN: many translations of one image, from pairs (Zhu et al. 2017)."""

from argparse import ArgumentParser

import torch
from torch import Tensor, nn

from models.base_model import BaseModel, frozen
from networks.latent import CodeEncoder, WithoutCode
from networks.layers import get_norm_layer, init_net
from util.types import not_negative, positive


class BicycleGANModel(BaseModel):
    """G(x, z) is one of many translations of x, which the code z chooses; E finds the code of an image of B.

    Loss of G and E: adversarial for G(x, E(y)) and for G(x, z) with random z, each with a discriminator of its own
    + lambda_L1 |G(x, E(y)) - y| + lambda_kl KL(E(y), N(0, 1)); of G alone: lambda_z |E(G(x, z)) - z| (equation 9).
    Each image takes both directions; the paper divides the batch between them.
    """

    one_sided = False  # the generator's input has channels for the code
    needs, capturable = "pairs", True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="aligned", netG="latent_unet_256", norm="instance", no_dropout=True,
                            init_type="xavier")
        parser.add_argument("--nz", type=positive, default=8, help="length of the code")
        if is_train:
            parser.set_defaults(netD="multiscale", gan_mode="lsgan")
            parser.add_argument("--nef", type=positive, default=64, help="channels of the encoder's first layer")
            parser.add_argument("--lambda_L1", type=not_negative, default=10.0, help="weight of the L1 loss")
            parser.add_argument("--lambda_kl", type=not_negative, default=0.01, help="weight of the codes' divergence")
            parser.add_argument("--lambda_z", type=not_negative, default=0.5, help="weight of the code found again")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.netG = self.make_G(opt.input_nc + opt.nz, opt.output_nc, latent=opt.nz)
        if self.isTrain:
            self.visual_names += ["rec_B"]
            self.netE = init_net(CodeEncoder(opt.output_nc, opt.nz, opt.nef, get_norm_layer(opt.norm)), opt.init_type,
                                 opt.init_gain)
            self.netD, self.netD_encoded = self.make_D(opt.output_nc), self.make_D(opt.output_nc)
            self.criterionGAN, self.criterionL1 = self.make_GAN_loss(), self.make_distance()
            self.adam("G", self.netG, self.netE)
            self.adam("D", self.netD, self.netD_encoded)

    def forward(self) -> None:
        self.code = self.noise(len(self.real_A), self.opt.nz)
        self.fake_B = self.with_code(self.code)
        if self.isTrain:
            self.mean, self.log_variance = self.netE(self.real_B)
            self.rec_B = self.with_code(self.mean + self.noise(*self.mean.shape) * (0.5 * self.log_variance).exp())

    def with_code(self, code: Tensor) -> Tensor:
        """The translation that a code (N, nz) chooses."""
        planes = code[:, :, None, None].expand(-1, -1, *self.real_A.shape[2:])
        return self.netG(torch.cat((self.real_A, planes), 1))

    def exported(self, net: nn.Module) -> nn.Module:
        return WithoutCode(net, self.opt.nz)

    def optimize_parameters(self) -> None:
        self.forward()
        if self.due(self.opt.n_critic):
            with frozen(self.netD, self.netD_encoded):
                self.minimize("G", self.generator_loss())
        self.minimize("D", self.discriminator_loss())

    def generator_loss(self) -> Tensor:
        """Fool both discriminators, rebuild the truth from its code, and have codes that can be found again."""
        opt, mean, log_variance = self.opt, self.mean, self.log_variance
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        with frozen(self.netE):
            found, _ = self.netE(self.fake_B)
        return self.record(
            **self.criterionGAN.generator(self.netD, self.fake_B, self.real_B, "G_GAN"),
            **self.criterionGAN.generator(self.netD_encoded, self.rec_B, self.real_B, "G_encoded"),
            G_L1=opt.lambda_L1 * self.criterionL1(self.rec_B, self.real_B),
            KL=opt.lambda_kl * divergence,
            G_z=opt.lambda_z * (found - self.code).abs().mean(),
        )

    def discriminator_loss(self) -> Tensor:
        """Tell real images from both kinds of generated ones."""
        loss, _ = self.criterionGAN.discriminator(self.netD, self.real_B, self.fake_B)
        loss_encoded, _ = self.criterionGAN.discriminator(self.netD_encoded, self.real_B, self.rec_B)
        return self.record(D=loss, D_encoded=loss_encoded)
