"""The same results up to rounding, faster: `accelerate` replaces modules by the rows of `table`, `plain` undoes it.

Networks are plain torch and know nothing of this package; `models.engine.hardware` alone calls it. A network is changed
in two ways: the class of a module (rows), and a wrapper around a method (boundary, compiled or recomputed parts).
Weights may also change their memory format.
"""

import torch
from torch import nn

from networks.fast.boundary import Boundary, Recomputed, wrap
from networks.fast.captured import Captured
from networks.fast.compiled import Compiled, changes_itself, compilable, entrances, parts
from networks.fast.table import NAMES, Choices, check_names, is_channels_last, plain, replacements
from networks.fast.tiles import Tiled

__all__ = ["NAMES", "Choices", "accelerate", "check_names", "compilable", "plain"]


def accelerate(net: nn.Module, choices: Choices, training: bool = True) -> nn.Module:
    """Make a network run as the choices say, in place; its keys, weights and attributes stay."""
    channels_last = is_channels_last(net, choices)
    for module, ours in replacements(net, choices).items():
        module.__class__ = ours
    if choices.compiled:
        for module, name in parts(net):
            wrap(module, name, Compiled, training)
    if choices.recompute and not changes_itself(net):
        for module, name in parts(net):
            wrap(module, name, Recomputed, net)
    if channels_last and choices.channels_last_weights:
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if choices.precision is not None or channels_last:
        for module, name in entrances(net):
            wrap(module, name, Boundary, choices.device.type, choices.precision, channels_last)
    if choices.captured:
        wrap(net, "forward", Captured, net)
    if choices.tile is not None:
        wrap(net, "forward", Tiled, net, choices.tile, choices.precision, channels_last)
    return net

