"""CycleGAN: image-to-image translation without pairs (Zhu et al. 2017)."""

from argparse import ArgumentParser
from typing import Any

from torch import Tensor, nn

from models.base_model import BaseModel, frozen
from networks import together
from networks.masking import inside, within
from util.errors import UsageError
from util.image_pool import ImagePool


class CycleGANModel(BaseModel):
    """G_A: A -> B and G_B: B -> A, each the other's inverse; D_A judges images of B, D_B images of A.

    Loss: GAN(G_A, D_A) + GAN(G_B, D_B) + lambda_A |G_B(G_A(A)) - A| + lambda_B |G_A(G_B(B)) - B| + the identity terms
    lambda_identity (lambda_B |G_A(B) - B| + lambda_A |G_B(A) - A|) (section 5.2).
    """

    fake_A: Any  # (N, C, H, W), or None if its input is
    fake_B: Any
    needs, capturable, takes_masks = "B", True, True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(no_dropout=True, dataset_mode="unaligned")
        if is_train:
            parser.add_argument("--lambda_A", type=float, default=10.0, help="weight of the cycle loss A -> B -> A")
            parser.add_argument("--lambda_B", type=float, default=10.0, help="weight of the cycle loss B -> A -> B")
            parser.add_argument("--lambda_identity", type=float, default=0.5,
                                help="weight of the identity loss, relative to the cycle losses; 0 turns it off")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B"]
        self.netG_A = self.make_G(opt.input_nc, opt.output_nc)
        self.netG_B = self.make_G(opt.output_nc, opt.input_nc)
        if self.isTrain:
            if opt.lambda_identity > 0:
                if opt.input_nc != opt.output_nc:
                    raise UsageError(f"the identity loss needs as many input as output channels, not --input_nc "
                                     f"{opt.input_nc} and --output_nc {opt.output_nc}; use --lambda_identity 0")
                self.visual_names = ["real_A", "fake_B", "rec_A", "idt_B", "real_B", "fake_A", "rec_B", "idt_A"]
            self.netD_A = self.make_D(opt.output_nc)
            self.netD_B = self.make_D(opt.input_nc)
            self.fake_A_pool, self.fake_B_pool = ImagePool(opt.pool_size), ImagePool(opt.pool_size)
            self.criterionGAN = self.make_GAN_loss()
            self.criterionCycle = self.criterionIdt = self.make_distance()
            self.adam("G", self.netG_A, self.netG_B)
            self.adam("D", self.netD_A, self.netD_B)

    def forward(self) -> None:
        same_A, same_B = (self.real_A, self.real_B) if self.isTrain and self.opt.lambda_identity > 0 else (None, None)
        self.fake_B, self.idt_A = self._translate(self.netG_A, self.mask_A, self.real_A, same_B)
        self.fake_A, self.idt_B = self._translate(self.netG_B, self.mask_B, self.real_B, same_A)
        self.rec_A, _ = self._translate(self.netG_B, self.mask_A, self.fake_B)
        self.rec_B, _ = self._translate(self.netG_A, self.mask_B, self.fake_A)

    @staticmethod
    def _translate(net: nn.Module, mask: Tensor | None, real: Tensor | None, other: Tensor | None = None,
                   ) -> tuple[Tensor | None, ...]:
        """Two batches in one call, the first inside its mask; None for None, as in a test with fewer images of one."""
        if real is None:
            return None, None
        fake, same = (net(real), None) if other is None else together(net, real, other)
        return inside(mask, fake, real), same

    def optimize_parameters(self) -> None:
        self.forward()
        if self.due(self.opt.n_critic):
            with frozen(self.netD_A, self.netD_B):
                self.minimize("G", self.generator_loss())
        self.minimize("D", self.discriminator_loss())

    def generator_loss(self) -> Tensor:
        """Adversarial, cycle-consistency and identity losses (equations 1 to 3, section 5.2)."""
        opt, distance, same = self.opt, self.criterionCycle, self.criterionIdt
        loss = self.record(
            **self.criterionGAN.generator(self.netD_A, self.fake_B, self.real_B, "G_A"),
            cycle_A=opt.lambda_A * within(self.mask_A, distance(self.rec_A, self.real_A)),
            **self.criterionGAN.generator(self.netD_B, self.fake_A, self.real_A, "G_B"),
            cycle_B=opt.lambda_B * within(self.mask_B, distance(self.rec_B, self.real_B)),
        )
        if opt.lambda_identity > 0:
            loss = loss + self.record(
                idt_A=opt.lambda_identity * opt.lambda_B * same(self.idt_A, self.real_B),
                idt_B=opt.lambda_identity * opt.lambda_A * same(self.idt_B, self.real_A),
            )
        return loss

    def discriminator_loss(self) -> Tensor:
        """Tell real images from those of the past and present generators; the pool of B is queried first."""
        loss_A, _ = self.criterionGAN.discriminator(self.netD_A, self.real_B, self.fake_B_pool.query(self.fake_B))
        loss_B, _ = self.criterionGAN.discriminator(self.netD_B, self.real_A, self.fake_A_pool.query(self.fake_A))
        return self.record(D_A=loss_A, D_B=loss_B)

    def translations(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Also the reconstructions, whose truth is the input: the cycle error."""
        cycles = {f"rec_{domain}": (getattr(self, f"rec_{domain}"), getattr(self, f"real_{domain}")) for domain in "AB"}
        return super().translations() | {name: pair for name, pair in cycles.items() if pair[1] is not None}

    def visual_domain(self, name: str) -> str:
        """idt_A is made by G_A, so it is an image of B."""
        return super().visual_domain({"idt_A": "idt_B", "idt_B": "idt_A"}.get(name, name))
