"""What the network families share: norms, initialisation, padding to a size they accept."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_map

from util.errors import UsageError, unknown
from util.registry import Registry

NORMS = Registry("norm")
INIT_TYPES = {
    "normal": lambda weight, gain: init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: init.orthogonal_(weight, gain=gain),
}


NORMS.register("batch", affine=True, track_running_stats=True)(nn.BatchNorm2d)
NORMS.register("instance", affine=False, track_running_stats=False)(nn.InstanceNorm2d)
NORMS.register("instance_affine", affine=True, track_running_stats=False)(nn.InstanceNorm2d)
# With several processes, `networks.fast` synchronises both: same weights, same keys.
NORMS.register("syncbatch", affine=True, track_running_stats=True)(nn.BatchNorm2d)
NORMS.register("none")(nn.Identity)  # which keeps the index of the layers behind it


def get_norm_layer(norm_type: str = "instance") -> Callable[[int], nn.Module]:
    """The constructor of a norm, called with the number of channels; raises UsageError for an unknown name."""
    return NORMS.constructor(norm_type)


def needs_bias(norm_layer: Callable) -> bool:
    """Whether the convolution before this norm has a bias: only before instance norm, as in the published weights."""
    norm = norm_layer.func if isinstance(norm_layer, partial) else norm_layer
    return inspect.isclass(norm) and issubclass(norm, nn.InstanceNorm2d)


def init_weights(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02) -> None:
    """Redraw the weights of every convolution and linear layer; biases become 0, batch norm scales N(1, init_gain)."""
    if init_type not in INIT_TYPES:
        raise unknown("initialisation", init_type, INIT_TYPES)
    for module in net.modules():
        kind = type(module).__name__
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if weight is None:
            continue
        if "Conv" in kind or "Linear" in kind or isinstance(module, _ConvNd):
            INIT_TYPES[init_type](weight.data, init_gain)
        elif "BatchNorm2d" in kind:
            init.normal_(weight.data, 1.0, init_gain)
        else:
            continue
        if bias is not None:
            init.constant_(bias.data, 0.0)


def init_net(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02, gpu_ids: Sequence = ()) -> nn.Module:
    """Initialise the weights and return the network; `gpu_ids` is accepted for plugins of the reference and ignored."""
    init_weights(net, init_type, init_gain)
    return net


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that begins as 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def normalise_spectrally(net: nn.Module) -> nn.Module:
    """Divide the weight of each convolution and linear layer by its largest singular value (Miyato et al. 2018)."""
    for module in list(net.modules()):
        if isinstance(module, (_ConvNd, nn.Linear)):
            spectral_norm(module)
    return net


def without_parametrizations(net: nn.Module) -> nn.Module:
    """Compute spectral and other parametrizations once and for all, in place: the weights become ordinary ones.

    torch's `remove_parametrizations` changes a class that copies of the module share.
    """
    for module in list(net.modules()):
        if is_parametrized(module):
            module.eval()  # spectral norm estimates no further
            names: Any = module.parametrizations
            weights = {name: getattr(module, name).detach() for name in names}
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return net


def together(net: nn.Module, *batches: Tensor, **arguments: Any) -> tuple[Any, ...]:
    """Run a network on several batches (N, C, H, W) in one call if that changes no result, else in one call each.

    Batch norm in training mode must see each batch separately; images of different sizes do not concatenate. Returns
    what the network returns, tensors or nested lists of them, for each batch.
    """
    mixes = any(isinstance(module, _BatchNorm) and module.training for module in net.modules())
    if len(batches) == 1 or mixes or len({x.shape[1:] for x in batches}) > 1:
        return tuple(net(x, **arguments) for x in batches)
    out, sizes = net(torch.cat(batches), **arguments), [len(x) for x in batches]
    return tuple(tree_map(lambda x, i=i: x.split(sizes)[i], out) for i in range(len(batches)))


class AnySize(nn.Module, ABC):
    """Lets a generator accept every image size, though its layers need a multiple of `size_multiple`.

    A subclass defines `translate`. The input is padded on the right and at the bottom, by reflection and, where that
    runs out, by repeating the edge; the output is cropped to the input's size. Scripted, traced or exported, it takes
    every size too.
    """

    size_multiple: torch.jit.Final[int]
    smallest: torch.jit.Final[int]

    def __init__(self, size_multiple: int = 1, smallest: int = 1):
        super().__init__()
        self.size_multiple = size_multiple
        self.smallest = smallest                                  # least side, a multiple of size_multiple

    def forward(self, x: Tensor) -> Tensor:                       # (N, C, H, W)
        height, width = x.shape[-2], x.shape[-1]
        x = self.translate(self.enlarged(self.enlarged(x, -2), -1))
        return cropped(cropped(x, -2, height), -1, width)         # (N, C', H, W)

    def enlarged(self, x: Tensor, dim: int) -> Tensor:
        """Pad one dimension to a size that `translate` takes."""
        size = x.shape[dim]
        full = size + -size % self.size_multiple
        if torch.jit.is_scripting():
            full = max(full, self.smallest)
        elif torch.jit.is_tracing():
            full = torch.as_tensor(full).clamp(min=self.smallest)  # a size is a tensor
        else:
            full = torch.sym_max(full, self.smallest)
            if not torch.compiler.is_exporting() and full == size:
                return x
        return x.index_select(dim, mirrored(torch.arange(full, device=x.device), size))

    @abstractmethod
    def translate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W); H and W are multiples of `size_multiple`."""


def mirrored(index: Tensor, size: int) -> Tensor:
    """Where rows beyond the end come from: reflected at the last one and, where that runs out, the first."""
    last = size - 1
    return (last - (last - index).abs()).clamp(min=0)


def cropped(x: Tensor, dim: int, size: int) -> Tensor:
    """The first `size` entries."""
    if not torch.jit.is_scripting():  # noqa: SIM102  # TorchScript compiles what follows `and`
        if not torch.jit.is_tracing() and not torch.compiler.is_exporting():
            return x.narrow(dim, 0, size)
    return x.index_select(dim, torch.arange(size, device=x.device))


def check_size(net: nn.Module, width: int, height: int) -> None:
    """Raise UsageError if the images are smaller than the network's `min_size`, if it has one."""
    smallest = getattr(net, "min_size", 1)
    if min(width, height) < smallest:
        arguments = getattr(net, "arguments", {})
        kind = next((f"--{key} {arguments[key]}" for key in ("netG", "netD") if key in arguments), type(net).__name__)
        raise UsageError(f"{kind} needs images of at least {smallest}x{smallest}, not {width}x{height}; use a larger "
                         f"--crop_size (and --load_size), or a network with fewer layers")
