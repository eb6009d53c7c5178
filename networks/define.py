"""Networks by name: the registries that network files add to, and `define_G` and `define_D`, which build from them."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from networks.layers import get_norm_layer, init_net, normalise_spectrally
from util.errors import UsageError
from util.registry import Registry

GENERATORS = Registry("generator")
DISCRIMINATORS = Registry("discriminator")


def define_G(
    input_nc: int,
    output_nc: int,
    ngf: int,                           # channels of the first layer
    netG: str,                          # a name in GENERATORS
    norm: str = "batch",
    use_dropout: bool = False,
    init_type: str = "normal",
    init_gain: float = 0.02,
    gpu_ids: Sequence[int] = (),                         # passed by plugins of the reference; ignored
    **more: Any,                                         # what only some generators take
) -> nn.Module:
    """Build a generator, and initialise one that is not `initialised`; `net.arguments` holds its arguments.

    Raises UsageError for a name that is unknown, or a generator that does not take `more`, or needs more.
    """
    takes, preset = inspect.signature(GENERATORS[netG][0]).parameters, GENERATORS[netG][1]
    if lacking := [name for name in more if name not in takes]:
        raise UsageError(f"--netG {netG} takes no {', '.join(lacking)}, which this model gives its generator")
    if lacking := [name for name, parameter in takes.items() if parameter.kind == parameter.KEYWORD_ONLY
                   and parameter.default is parameter.empty and name not in {**preset, **more}]:
        raise UsageError(f"--netG {netG} needs {', '.join(lacking)}, which this model does not give its generator")
    net = GENERATORS.build(netG, input_nc=input_nc, output_nc=output_nc, ngf=ngf, norm_layer=get_norm_layer(norm),
                           use_dropout=use_dropout, **more)
    net.arguments = {"input_nc": input_nc, "output_nc": output_nc, "ngf": ngf, "netG": netG, "norm": norm,
                     "no_dropout": not use_dropout}
    return net if hasattr(net, "initialised") else init_net(net, init_type, init_gain)


def define_D(
    input_nc: int,
    ndf: int,                           # channels of the first layer
    netD: str,                          # a name in DISCRIMINATORS
    n_layers_D: int = 3,                # for --netD n_layers
    norm: str = "batch",
    init_type: str = "normal",
    init_gain: float = 0.02,
    gpu_ids: Sequence[int] = (),                         # passed by plugins of the reference; ignored
    spectral_norm: bool = False,        # of every layer with weights
) -> nn.Module:
    """Build and initialise a discriminator; `net.arguments` holds its arguments."""
    net = DISCRIMINATORS.build(netD, input_nc=input_nc, ndf=ndf, n_layers=n_layers_D, norm_layer=get_norm_layer(norm))
    n_layers_D = DISCRIMINATORS[netD][1].get("n_layers", n_layers_D)  # `basic` has a preset
    net.arguments = {"input_nc": input_nc, "ndf": ndf, "netD": netD, "n_layers_D": n_layers_D, "norm": norm}
    init_net(net, init_type, init_gain)
    return normalise_spectrally(net) if spectral_norm else net
