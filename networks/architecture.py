"""Infer the arguments of a network from the keys and shapes of its state_dict."""

import contextlib
import re
from typing import Any

from torch import Tensor

from networks.define import DISCRIMINATORS, GENERATORS
from networks.patchgan import NLayerDiscriminator, PixelDiscriminator
from networks.resnet import ResnetGenerator
from networks.unet import UnetGenerator
from util.registry import Registry

State = dict[str, Tensor]


def describe(state: State) -> dict[str, Any]:
    """The options of a clean state_dict: netG, ngf, norm, ..., or netD, ndf, ...; empty for an unknown family.

    A U-Net's dropout leaves no trace and is missing.
    """
    with contextlib.suppress(KeyError, ValueError, IndexError):  # related, but not one of ours
        if "model.1.weight" in state and any(".conv_block." in key for key in state):
            return _resnet(state)
        if "model.model.0.weight" in state:
            return _unet(state)
        if "model.0.weight" in state and state["model.0.weight"].dim() == 4:
            return _patchgan(state)
        if "net.0.weight" in state:
            return _pixel(state)
    return {}


def _norm(state: State, convolution: str, norm: str) -> str:
    """Only batch norm has statistics, only instance norm needs a bias before it; KeyError for others."""
    if f"{norm}.weight" in state:
        if f"{convolution}.bias" in state:
            return "instance_affine"
        return "batch" if state[f"{norm}.running_mean"].dim() else ""
    return "instance" if f"{convolution}.bias" in state else "none"


def _name(registry: Registry, family: type, default: str, **preset) -> str:
    """The registered name of a family with this preset, else the one that its numbers spell."""
    return next((name for name in registry if registry[name] == (family, preset)), default)


def _resnet(state: State) -> dict[str, Any]:
    blocks = {match[1] for key in state if (match := re.match(r"model\.(\d+)\.conv_block\.", key))}
    blur = {"blur": True} if "model.7.filt" in state else {}
    first = 12 if blur else 10
    last = state[f"model.{2 * first - 3 + len(blocks)}.weight"]
    ngf, input_nc = state["model.1.weight"].shape[:2]
    name = f"resnet_{len(blocks)}blocks{'_blurpool' if blur else ''}"
    return {"netG": _name(GENERATORS, ResnetGenerator, name, n_blocks=len(blocks), **blur),
            "input_nc": input_nc, "output_nc": last.shape[0], "ngf": ngf, "norm": _norm(state, "model.4", "model.5"),
            "no_dropout": f"model.{first}.conv_block.5.weight" in state}


def _unet(state: State) -> dict[str, Any]:
    depth = sum(value.dim() == 4 for value in state.values()) // 2
    ngf, input_nc = state["model.model.0.weight"].shape[:2]
    return {"netG": _name(GENERATORS, UnetGenerator, f"unet_{2 ** depth}", num_downs=depth),
            "input_nc": input_nc, "output_nc": state["model.model.3.weight"].shape[1], "ngf": ngf,
            "norm": _norm(state, "model.model.1.model.1", "model.model.1.model.2")}


def _patchgan(state: State) -> dict[str, Any]:
    n_layers = sum(value.dim() == 4 for value in state.values()) - 2
    if n_layers < 1:
        return {}
    ndf, input_nc = state["model.0.weight"].shape[:2]
    return {"netD": _name(DISCRIMINATORS, NLayerDiscriminator, "n_layers", n_layers=n_layers), "input_nc": input_nc,
            "ndf": ndf, "n_layers_D": n_layers, "norm": _norm(state, "model.2", "model.3")}


def _pixel(state: State) -> dict[str, Any]:
    ndf, input_nc = state["net.0.weight"].shape[:2]
    return {"netD": _name(DISCRIMINATORS, PixelDiscriminator, "pixel"), "input_nc": input_nc, "ndf": ndf,
            "norm": _norm(state, "net.2", "net.3")}


def differences(state: State, arguments: dict[str, Any]) -> list[str]:
    """The options in which a checkpoint differs from a network, as `--norm batch (here: instance)`."""
    found = describe(state)
    same = {("norm", "batch", "syncbatch")}
    if arguments.get("netD") in ("n_layers", found.get("netD")):
        found.pop("netD", None)  # `n_layers` with three layers is `basic`
    return [f"--{name}{separator}{found[name]} (here: {arguments[name]})" for name in found
            if name in arguments and found[name] != arguments[name]
            and (name, found[name], arguments[name]) not in same
            for separator in ("=" if isinstance(found[name], bool) else " ",)]
