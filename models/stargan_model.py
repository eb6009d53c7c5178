"""StarGAN: one generator for many attributes (Choi et al. 2018)."""

from argparse import ArgumentParser
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.base_model import BaseModel, frozen
from networks.attributes import AttributeDiscriminator, with_attributes
from networks.layers import init_net, normalise_spectrally
from util.errors import UsageError, unknown
from util.files import file_name


class StarGANModel(BaseModel):
    """G(x, c) gives x the attributes c; D scores patches and finds attributes. Labels: --labels, --attributes.

    Loss: adversarial + lambda_cls * cross entropy of the attributes (of real images for D, of the asked ones for G) +
    lambda_rec * |G(G(x, c), c of x) - x| (equations 1 to 6). A test gives each image each attribute in turn.
    """

    one_sided = False  # the generator's input has channels for the attributes
    capturable = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="single", labels="folders", netG="stargan", norm="instance_affine",
                            no_dropout=True, n_layers_D=6, crop_size=128)
        if is_train:
            parser.set_defaults(gan_mode="wgangp", n_critic=5, lr=0.0001, batch_size=16, load_size=128)
            parser.add_argument("--lambda_cls", type=float, default=1.0, help="weight of the attributes")
            parser.add_argument("--lambda_rec", type=float, default=10.0, help="weight of the reconstruction")
            parser.add_argument("--lambda_identity", type=float, default=0.0, help="weight of the identity loss, "
                                "target = source attributes (not in the paper)")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if not opt.attributes:
            raise UsageError("--model stargan needs labels: --labels folders, or a CSV file")
        asked = getattr(opt, "asked", None) or opt.attributes
        for name in asked:
            if name not in opt.attributes:
                raise unknown("attribute of this run", name, opt.attributes)
        self.targets = {f"fake_{file_name(name)}": opt.attributes.index(name) for name in asked}
        if opt.input_nc != opt.output_nc:
            raise UsageError(f"--model stargan translates into its own domain, so --input_nc {opt.input_nc} and "
                             f"--output_nc {opt.output_nc} must be equal")
        if len({*opt.attributes}) < 1 + opt.exclusive or len({*opt.attributes}) < len(opt.attributes):
            raise UsageError(f"--model stargan needs different attributes, and two or more if each image has exactly "
                             f"one; it has {', '.join(opt.attributes)}")
        self.visual_names = ["real_A", *self.targets]
        vars(self).update(dict.fromkeys(self.targets))  # until they are made
        count = len(opt.attributes)
        self.netG = self.make_G(opt.input_nc + count, opt.output_nc)
        if self.isTrain:
            if opt.netD != "basic":
                raise UsageError(f"--model stargan has a discriminator of its own, not --netD {opt.netD}")
            net = init_net(AttributeDiscriminator(opt.input_nc, opt.ndf, opt.n_layers_D, count), opt.init_type,
                           opt.init_gain)
            self.netD = normalise_spectrally(net) if opt.spectral_norm else net
            self.criterionGAN, self.criterionRec = self.make_GAN_loss(), self.make_distance()
            self.adam("G", self.netG)
            self.adam("D", self.netD)

    def set_input(self, batch: dict[str, Any]) -> None:
        super().set_input(batch)
        if "A_label" not in batch and not self.opt.exclusive:
            raise UsageError("--model stargan turns attributes on and off, so it needs those of each image: --labels")
        none = torch.zeros(len(self.real_A), len(self.opt.attributes))  # not used for attributes that are exclusive
        self.label_A = batch.get("A_label", none).to(self.device, non_blocking=True)

    def forward(self) -> None:
        if self.isTrain:
            self.label_B = self.asked(torch.randint(self.label_A.shape[1], (len(self.label_A),), device=self.device))
            self.fake_B = self.netG(with_attributes(self.real_A, self.label_B))
            return
        for name, i in self.targets.items():
            label = self.asked(torch.full((len(self.label_A),), i, device=self.device))
            setattr(self, name, self.netG(with_attributes(self.real_A, label)))

    def asked(self, which: Tensor) -> Tensor:
        """(N,) attributes -> (N, attributes): each image's only one, or else turned on or off in its own."""
        chosen = F.one_hot(which, self.label_A.shape[1]).to(self.label_A.dtype)
        return chosen if self.opt.exclusive else (self.label_A - chosen).abs()

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("D", self.discriminator_loss())
        if self.due(self.opt.n_critic):
            with frozen(self.netD):
                self.minimize("G", self.generator_loss())

    def generator_loss(self) -> Tensor:
        """Fool D, show the asked attributes, and be undone by the old ones."""
        self.rec_A = self.netG(with_attributes(self.fake_B, self.label_A))
        loss = self.record(
            **self.criterionGAN.generator(self.netD, self.fake_B, self.real_A, "G_GAN"),
            G_cls=self.opt.lambda_cls * self.cross_entropy(self.fake_B, self.label_B),
            G_rec=self.opt.lambda_rec * self.criterionRec(self.rec_A, self.real_A),
        )
        if self.opt.lambda_identity > 0:
            same = self.netG(with_attributes(self.real_A, self.label_A))
            loss = loss + self.record(G_idt=self.opt.lambda_identity * self.criterionRec(same, self.real_A))
        return loss

    def discriminator_loss(self) -> Tensor:
        """Tell real images from generated ones, and find the attributes of real ones."""
        found = self.record(D_cls=self.opt.lambda_cls * self.cross_entropy(self.real_A, self.label_A))
        return self.discriminate(self.netD, self.real_A, self.fake_B) + found

    def cross_entropy(self, images: Tensor, label: Tensor) -> Tensor:
        """Of the attributes that D finds in images; for those that exclude each other, of a choice."""
        found = self.netD.classify(images)
        if self.opt.exclusive:
            return F.cross_entropy(found, label)
        return F.binary_cross_entropy_with_logits(found, label, reduction="sum") / len(label)

    def visual_domain(self, name: str) -> str:
        """All images are of one domain."""
        return self.domains()[0]
