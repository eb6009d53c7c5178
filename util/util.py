"""`import util.util as util`, as plugins of the reference write it."""

import os
from typing import Any

import numpy as np
from torch import nn

from util.errors import UsageError
from util.images import save_image, tensor2im
from util.notices import tell

__all__ = ["diagnose_network", "mkdir", "mkdirs", "print_numpy", "save_image", "str2bool", "tensor2im"]


def mkdir(path: str) -> None:
    """Make a folder and those above it, unless there."""
    os.makedirs(path, exist_ok=True)


def mkdirs(paths: str | list[str]) -> None:
    """Make one folder or several."""
    for path in [paths] if isinstance(paths, str) else paths:
        mkdir(path)


def str2bool(word: Any) -> bool:
    """True or False of a word; raises UsageError for another."""
    if str(word).lower() in ("yes", "true", "t", "y", "1"):
        return True
    if str(word).lower() in ("no", "false", "f", "n", "0"):
        return False
    raise UsageError(f"'{word}' is neither true nor false")


def diagnose_network(net: nn.Module, name: str = "network") -> None:
    """Log the mean of the absolute gradients of a network."""
    means = [float(parameter.grad.abs().mean()) for parameter in net.parameters() if parameter.grad is not None]
    tell(f"{name}: mean absolute gradient {sum(means) / len(means) if means else 0.0:g}")


def print_numpy(x: np.ndarray, val: bool = True, shp: bool = False) -> None:
    """Log the shape of an array, and its mean, least, greatest, median and standard deviation."""
    x = x.astype(np.float64)
    if shp:
        tell(f"shape, {x.shape}")
    if val:
        x = x.flatten()
        tell(f"mean = {x.mean():3.3f}, min = {x.min():3.3f}, max = {x.max():3.3f}, median = {np.median(x):3.3f}, "
             f"std = {x.std():3.3f}")
