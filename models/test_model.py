"""One-sided translation with the generator of any trained run."""

from argparse import ArgumentParser
from typing import Any

from models.base_model import BaseModel
from networks.masking import inside
from util.errors import UsageError


class TestModel(BaseModel):
    """Loads one generator, `<epoch>_net_G<model_suffix>.pth`, and never looks for the other domain."""

    __test__ = False  # pytest would collect it
    capturable = takes_masks = True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        if is_train:
            raise UsageError("--model test can't be trained; use --model cycle_gan or --model pix2pix")
        parser.set_defaults(dataset_mode="single")
        parser.add_argument("--model_suffix", default="", help="which generator: _A loads G_A; found from --direction "
                                                               "unless given")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.model_names = [f"G{opt.model_suffix}"]
        self.visual_names = ["real", "fake"]
        self.netG = self.make_G(opt.input_nc, opt.output_nc)
        setattr(self, f"netG{opt.model_suffix}", self.netG)

    def set_input(self, batch: dict[str, Any]) -> None:
        self.real = batch["A"].to(self.device, non_blocking=True)
        self.mask_A = batch["A_mask"].to(self.device) if "A_mask" in batch else None
        self.image_paths = batch["A_paths"]

    def forward(self) -> None:
        self.fake = inside(self.mask_A, self.netG(self.real), self.real)

    def optimize_parameters(self) -> None:
        """Nothing to train."""

    def visual_domain(self, name: str) -> str:
        return super().visual_domain({"real": "real_A", "fake": "fake_B"}[name])
