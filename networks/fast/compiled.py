"""Compilation by parts: equal parts share one result, so that it takes seconds."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from networks.fast.boundary import Wrapped
from networks.layers import AnySize
from networks.patchgan import NLayerDiscriminator, PixelDiscriminator
from networks.resnet import ResnetGenerator
from networks.unet import UnetGenerator
from util.errors import one_line
from util.notices import notice


def parts(net: nn.Module) -> list[tuple[nn.Module, str]]:
    """(module, method) of each part of a network: what its own `parts()` says, or all of it."""
    if hasattr(net, "parts"):
        return net.parts()
    if type(net) is ResnetGenerator:
        blocks = ((block, "forward") for block in net.model[net.first:net.last])
        return [(net, "encode"), *blocks, (net, "decode")]
    return [core(net)]


def core(net: nn.Module) -> tuple[nn.Module, str]:
    """(module, method) of what a network computes, without the padding of `AnySize` around it."""
    return net, "translate" if isinstance(net, AnySize) else "forward"


def entrances(net: nn.Module) -> list[tuple[nn.Module, str]]:
    """(module, method) of all that is called from outside: what a network computes, and what its layers do."""
    return [core(net), *((net, name) for name in getattr(net, "entrances", ()))]


def changes_itself(net: nn.Module) -> bool:
    """Whether a forward pass changes what the next one computes: spectral norm's iteration, remembered images."""
    return hasattr(net, "remembers") or any(map(is_parametrized, net.modules()))


def compilable(net: nn.Module, device: torch.device) -> bool:
    """Whether compiling a network pays on a device.

    A network of a plugin may say so in `compiles_on`. On a CPU compiled instance norm is quicker than torch's and batch
    norm is not; a U-Net spends its time there on reading weights, which compiled code also rearranges.
    """
    if changes_itself(net):
        return False
    if hasattr(net, "compiles_on"):
        return device.type in net.compiles_on
    if isinstance(net, (NLayerDiscriminator, PixelDiscriminator)):
        return device.type == "cuda" or (
            device.type == "cpu" and any(isinstance(module, nn.InstanceNorm2d) for module in net.modules()))
    return "netG" in getattr(net, "arguments", {}) and (
        device.type == "cuda" or (device.type == "cpu" and not isinstance(net, UnetGenerator)))


class Compiled(Wrapped):
    """A compiled part, used only where gradients are on or off as they were meant to be: a training step, or a test.

    If the compiler fails, one line says so and the part runs uncompiled. A deep copy is the uncompiled part.
    """

    def __init__(self, method: Callable, training: bool):
        super().__init__(method)
        self.training, self._compiled = training, torch.compile(method, dynamic=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled is None or torch.is_grad_enabled() != self.training:
            return self.method(*args, **kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except Exception as error:  # a compiler may be missing, too old or confused; an error of the part comes again
            out = self.method(*args, **kwargs)
            self._compiled = None
            notice("compile", f"compiling failed, networks run uncompiled ({one_line(error)}); --compile off skips the "
                              f"attempt")
            return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable:
        return copy.deepcopy(self.method, memo)
