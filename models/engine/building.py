"""The networks, losses and optimizers that a model builds from the options."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from networks import Distance, GANLoss, define_D, define_G


class FromOptions:
    """What a plugin builds from the options."""

    opt: Namespace
    optimizers: list[Optimizer]
    due: Callable[[int], bool]
    record: Callable[..., Tensor]
    criterionGAN: GANLoss

    def make_G(self, input_nc: int, output_nc: int, **more: Any) -> nn.Module:
        """The generator that the options describe, given `more` that only some generators take."""
        opt = self.opt
        return define_G(input_nc, output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type,
                        opt.init_gain, **more)

    def make_D(self, input_nc: int) -> nn.Module:
        """The discriminator that the options describe."""
        opt = self.opt
        return define_D(input_nc, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain,
                        spectral_norm=opt.spectral_norm)

    def make_GAN_loss(self) -> GANLoss:
        """The adversarial losses that the options describe."""
        opt = self.opt
        return GANLoss(opt.gan_mode, r1=opt.r1, gp=opt.gp, penalty_every=opt.penalty_every, due=self.due,
                       diffaugment=opt.diffaugment, lambda_feature=opt.lambda_feature, gamma=opt.began_gamma)

    def make_distance(self) -> Distance:
        """The reconstruction loss that the options describe."""
        return Distance(self.opt.reconstruction, self.opt.metric_weights)

    def discriminate(self, netD: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """The loss of a discriminator, whose terms are recorded as D_real, D_fake, ..."""
        loss, terms = self.criterionGAN.discriminator(netD, real, fake)
        self.record(**{f"D_{name}": value for name, value in terms.items()})
        return loss

    def adam(self, name: str, *nets: nn.Module) -> Optimizer:
        """Make `optimizer_<name>` for these networks with --lr, or --lr_D if it is called D..., --beta1 and --beta2."""
        rate = self.opt.lr_D if name.startswith("D") and self.opt.lr_D is not None else self.opt.lr
        optimizer = Adam([p for net in nets for p in net.parameters()], lr=rate, betas=(self.opt.beta1, self.opt.beta2))
        setattr(self, f"optimizer_{name}", optimizer)
        self.optimizers.append(optimizer)
        return optimizer
