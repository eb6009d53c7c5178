"""The example that docs/dataset_plugin.md explains: the image itself is B, a darkened copy is A."""

from data.base_dataset import BaseDataset


class TemplateDataset(BaseDataset):
    """Learn to brighten: A is B with its values halved towards black."""

    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.add_argument("--darkness", type=float, default=0.5, help="share of the light that A keeps")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.paths = self.list_images(self.find_folders((opt.phase,))[0])
        self.settle_values("B", self.paths)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        image = self.read("B", path)
        bright = self.to_tensor("B", image, self.geometry(image, path), path)
        return {"A": (bright + 1) * self.opt.darkness - 1, "B": bright, "A_paths": path, "B_paths": path}
