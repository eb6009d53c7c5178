"""`import util.util as util`, as plugins of the reference write it."""

import os

from util.images import save_image, tensor2im

__all__ = ["mkdir", "mkdirs", "save_image", "tensor2im"]


def mkdir(path: str) -> None:
    """Make a folder and those above it, unless there."""
    os.makedirs(path, exist_ok=True)


def mkdirs(paths: str | list[str]) -> None:
    """Make one folder or several."""
    for path in [paths] if isinstance(paths, str) else paths:
        mkdir(path)
