"""Masked pretraining: a generator fills in hidden patches, before it learns to translate (Torbunov et al. 2023)."""

from argparse import ArgumentParser
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from models.base_model import BaseModel
from util.errors import UsageError
from util.types import fraction, not_negative, positive


class MaskedModel(BaseModel):
    """Minimises |G(x with hidden patches) - x| on images of both domains; its `fake_A` is G of a hidden image of A.

    Another run starts from it by --init_from RUN; both generators of a cycle get its weights.
    """

    fake_A: Any  # (N, C, H, W), or None if its input is
    fake_B: Any
    needs, capturable = "B", True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        parser.set_defaults(no_dropout=True, dataset_mode="unaligned")
        parser.add_argument("--hidden", type=fraction, default=0.4, help="share of the patches that are hidden")
        parser.add_argument("--patch", type=positive, default=32, help="side of a patch, in pixels")
        if is_train:
            parser.set_defaults(lr_policy="cosine", lr=1e-4, beta1=0.9, batch_size=8)
            parser.add_argument("--weight_decay", type=not_negative, default=0.05, help="weight decay of AdamW")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        if opt.input_nc != opt.output_nc:
            raise UsageError(f"--model masked rebuilds its input, so --input_nc {opt.input_nc} and --output_nc "
                             f"{opt.output_nc} must be equal")
        self.visual_names = ["real_A", "hidden_A", "fake_A", "real_B", "hidden_B", "fake_B"]
        self.netG_any = self.make_G(opt.input_nc, opt.output_nc)
        if self.isTrain:
            self.criterionRec = self.make_distance()
            self.optimizer_G = AdamW(self.netG_any.parameters(), opt.lr, (opt.beta1, 0.99),
                                     weight_decay=opt.weight_decay)

    def hide(self, x: Tensor) -> Tensor:
        """(N, C, H, W) with 0, mid-grey, in a random share of its patches."""
        rows, columns = (-(-size // self.opt.patch) for size in x.shape[2:])
        shown = (self.uniform(len(x), 1, rows, columns) >= self.opt.hidden).to(x.dtype)
        shown = F.interpolate(shown, scale_factor=float(self.opt.patch), mode="nearest")
        return x * shown[:, :, :x.shape[2], :x.shape[3]]

    def forward(self) -> None:
        for domain in "AB":
            real = getattr(self, f"real_{domain}")
            hidden = None if real is None else self.hide(real)
            setattr(self, f"hidden_{domain}", hidden)
            setattr(self, f"fake_{domain}", None if hidden is None else self.netG_any(hidden))

    def optimize_parameters(self) -> None:
        self.forward()
        self.minimize("G", self.record(A=self.criterionRec(self.fake_A, self.real_A),
                                       B=self.criterionRec(self.fake_B, self.real_B)))
