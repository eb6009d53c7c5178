"""A plugin as research code of the reference is written: lists of names, its own steps."""

import itertools

import numpy as np
import torch

import util.util as util
from util.image_pool import ImagePool

from . import networks
from .base_model import BaseModel


class ClassicModel(BaseModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm="instance", netG="unet_64", dataset_mode="classic")
        if is_train:
            parser.add_argument("--lambda_edge", type=float, default=5.0, help="weight of the loss")
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.loss_names = ["G_GAN", "G_edge", "D", "pool"]
        self.visual_names = ["real_A", "fake_B", "real_B", "overlay"]
        self.model_names = ["G", "D"] if self.isTrain else ["G"]
        self.netG = networks.define_G(
            opt.input_nc,
            opt.output_nc,
            opt.ngf,
            opt.netG,
            opt.norm,
            not opt.no_dropout,
            opt.init_type,
            opt.init_gain,
            self.gpu_ids,
        )
        if self.isTrain:
            self.netD = networks.define_D(
                opt.output_nc, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain, self.gpu_ids
            )
            self.fake_pool = ImagePool(opt.pool_size)
            self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
            self.criterionEdge = torch.nn.L1Loss()
            self.optimizer_G = torch.optim.Adam(
                itertools.chain(self.netG.parameters()), lr=opt.lr, betas=(opt.beta1, 0.999)
            )
            self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
            self.optimizers.append(self.optimizer_G)
            self.optimizers.append(self.optimizer_D)

    def set_input(self, input):
        swap = self.opt.direction == "BtoA"
        self.real_A = input["B" if swap else "A"].to(self.device)
        self.real_B = input["A" if swap else "B"].to(self.device)
        self.image_paths = input["B_paths" if swap else "A_paths"]

    def forward(self):
        self.fake_B = self.netG(self.real_A)

    def compute_visuals(self):
        self.overlay = np.maximum(util.tensor2im(self.real_A), util.tensor2im(self.fake_B))

    def backward_D(self):
        fake = self.fake_pool.query(self.fake_B)
        self.loss_pool = float(len(self.fake_pool.images))
        self.loss_D = 0.5 * (
            self.criterionGAN(self.netD(fake.detach()), False) + self.criterionGAN(self.netD(self.real_B), True)
        )
        self.loss_D.backward()

    def backward_G(self):
        self.loss_G_GAN = self.criterionGAN(self.netD(self.fake_B), True)
        self.loss_G_edge = self.criterionEdge(self.fake_B, self.real_B) * self.opt.lambda_edge
        self.loss_G = self.loss_G_GAN + self.loss_G_edge
        self.loss_G.backward()

    def optimize_parameters(self):
        self.forward()
        self.set_requires_grad([self.netD], True)
        self.optimizer_D.zero_grad()
        self.backward_D()
        self.optimizer_D.step()
        self.set_requires_grad(self.netD, False)
        self.optimizer_G.zero_grad()
        self.backward_G()
        self.optimizer_G.step()
