"""DCLGAN: two-sided translation by a dual contrast of patches (Han et al. 2021)."""

from argparse import ArgumentParser

from torch import Tensor

from models.base_model import BaseModel, frozen
from networks.masking import inside
from networks.patchnce import Contrast
from util.image_pool import ImagePool
from util.types import not_negative


class DCLGANModel(BaseModel):
    """G_A: A -> B and G_B: B -> A; a patch of G_A(A), as G_B's encoder sees it, must identify its source patch.

    Loss: half of GAN(G_A, D_A) + GAN(G_B, D_B) + the two contrasts, weighted by lambda_NCE, + the two identity terms,
    weighted by lambda_IDT. Each encoder has a head of its own; there is no cycle (section 3).
    """

    needs, capturable, takes_masks = "B", True, True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(no_dropout=True, dataset_mode="unaligned", netG="resnet_9blocks_blurpool",
                            init_type="xavier")
        if is_train:
            parser.set_defaults(gan_mode="hinge", n_epochs=200, n_epochs_decay=200)
            parser.add_argument("--lambda_NCE", type=not_negative, default=2.0, help="weight of the contrasts")
            parser.add_argument("--lambda_IDT", type=not_negative, default=1.0, help="weight of the identity losses")
            Contrast.add_options(parser, [4, 8, 12, 16])
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "real_B", "fake_A"]
        self.netG_A = self.make_G(opt.input_nc, opt.output_nc)
        self.netG_B = self.make_G(opt.output_nc, opt.input_nc)
        if self.isTrain:
            self.visual_names = ["real_A", "fake_B", "idt_B", "real_B", "fake_A", "idt_A"]
            self.netD_A, self.netD_B = self.make_D(opt.output_nc), self.make_D(opt.input_nc)
            self.contrast = Contrast(opt.nce_layers, opt.num_patches, opt.nce_T)
            heads = (opt.input_nc, opt.netF_nc, opt.init_type, opt.init_gain)
            self.netF_A, self.netF_B = (self.contrast.heads(net, *heads) for net in (self.netG_A, self.netG_B))
            self.fake_A_pool, self.fake_B_pool = ImagePool(opt.pool_size), ImagePool(opt.pool_size)
            self.criterionGAN, self.criterionIdt = self.make_GAN_loss(), self.make_distance()
            self.adam("G", self.netG_A, self.netG_B, self.netF_A, self.netF_B)
            self.adam("D", self.netD_A, self.netD_B)

    def forward(self) -> None:
        if self.isTrain:
            fake_B, self.keys_A = self.contrast.translate(self.netG_A, self.real_A)
            fake_A, self.keys_B = self.contrast.translate(self.netG_B, self.real_B)
        else:
            fake_B = None if self.real_A is None else self.netG_A(self.real_A)
            fake_A = None if self.real_B is None else self.netG_B(self.real_B)
        self.fake_B = inside(self.mask_A, fake_B, self.real_A)
        self.fake_A = inside(self.mask_B, fake_A, self.real_B)

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminator_loss())
        if self.due(self.opt.n_critic):
            with frozen(self.netD_A, self.netD_B):
                self.minimize("G", self.generator_loss())

    def generator_loss(self) -> Tensor:
        """Adversarial, contrastive and identity losses (equation 8)."""
        opt, same = self.opt, self.criterionIdt
        self.idt_A, self.idt_B = self.netG_A(self.real_B), self.netG_B(self.real_A)
        contrast_A = self.contrast(self.netG_B, self.netF_B, self.fake_B, self.keys_A, self.netF_A)
        contrast_B = self.contrast(self.netG_A, self.netF_A, self.fake_A, self.keys_B, self.netF_B)
        return 0.5 * self.record(
            **self.criterionGAN.generator(self.netD_A, self.fake_B, self.real_B, "G_A"),
            **self.criterionGAN.generator(self.netD_B, self.fake_A, self.real_A, "G_B"),
            NCE_A=opt.lambda_NCE * contrast_A,
            NCE_B=opt.lambda_NCE * contrast_B,
            idt_A=opt.lambda_IDT * same(self.idt_A, self.real_B),
            idt_B=opt.lambda_IDT * same(self.idt_B, self.real_A),
        )

    def discriminator_loss(self) -> Tensor:
        """Tell real images from those of the past and present generators."""
        loss_A, _ = self.criterionGAN.discriminator(self.netD_A, self.real_B, self.fake_B_pool.query(self.fake_B))
        loss_B, _ = self.criterionGAN.discriminator(self.netD_B, self.real_A, self.fake_A_pool.query(self.fake_A))
        return self.record(D_A=loss_A, D_B=loss_B)

    def visual_domain(self, name: str) -> str:
        """idt_A is made by G_A, so it is an image of B."""
        return super().visual_domain({"idt_A": "idt_B", "idt_B": "idt_A"}.get(name, name))
