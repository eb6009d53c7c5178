"""A native plugin: its own generator, its own option, its own loss."""

import itertools

import torch.nn.functional as F
from torch import nn

from models.pix2pix_model import Pix2PixModel
from networks import GENERATORS


@GENERATORS.register("tiny", depth=2)
class Tiny(nn.Module):
    """A few convolutions."""

    def __init__(self, input_nc, output_nc, ngf, norm_layer, use_dropout, depth):
        super().__init__()
        widths = [input_nc] + [ngf] * depth
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Conv2d(a, b, 3, 1, 1), nn.ReLU())]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], output_nc, 3, 1, 1), nn.Tanh())

    def forward(self, x):
        return self.body(x)


class SharpModel(Pix2PixModel):
    """pix2pix that also matches differences between neighbouring pixels."""

    @staticmethod
    def modify_commandline_options(parser, is_train):
        Pix2PixModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(netG="tiny", norm="none", no_dropout=True)
        parser.add_argument("--lambda_sharp", type=float, default=2.0, help="weight of the sharpness loss")
        return parser

    def generator_loss(self):
        difference = F.l1_loss(self.fake_B.diff(dim=3), self.real_B.diff(dim=3))
        return super().generator_loss() + self.record(G_sharp=self.opt.lambda_sharp * difference)
