"""What the network families share: norms, initialisation, padding to a size they can take."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from util.errors import UsageError, unknown
from util.registry import Registry

NORMS = Registry("norm")
INIT_TYPES = {
    "normal": lambda weight, gain: init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: init.orthogonal_(weight, gain=gain),
}


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's own, but with statistics in float32 for every input, and a gradient that is right.

    On a CPU the gradient of `F.instance_norm` for one image is wrong where that of its result arrives channels-last
    (torch 2.11 to 2.15); batch norm of each image by itself is the same function. Compiled, the formula is fused with
    its neighbours.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.track_running_stats or x.dim() != 4 or (x.device.type != "cpu" and not torch.compiler.is_compiling()):
            return super().forward(x)
        if torch.compiler.is_compiling():
            values = x if x.dtype == torch.float64 else x.float()
            variance, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
            y = (values - mean) * torch.rsqrt(variance + self.eps)
            return (y if self.weight is None else y * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)
        images = [F.batch_norm(image, None, None, self.weight, self.bias, training=True, eps=self.eps)
                  for image in x.split(1)]
        return images[0] if len(images) == 1 else torch.cat(images)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's own; of batches that share a call (`networks.together`) each has statistics of its own."""

    batches: Sequence[int] = ()       # the images of each, while they share one

    def forward(self, x: Tensor) -> Tensor:
        if not self.batches:
            return self.norm(x)
        return torch.cat([self.norm(batch) for batch in x.split(self.batches)])

    def norm(self, x: Tensor) -> Tensor:
        """One batch (N, C, H, W)."""
        return super().forward(x)


class ReflectionPad2d(nn.ReflectionPad2d):
    """torch's own, in the precision of its input; compiled, it is put together from slices, whose gradient fuses better
    than that of a gather.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            with torch.autocast("cpu", enabled=False):  # which would pad in float32
                return super().forward(x)
        left, right, above, below = self.padding
        x = torch.cat((x[..., 1:left + 1].flip(-1), x, x[..., -right - 1:-1].flip(-1)), -1)
        return torch.cat((x[..., 1:above + 1, :].flip(-2), x, x[..., -below - 1:-1, :].flip(-2)), -2)


class Tanh(nn.Tanh):
    """torch's own in float32: in bf16 everything above 0.998 is 1, from where no gradient leads back."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)


NORMS.register("batch", affine=True, track_running_stats=True)(nn.BatchNorm2d)
NORMS.register("instance", affine=False, track_running_stats=False)(InstanceNorm2d)
# `networks.fast.sync_batch_norm` makes either one over all processes: the same layer, the same keys.
NORMS.register("syncbatch", affine=True, track_running_stats=True)(nn.BatchNorm2d)
NORMS.register("none")(nn.Identity)  # which keeps the index of the layers behind it


def get_norm_layer(norm_type: str = "instance") -> Callable[[int], nn.Module]:
    """The constructor of a norm for a number of channels; raises UsageError for an unknown name."""
    return NORMS.constructor(norm_type)


def needs_bias(norm_layer: Callable) -> bool:
    """Whether a convolution before this norm has a bias: only instance norm has no shift of its own to replace it."""
    norm = norm_layer.func if isinstance(norm_layer, partial) else norm_layer
    return inspect.isclass(norm) and issubclass(norm, nn.InstanceNorm2d)


def init_weights(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02) -> None:
    """Draw the weights of every convolution and linear layer anew; biases become 0, batch norm N(1, init_gain)."""
    if init_type not in INIT_TYPES:
        raise unknown("initialisation", init_type, INIT_TYPES)
    for module in net.modules():
        kind = type(module).__name__
        if ("Conv" in kind or "Linear" in kind) and getattr(module, "weight", None) is not None:
            INIT_TYPES[init_type](module.weight.data, init_gain)
            if getattr(module, "bias", None) is not None:
                init.constant_(module.bias.data, 0.0)
        elif "BatchNorm2d" in kind:
            init.normal_(module.weight.data, 1.0, init_gain)
            init.constant_(module.bias.data, 0.0)


def init_net(net: nn.Module, init_type: str = "normal", init_gain: float = 0.02, gpu_ids: Sequence = ()) -> nn.Module:
    """Initialise the weights and return the network; `gpu_ids`, which plugins of the reference pass, has no effect."""
    init_weights(net, init_type, init_gain)
    return net


class AnySize(nn.Module, ABC):
    """Makes a generator take every size, whose layers need multiples of `size_multiple` and at least `smallest`.

    A subclass defines `translate`. The input is padded at the right and below (reflected where it is large enough, else
    repeated) and the output cropped, so output and input agree in size; a fitting size passes untouched.
    """

    size_multiple = 1
    smallest = 1                                                  # a multiple of size_multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]                              # x: (N, C, H, W)
        right, below = (max(-size % self.size_multiple, self.smallest - size) for size in (width, height))
        if not right and not below:
            return self.translate(x)
        mode = "reflect" if right < width and below < height else "replicate"
        return self.translate(F.pad(x, (0, right, 0, below), mode))[..., :height, :width]

    @abstractmethod
    def translate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W) for sizes that fit."""


def check_size(net: nn.Module, width: int, height: int) -> None:
    """Raise UsageError where images to train on are smaller than the network's `min_size`, if it has one."""
    smallest = getattr(net, "min_size", 1)
    if min(width, height) < smallest:
        arguments = getattr(net, "arguments", {})
        kind = next((f"--{key} {arguments[key]}" for key in ("netG", "netD") if key in arguments), type(net).__name__)
        raise UsageError(f"{kind} needs images of at least {smallest}x{smallest}, not {width}x{height}; use a larger "
                         f"--crop_size (and --load_size), or a network with fewer layers")
