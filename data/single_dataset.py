"""One domain for one-sided translation: a folder, also nested, one file, or a glob pattern."""

import glob
import os
from typing import Any

import numpy as np

from data.base_dataset import BaseDataset
from data.image_folder import contents, is_image_file
from util.errors import UsageError
from util.frames import is_video_file
from util.notices import notice


class SingleDataset(BaseDataset):
    """The images of --dataroot, the source of --direction; of a data root, its folder of that side, or of the phase."""

    paired = has_B = False

    def __init__(self, opt):
        super().__init__(opt)
        self.paths = self._list(str(opt.dataroot))
        self.detect_value_range(self.source, self.paths)
        self.find_known(self.paths)
        target = "AB".replace(self.source, "")
        if getattr(opt, f"depth_{target}") == "auto":  # weights from elsewhere: what leaves is of the kind that entered
            setattr(opt, f"depth_{target}", getattr(opt, f"depth_{self.source}"))
            setattr(opt, f"range_{target}", getattr(opt, f"range_{self.source}"))

    def read(self, domain: str, path: str) -> np.ndarray:
        """As others, but a strip of a pair is recognised: (H, W, C); raises ImageError."""
        array = super().read(domain, path)
        if getattr(self.opt, "trained_on", None) == "aligned" and array.shape[1] == 2 * array.shape[0]:
            notice("strips", f"{path} is twice as wide as high, like the strips {{A|B}} that such runs are trained on; "
                             f"--model pix2pix translates the halves of strips")
        return array

    def _list(self, root: str) -> list[str]:
        if os.path.isdir(root):
            phase, side = self.opt.phase, self.source
            below = [f"{root}/{phase}{side}", f"{root}/{side}/{phase}", f"{root}/{phase}"]
            return self.list_images(next(filter(os.path.isdir, below), root))  # a data root, or just a folder
        matches = sorted(path for path in glob.glob(root, recursive=True) if is_image_file(path) or is_video_file(path))
        paths = [root] if os.path.isfile(root) else matches
        if not paths:
            folder = os.path.dirname(root) or "."
            raise UsageError(f"--dataroot {root} is no folder, no file and no pattern that matches an image; "
                             f"{contents(folder)}")
        self.roots.append(os.path.dirname(root.split("*")[0].split("?")[0].split("[")[0]) or ".")
        return self.with_frames(paths, f"match {root}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        return self.sample(self.source, path, "A")
