"""A diffusion bridge: translation from pairs by many small steps, without an adversary (Liu et al. 2023)."""

from argparse import ArgumentParser

import torch
import torch.nn.functional as F
from torch import nn

from models.base_model import BaseModel
from networks.bridge import LENGTH, Bridge, Sampler, entering
from util.errors import UsageError
from util.types import positive, positive_number


class BridgeModel(BaseModel):
    """From x between a pair, its time and the input, G finds how far x is from the truth.

    Loss: |G(x_t, t, x_T) - (x_t - x_0) / sigma_t|^2 at a random time t (equation 12). A test leads from the input to
    the truth in --steps; with other noise (--n_samples) it ends elsewhere.
    """

    one_sided = False  # the generator's input has channels for x and its time
    needs, capturable = "pairs", True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(dataset_mode="aligned", netG="adm_small", no_dropout=True, ema=0.999 if is_train else True)
        parser.add_argument("--steps", type=positive, default=20, help="how often a translation runs the network")
        parser.add_argument("--deterministic", action="store_true", help="translate without noise between the steps")
        parser.add_argument("--beta_max", type=positive_number, default=0.3, help="how much noise is in the middle of "
                                                                                  "the bridge")
        if is_train:
            parser.set_defaults(beta1=0.9, lr=0.0001)
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if opt.input_nc != opt.output_nc:
            raise UsageError(f"a bridge leads to images of as many channels, so --input_nc {opt.input_nc} and "
                             f"--output_nc {opt.output_nc} must be equal")
        if opt.steps > LENGTH:
            raise UsageError(f"--steps {opt.steps} is more than the {LENGTH} times of the bridge")
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.netG = self.make_G(2 * opt.input_nc + 1, opt.output_nc, timed=True)
        self.bridge = Bridge(opt.beta_max)
        if self.isTrain:
            self.adam("G", self.netG)

    def forward(self) -> None:
        if not self.isTrain:
            draw = None if self.opt.deterministic else self.noise
            self.fake_B = Sampler(self.netG, self.bridge, self.opt.steps, draw)(self.real_A)
            return
        self.time = torch.randint(1, LENGTH + 1, (len(self.real_A),), device=self.device)
        self.x = self.bridge.at(self.time, self.real_B, self.real_A, self.noise(*self.real_B.shape))
        self.found = self.netG(entering(self.x, self.real_A, self.time))
        self.fake_B = self.bridge.start(self.time, self.x, self.found).clamp(-1, 1)

    def exported(self, net: nn.Module) -> nn.Module:
        return Sampler(net, self.bridge, self.opt.steps)

    def optimize_parameters(self) -> None:
        self.forward()
        target = self.bridge.target(self.time, self.x, self.real_B)
        self.minimize("G", self.record(G=F.mse_loss(self.found, target)))
