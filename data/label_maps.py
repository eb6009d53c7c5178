"""Label maps as a network sees them: a channel for each class, and one for the edges between instances."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from data.masks import Masks
from data.reading import Reading, read_index
from data.transforms import Geometry
from util.errors import ImageError, UsageError

UNLABELLED = 255


class LabelMaps:
    """Images of indices from 0 to `classes` - 1, or 255 where there is no label."""

    def __init__(self, classes: int, edges: bool, how: Reading):
        """`edges`: whether the network sees those of instances."""
        self.classes, self.edges, self.how = classes, edges, how
        self.instances: dict[str, str] = {}  # label map -> image of the numbers of its instances

    def find_instances(self, folder: str | None, roots: Sequence[str], paths: Sequence[str]) -> None:
        """Look for the instances of label maps in a folder laid out like the data root; raises UsageError."""
        if self.edges and not folder:
            raise UsageError("the run was trained with --instances, which a test needs too")
        if folder:
            self.instances = Masks(folder, roots, paths, "--instances", every=True).files

    def to_tensor(self, indices: np.ndarray, geometry: Geometry, path: str) -> torch.Tensor:
        """(H, W, 1) -> (classes, H', W') of 0 and 1, and with instances their edges; raises ImageError."""
        index = torch.from_numpy(geometry(indices, Image.Resampling.NEAREST)[:, :, 0].astype(np.int64))
        known = index != UNLABELLED
        if (highest := int((index * known).max())) >= self.classes:
            raise ImageError(path, f"has label {highest}, and --label_nc {self.classes} allows 0 to {self.classes - 1} "
                                   f"({UNLABELLED}: no label)")
        planes = [torch.arange(self.classes)[:, None, None] == index]
        if self.instances:
            numbers = geometry(read_index(self.instances[path], self.how), Image.Resampling.NEAREST)
            planes.append(edges(torch.from_numpy(numbers[:, :, 0].astype(np.int64))))
        return torch.cat(planes).float()


def edges(numbers: torch.Tensor) -> torch.Tensor:
    """(H, W) -> (1, H, W): whether one of a pixel's four neighbours belongs to another instance."""
    found = torch.zeros_like(numbers, dtype=torch.bool)
    down, across = numbers[1:] != numbers[:-1], numbers[:, 1:] != numbers[:, :-1]
    for part, differs in ((found[1:], down), (found[:-1], down), (found[:, 1:], across), (found[:, :-1], across)):
        part |= differs
    return found[None]
