"""SANTA: unpaired translation along a shortest path between the domains (Xie et al. 2023)."""

from argparse import ArgumentParser

import torch
from torch import Tensor

from models.base_model import BaseModel, frozen
from networks.masking import inside
from util.errors import UsageError
from util.image_pool import ImagePool
from util.types import not_negative


class SANTAModel(BaseModel):
    """One generator with a latent path from A (0) to B (1); the decoder is to change as little as it can along it.

    Loss: GAN + lambda_rec |G(A, 0) - A| + lambda_idt |G(B, 1) - B| + lambda_latent mean(z^2) + lambda_path E|dG/dt|^2,
    the last from two near points on the path, in the decoder's blocks. No second network, no cycle.
    """

    needs, capturable, takes_masks = "B", True, True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(no_dropout=True, dataset_mode="unaligned", netG="santa_9blocks")
        if is_train:
            parser.set_defaults(pool_size=0)
            parser.add_argument("--lambda_rec", type=not_negative, default=5.0, help="weight of reconstructing A")
            parser.add_argument("--lambda_idt", type=not_negative, default=5.0, help="weight of reconstructing B")
            parser.add_argument("--lambda_latent", type=not_negative, default=0.01, help="weight of the codes' size")
            parser.add_argument("--lambda_path", type=not_negative, default=0.01, help="weight of the path's length")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "rec_A", "real_B", "idt_B"] if self.isTrain else [
            "real_A", "fake_B", "real_B"]
        self.netG = self.make_G(opt.input_nc, opt.output_nc)
        if self.isTrain:
            if opt.input_nc != opt.output_nc:
                raise UsageError(f"--model santa has one generator for both domains, so --input_nc {opt.input_nc} and "
                                 f"--output_nc {opt.output_nc} must be equal")
            if opt.norm in ("batch", "syncbatch"):
                raise UsageError("--model santa encodes images of both domains together, which --norm batch would mix; "
                                 "use --norm instance")
            if not hasattr(self.netG, "inner"):
                raise UsageError(f"--model santa needs a generator with a path, not --netG {opt.netG}: santa_9blocks, "
                                 f"santa_6blocks, ...")
            self.netD = self.make_D(opt.output_nc)
            self.fake_B_pool = ImagePool(opt.pool_size)
            self.criterionGAN, self.criterionRec = self.make_GAN_loss(), self.make_distance()
            self.adam("G", self.netG)
            self.adam("D", self.netD)

    def forward(self) -> None:
        if not self.isTrain:
            self.fake_B = inside(self.mask_A, self.netG(self.real_A), self.real_A)
            return
        if self.real_A.shape != self.real_B.shape or any(side % 4 for side in self.real_A.shape[2:]):
            raise UsageError(f"--model santa needs images of one size, a multiple of 4, not "
                             f"{tuple(self.real_A.shape[2:])} and {tuple(self.real_B.shape[2:])}; use another "
                             f"--crop_size, or --preprocess resize_and_crop")
        start, end = (self.real_A.new_full((len(self.real_A), 1), place) for place in (0.0, 1.0))
        self.codes = self.netG.encode(torch.cat((self.real_A, self.real_B)))
        of_A, of_B = (self.codes + torch.randn_like(self.codes)).chunk(2)
        self.code_A = of_A
        self.rec_A, fake_B, self.idt_B = self.netG.decode(
            torch.cat((of_A, of_A, of_B)), torch.cat((start, end, end))).chunk(3)
        self.fake_B = inside(self.mask_A, fake_B, self.real_A)

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminator_loss())
        if self.due(self.opt.n_critic):
            with frozen(self.netD):
                self.minimize("G", self.generator_loss())

    def generator_loss(self) -> Tensor:
        """Fool D, keep what is in both domains already, and take a short way between them."""
        opt = self.opt
        return self.record(
            **self.criterionGAN.generator(self.netD, self.fake_B, self.real_B, "G_GAN"),
            rec=opt.lambda_rec * self.criterionRec(self.rec_A, self.real_A),
            idt=opt.lambda_idt * self.criterionRec(self.idt_B, self.real_B),
            latent=opt.lambda_latent * self.codes.square().mean(),
            path=opt.lambda_path * self.path_energy(),
        )

    def path_energy(self) -> Tensor:
        """E |dG/dt|^2 by the difference of two points, up to 0.2 apart, around one drawn for each image."""
        middle = torch.rand(len(self.code_A), 1, device=self.code_A.device, dtype=self.code_A.dtype)
        apart = torch.rand_like(middle) * 0.05 + 0.05
        one, two = (middle + apart).clamp(0, 1), (middle - apart).clamp(0, 1)
        step = (one - two).clamp(min=0.1)[:, :, None, None]
        pairs = [x.chunk(2) for x in self.netG.inner(self.code_A.repeat(2, 1, 1, 1), torch.cat((one, two)))]
        return torch.stack([((a - b) / step).square().mean() for a, b in pairs]).mean()

    def discriminator_loss(self) -> Tensor:
        """Tell real images of B from generated ones."""
        return self.discriminate(self.netD, self.real_B, self.fake_B_pool.query(self.fake_B))
