"""CUT and FastCUT: one-sided translation without pairs, by contrast of patches (Park et al. 2020)."""

from argparse import ArgumentParser
from collections.abc import Iterator

from torch import Tensor

from models.base_model import BaseModel, frozen
from networks.augment import drawn, flipped
from networks.masking import inside
from networks.patchnce import Contrast
from util.image_pool import ImagePool
from util.types import not_negative


class CUTModel(BaseModel):
    """G: A -> B; each patch of G(A) must identify its source patch in A, by the features of G's encoder.

    Loss: GAN(G, D) + lambda_NCE (NCE(A, G(A)) + NCE(B, G(B))) / 2, the second being the identity term (equation 5).
    FastCUT has no identity term, a larger lambda_NCE, and mirrors what it translates at random. D is the plain
    PatchGAN; that of the authors' code is --netD basic_blurpool.
    """

    needs, capturable, takes_masks = "B", True, True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(no_dropout=True, dataset_mode="unaligned", netG="resnet_9blocks_blurpool",
                            init_type="xavier")
        if is_train:
            parser.set_defaults(pool_size=0, n_epochs=200, n_epochs_decay=200)
            parser.add_argument("--CUT_mode", default="CUT", choices=("CUT", "FastCUT"), help="which of the two")
            parser.add_argument("--lambda_GAN", type=not_negative, default=1.0, help="weight of the adversarial loss")
            parser.add_argument("--lambda_NCE", type=not_negative, default=None, help="weight of the contrast; 1 "
                                                                                      "unless given, and 10 in FastCUT")
            Contrast.add_options(parser, [0, 4, 8, 12, 16])
            if parser.parse_known_args()[0].CUT_mode == "FastCUT":
                parser.set_defaults(n_epochs=150, n_epochs_decay=50)
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.netG = self.make_G(opt.input_nc, opt.output_nc)
        if self.isTrain:
            self.fast = opt.CUT_mode == "FastCUT"
            weight = opt.lambda_NCE if opt.lambda_NCE is not None else (10.0 if self.fast else 1.0)
            self.lambda_NCE = weight if self.fast else weight / 2
            self.visual_names += [] if self.fast else ["idt_B"]
            self.netD = self.make_D(opt.output_nc)
            self.contrast = Contrast(opt.nce_layers, opt.num_patches, opt.nce_T)
            self.netF = self.contrast.heads(self.netG, opt.input_nc, opt.netF_nc, opt.init_type, opt.init_gain)
            self.fake_B_pool = ImagePool(opt.pool_size)
            self.criterionGAN = self.make_GAN_loss()
            self.adam("G", self.netG, self.netF)
            self.adam("D", self.netD)

    def forward(self) -> None:
        if not self.isTrain:
            self.fake_B = inside(self.mask_A, self.netG(self.real_A), self.real_A)
        elif self.fast:
            self.turned = drawn(self.real_A, 0, 1) < 0.5
            real, mask = (x if x is None else flipped(x, self.turned) for x in (self.real_A, self.mask_A))
            self.fake_B = inside(mask, self.netG(real), real)
        else:
            fake, self.keys = self.contrast.translate(self.netG, self.real_A)
            self.fake_B = inside(self.mask_A, fake, self.real_A)

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminator_loss())
        if self.due(self.opt.n_critic):
            with frozen(self.netD):
                self.minimize("G", self.generator_losses())

    def generator_losses(self) -> Iterator[Tensor]:
        """The adversarial loss and the contrast; then the identity term, differentiated separately to save memory."""
        fooled = self.criterionGAN.generator(self.netD, self.fake_B, self.real_B, "G_GAN")
        adversarial = {name: self.opt.lambda_GAN * loss for name, loss in fooled.items()}
        # FastCUT compares the translation of a mirrored image, mirrored back, with the image as it was.
        keys, turned = (self.contrast.keys(self.netG, self.real_A), self.turned) if self.fast else (self.keys, None)
        contrast = self.contrast(self.netG, self.netF, self.fake_B, keys, turned=turned)
        yield self.record(**adversarial, NCE=self.lambda_NCE * contrast)
        if not self.fast:
            self.idt_B, keys = self.contrast.translate(self.netG, self.real_B)
            yield self.record(NCE_Y=self.lambda_NCE * self.contrast(self.netG, self.netF, self.idt_B, keys))

    def discriminator_loss(self) -> Tensor:
        """Tell real images of B from generated ones."""
        return self.discriminate(self.netD, self.real_B, self.fake_B_pool.query(self.fake_B))
