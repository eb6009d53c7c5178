"""Which module is replaced by which, where, why, and what shows it: read this first, delete rows from here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

from networks.fast import convolutions, layers
from networks.fast.boundary import unwrap
from networks.fast.sync_batch_norm import SyncBatchNorm2d
from networks.fast.winograd import KERNELS
from networks.unet import UnetSkipConnectionBlock
from util.errors import unknown

MANY_WEIGHTS = 2 ** 19  # of a convolution: reading them takes the time


@dataclass(frozen=True)
class Choices:
    """How networks run on this machine."""

    device: torch.device
    precision: torch.dtype | None = None    # of autocast; None: the type of weights and images
    compiled: bool = False
    channels_last_weights: bool = False     # store weights channels-last as well as images
    recompute: bool = False                 # activations, in the backward pass, instead of keeping them
    processes: int = 1
    captured: bool = False                  # replay the forward pass in a test, for images of one shape
    tile: int | str | None = None           # side of the tiles of a large image in a test, `auto`, or None: whole
    without: frozenset[str] = field(default_factory=frozenset)  # names of rows

    def rows(self) -> list["Row"]:
        """The rows in use."""
        return [row for row in TABLE if row.name not in self.without]


Condition = Callable[[nn.Module, Choices], bool]


@dataclass(frozen=True)
class Row:
    """A module whose class is exactly a key of `replaces` gets its value as class if `where(module, choices)` holds.

    Weights, buffers and attributes stay. `channels_last` replaces nothing, and its `where` gets the whole network.
    """

    name: str
    replaces: dict[type[nn.Module], type[nn.Module]]
    where: Condition
    because: str
    shown_by: str         # the command that prints what it is worth, or the test that shows why it is needed
    torch: str = "2.15"   # the newest version it was measured or found necessary with
    reorders: bool = False  # returns channels-last images: only for networks whose gradients survive that
    before_norm: bool = False  # only for modules that instance norm follows
    bound: float = 1e-4   # of the difference to plain outputs and gradients in float32, relative to the largest


def _always(module: nn.Module, choices: Choices) -> bool:
    return True


def _ordinary(conv: nn.Module, choices: Choices) -> bool:
    return (choices.device.type == "cpu" and conv.groups == 1 and conv.dilation == (1, 1)
            and conv.padding_mode == "zeros" and not isinstance(conv.padding, str))


def _many_weights(conv: nn.Module, choices: Choices) -> bool:
    return _ordinary(conv, choices) and conv.weight.numel() >= MANY_WEIGHTS


def _winograd(conv: nn.Module, choices: Choices) -> bool:
    square = conv.kernel_size[0] == conv.kernel_size[1] and conv.kernel_size[0] in KERNELS
    return _many_weights(conv, choices) and choices.precision is None and square and conv.stride == (1, 1)


def _to_few_channels(conv: nn.Module, choices: Choices) -> bool:
    return _ordinary(conv, choices) and conv.out_channels <= 4 and conv.stride == (1, 1) and conv.padding == (0, 0)


def _bias_is_unused(conv: nn.Module, choices: Choices) -> bool:
    few_positions = conv.stride != (1, 1) and _many_weights(conv, choices)  # may have them, and then gains more by that
    return conv.bias is not None and conv.padding_mode == "zeros" and not few_positions


STEP = "benchmarks/step.py {} --without {}"
# Of the rows that apply to one module, the first replaces it.
TABLE = (
    Row("sync_batch_norm", {nn.BatchNorm2d: SyncBatchNorm2d},
        lambda norm, choices: choices.processes > 1 and norm.affine and norm.track_running_stats,
        "the statistics are those of all processes", "tests/test_distributed.py"),
    Row("instance_norm", {nn.InstanceNorm2d: layers.InstanceNorm2d}, _always,
        "torch's gradient on a CPU is wrong for channels-last; compiled, the formula fuses", "tests/test_fast.py"),
    Row("tanh", {nn.Tanh: layers.Tanh}, _always,
        "in bf16 saturated colours have no gradient", "benchmarks/precision.py FACADES --scorer SCRIPT"),
    Row("reflection_pad", {nn.ReflectionPad2d: layers.ReflectionPad2d}, _always,
        "autocast pads in float32; compiled, slices fuse", STEP.format("cycle_gan", "reflection_pad")),
    Row("winograd", {nn.Conv2d: convolutions.Winograd}, _winograd,
        "a quarter of the multiplications", STEP.format("cycle_gan", "winograd"), reorders=True, bound=1e-3),
    Row("unused_bias", {nn.Conv2d: convolutions.WithoutBias, nn.ConvTranspose2d: convolutions.TransposedWithoutBias},
        _bias_is_unused, "instance norm removes it, and summing its gradient takes time",
        STEP.format("cycle_gan", "unused_bias"), before_norm=True),
    Row("few_positions",
        {nn.Conv2d: convolutions.FewPositions, nn.ConvTranspose2d: convolutions.FewPositionsTransposed}, _many_weights,
        "a convolution reorders its weights before it reads them", STEP.format("pix2pix", "few_positions"),
        reorders=True),
    Row("few_channels", {nn.Conv2d: convolutions.ToFewChannels}, _to_few_channels,
        "the kernels for few output channels are slow", STEP.format("cycle_gan", "few_channels")),
    Row("skip", {UnetSkipConnectionBlock: layers.ChannelsLastSkip},
        lambda module, choices: choices.device.type == "cpu",
        "mixed memory formats send norms and ReLU down a slow path", STEP.format("pix2pix", "skip")),
    Row("channels_last", {}, lambda net, choices: choices.device.type == "cuda" or (
        choices.device.type == "cpu" and gradients_survive_channels_last(net, choices)),
        "convolutions are quicker on images with the channels innermost", STEP.format("cycle_gan", "channels_last")),
)
NAMES = tuple(row.name for row in TABLE)
PLAIN = {ours: theirs for row in TABLE for theirs, ours in row.replaces.items()}


def plain(net: nn.Module) -> nn.Module:
    """Undo `accelerate`, in place: plain torch, contiguous weights."""
    for module in net.modules():
        unwrap(module)
        module.__class__ = PLAIN.get(type(module), type(module))
    for parameter in net.parameters():
        parameter.data = parameter.data.contiguous()
    return net


def check_names(names: list[str]) -> frozenset[str]:
    """The names as a set; raises UsageError for one that is no row."""
    for name in names:
        if name not in NAMES:
            raise unknown("row of --without", name, NAMES)
    return frozenset(names)


def replacements(net: nn.Module, choices: Choices) -> dict[nn.Module, type[nn.Module]]:
    """Module of a network -> the class that it gets."""
    survives, before_norm = gradients_survive_channels_last(net, choices), _before_norm(net)
    found: dict[nn.Module, type[nn.Module]] = {}
    for row in choices.rows():
        if row.reorders and not survives:
            continue
        for module in before_norm if row.before_norm else net.modules():
            if type(module) in row.replaces and module not in found and row.where(module, choices):
                found[module] = row.replaces[type(module)]
    return found


def _before_norm(net: nn.Module) -> list[nn.Module]:
    """The modules of a network of ours that instance norm follows; in one of a plugin, their output may be used too."""
    if not type(net).__module__.startswith("networks."):
        return []
    return [module for sequence in net.modules() if isinstance(sequence, nn.Sequential)
            for module, norm in pairwise(sequence) if isinstance(norm, nn.InstanceNorm2d)]


def is_channels_last(net: nn.Module, choices: Choices) -> bool:
    """Whether the images that enter a network are stored channels-last."""
    return any(row.name == "channels_last" and row.where(net, choices) for row in choices.rows())


def gradients_survive_channels_last(net: nn.Module, choices: Choices) -> bool:
    """False if torch's instance norm may be called in a network: its gradient on a CPU is wrong for channels-last.

    Modules that are neither torch's nor ours may call it; one that tracks statistics is not replaced.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.InstanceNorm2d)]
    return (all(type(m).__module__.startswith(("torch.", "networks.")) for m in net.modules())
            and not any(norm.track_running_stats for norm in norms)
            and (not norms or any(nn.InstanceNorm2d in row.replaces for row in choices.rows())))
