"""DualGAN: unsupervised dual learning with Wasserstein critics (Yi et al. 2017)."""

from argparse import ArgumentParser

import torch
from torch.optim import RMSprop

from models.cycle_gan_model import CycleGANModel
from util.types import positive_number


class DualGANModel(CycleGANModel):
    """G_A and G_B, U-Nets whose noise is dropout, reconstruct each other's input by L1; D_A and D_B are WGAN critics.

    The critics are kept in bounds by clipping their weights, or with --gan_mode wgangp by the gradient penalty. All
    networks are trained by RMSprop, because momentum makes clipped critics unstable (section 3.3).
    """

    needs = "B"  # not capturable: RMSprop has no fused step

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        CycleGANModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(netG="unet_256", no_dropout=False)
        if is_train:
            parser.set_defaults(gan_mode="wgan", pool_size=0, lr=5e-5, n_critic=3, lambda_A=100.0, lambda_B=100.0,
                                lambda_identity=0.0)
            parser.add_argument("--clip", type=positive_number, default=0.01, help="limit of the critics' weights")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if self.isTrain:
            self.optimizers = []
            for name in "GD":
                adam = getattr(self, f"optimizer_{name}")
                rmsprop = RMSprop(adam.param_groups[0]["params"], lr=adam.param_groups[0]["lr"], alpha=0.9)
                setattr(self, f"optimizer_{name}", rmsprop)
                self.optimizers.append(rmsprop)

    def optimize_parameters(self) -> None:
        super().optimize_parameters()
        if self.opt.gan_mode == "wgan":
            with torch.no_grad():
                for net in (self.netD_A, self.netD_B):
                    for weight in net.parameters():
                        weight.clamp_(-self.opt.clip, self.opt.clip)
