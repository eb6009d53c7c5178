"""A dataset as research code of the reference is written: it opens the images itself."""

import os

from PIL import Image

from data.base_dataset import BaseDataset, get_params, get_transform
from data.image_folder import make_dataset


class ClassicDataset(BaseDataset):
    def __init__(self, opt):
        BaseDataset.__init__(self, opt)
        self.dir_AB = os.path.join(opt.dataroot, opt.phase)
        self.AB_paths = sorted(make_dataset(self.dir_AB, opt.max_dataset_size))
        assert self.opt.load_size >= self.opt.crop_size
        self.input_nc = self.opt.output_nc if self.opt.direction == "BtoA" else self.opt.input_nc

    def __getitem__(self, index):
        AB = Image.open(self.AB_paths[index]).convert("RGB")
        w, h = AB.size
        A, B = AB.crop((0, 0, w // 2, h)), AB.crop((w // 2, 0, w, h))
        params = get_params(self.opt, A.size)
        transform = get_transform(self.opt, params, grayscale=(self.input_nc == 1))
        return {"A": transform(A), "B": transform(B), "A_paths": self.AB_paths[index], "B_paths": self.AB_paths[index]}

    def __len__(self):
        return len(self.AB_paths)
