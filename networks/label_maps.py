"""One-hot label maps as pictures."""

import colorsys

import torch
from torch import Tensor

TURN = 0.618034  # of the circle of hues from a class to the next one: the golden section, so that few come close


def coloured(planes: Tensor, classes: int) -> Tensor:
    """(N, classes or more, H, W), the likeliest class of each pixel -> (N, 3, H, W) in [-1, 1]; unlabelled is black.

    A further channel, the edges of instances, is drawn in black.
    """
    hues = [colorsys.hsv_to_rgb(i * TURN % 1, 0.7, (0.95, 0.7)[i % 2]) for i in range(classes)]
    share, index = planes[:, :classes].max(1)                                 # (N, H, W)
    seen = (share > 0) & (planes[:, classes:].amax(1) < 0.5 if planes.shape[1] > classes else True)
    picture = torch.tensor(hues, device=planes.device)[index].permute(0, 3, 1, 2)
    return 2 * picture * seen[:, None] - 1
