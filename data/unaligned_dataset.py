"""Two unpaired domains: `trainA` + `trainB`, or `A/train` + `B/train`."""

import random
from typing import Any

from data.base_dataset import BaseDataset


class UnalignedDataset(BaseDataset):
    """Image i of A with a random image of B (the i-th with --serial_batches); the shorter domain starts over."""

    paired, has_B = False, True

    def __init__(self, opt):
        super().__init__(opt)
        phase = opt.phase
        folders = self.find_folders((f"{phase}A", f"{phase}B"), (f"A/{phase}", f"B/{phase}"))
        limit = slice(int(min(opt.max_dataset_size, 1e9)))
        self.paths_A, self.paths_B = (self.list_images(folder)[limit] for folder in folders)
        self.detect_value_range("A", self.paths_A)
        self.detect_value_range("B", self.paths_B)
        self.find_known(self.paths_A + self.paths_B)

    def __len__(self) -> int:
        return max(len(self.paths_A), len(self.paths_B))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """In a test, `repeated` names the domain that has started over, "" for none."""
        index_B = index if self.opt.serial_batches else random.randrange(len(self.paths_B))
        path_A = self.paths_A[index % len(self.paths_A)]
        path_B = self.paths_B[index_B % len(self.paths_B)]
        sample = self.sample("A", path_A) | self.sample("B", path_B)
        if not self.opt.isTrain:
            sample["repeated"] = "A" if index >= len(self.paths_A) else "B" if index >= len(self.paths_B) else ""
        return sample
