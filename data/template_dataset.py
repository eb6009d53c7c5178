"""The example of docs/dataset_plugin.md: learn to take noise away. B is the image, A a noisy copy."""

import torch

from data.base_dataset import BaseDataset


class TemplateDataset(BaseDataset):
    """A is B with normal noise of --noise standard deviations, on the scale of -1..1."""

    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.add_argument("--noise", type=float, default=0.2, help="standard deviation of the noise")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.paths = self.list_images(self.find_folders((opt.phase,))[0])  # dataroot/train, dataroot/test
        self.detect_value_range("B", self.paths)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        clean = self.load("B", path)  # (C, H, W) in [-1, 1]
        return {"A": clean + self.opt.noise * torch.randn_like(clean), "B": clean, "A_paths": path, "B_paths": path}
