"""The layers of a network as `tiles` sees them: which part of its input a part of the output needs."""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.padding import _ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd
from torch.nn.utils.parametrize import is_parametrized

from networks.adm import Attention
from networks.blur import Downsample, Upsample
from networks.layers import without_parametrizations
from util.errors import UsageError

Span = tuple[int, int]      # first, and one past the last
Region = tuple[Span, Span]  # rows, columns
POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Identity, nn.Hardtanh,
             nn.Softplus)
FUNCTIONS = {torch.add, operator.add, operator.iadd, torch.sub, operator.sub, torch.mul, operator.mul, torch.cat,
             torch.tanh, torch.relu, torch.sigmoid, F.relu, F.leaky_relu, F.sigmoid, F.tanh, operator.getitem}
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}
METHODS = {"add", "sub", "mul", "tanh", "relu", "sigmoid", "float", "contiguous"}


class Layer:
    """Each output pixel depends only on the same pixel of the inputs; subclasses that need more override `reach`."""

    mode = "constant"  # of the padding where `reach` leaves the image, as F.pad calls it
    pointwise = True

    def __init__(self, inputs: list[str], shape: tuple[int, ...]):
        self.inputs, self.shape = inputs, shape  # (C, H, W) of the output

    def reach(self, span: Span, axis: int) -> Span:
        """The input rows (axis 0) or columns (1) that the given output ones need; may reach beyond the image."""
        return span

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        """The output's region, from those of the inputs that it reaches: the only one, unless overridden."""
        return values[0]


class Source(Layer):
    """The image, which is loaded instead of computed."""


class Called(Layer):
    """A function, method or pointwise module, called as the network calls it."""

    def __init__(self, inputs: list[str], shape: tuple[int, ...], node: fx.Node, function: Any, vectors: dict):
        super().__init__(inputs, shape)
        self.node, self.function, self.vectors = node, function, vectors

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        known = self.vectors | dict(zip(self.inputs, values, strict=True))
        args, kwargs = fx.map_arg((self.node.args, self.node.kwargs), lambda node: known[node.name])
        return self.function(*args, **kwargs)


class Window(Layer):
    """A convolution, a mean or a padding: output i needs inputs from `i * stride - before` on, `width` of them."""

    pointwise = False

    def __init__(self, inputs: list[str], shape: tuple[int, ...], module: nn.Module):
        super().__init__(inputs, shape)
        self.module = copy.copy(module)  # with the weights of the module
        self.stride, self.width = (1, 1), (1, 1)
        if isinstance(module, nn.Conv2d):
            around = module._reversed_padding_repeated_twice
            if module.padding_mode not in MODES:
                raise UsageError(f"its padding is {module.padding_mode}")
            self.mode = MODES[module.padding_mode]
            self.stride = tuple(module.stride)
            self.width = tuple(d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True))
            self.module.padding, self.module.padding_mode = (0, 0), "zeros"
        elif isinstance(module, nn.AvgPool2d):
            self.width, self.stride = pair(module.kernel_size), pair(module.stride)
            around = (0, 0, 0, 0)
            if pair(module.padding) != (0, 0) or module.ceil_mode:
                raise UsageError("it means over pixels beyond the image")
        else:
            around, self.module = module.padding, nn.Identity()
            kind = {_ReflectionPadNd: "reflect", _ReplicationPadNd: "replicate"}
            self.mode = next((mode for base, mode in kind.items() if isinstance(module, base)), "constant")
            if isinstance(module, _ConstantPadNd) and module.value != 0:
                raise UsageError(f"padding by {module.value} is not zero")
        self.before = around[2], around[0]

    def reach(self, span: Span, axis: int) -> Span:
        first = span[0] * self.stride[axis] - self.before[axis]
        return first, (span[1] - 1) * self.stride[axis] - self.before[axis] + self.width[axis]

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        return self.module(values[0])


class Transposed(Layer):
    """A transposed convolution: input i adds to outputs from `i * stride - padding` on."""

    pointwise = False

    def __init__(self, inputs: list[str], shape: tuple[int, ...], module: nn.ConvTranspose2d):
        super().__init__(inputs, shape)
        self.stride, self.padding, self.module = module.stride, module.padding, copy.copy(module)
        self.width = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        self.module.padding = self.module.output_padding = (0, 0)
        if any(width + 1 < stride for width, stride in zip(self.width, self.stride, strict=True)):
            raise UsageError("its stride is larger than its kernel")

    def reach(self, span: Span, axis: int) -> Span:
        shift = int(self.padding[axis])
        return (-((self.width[axis] - span[0] - shift) // self.stride[axis]),
                (span[1] - 1 + shift) // self.stride[axis] + 1)

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        y = self.module(values[0])
        for axis, span in enumerate(region):
            start = span[0] - self.reach(span, axis)[0] * self.stride[axis] + int(self.padding[axis])
            y = y.narrow(axis + 2, start, span[1] - span[0])
        return y


class Upsampled(Layer):
    """Each pixel becomes several: repeated, interpolated between `margin` neighbours, or made of several channels."""

    pointwise = False
    mode = "replicate"
    margins = {"nearest": 0, "bilinear": 1, "bicubic": 2}

    def __init__(self, inputs: list[str], shape: tuple[int, ...], module: nn.Upsample | nn.PixelShuffle):
        super().__init__(inputs, shape)
        self.module, kind = module, getattr(module, "mode", "nearest")
        scale: Any = getattr(module, "scale_factor", None) or getattr(module, "upscale_factor", None)
        self.factors = [int(factor or 0) for factor in pair(scale)]
        if kind not in self.margins or self.factors != [*pair(scale)] or getattr(module, "align_corners", False):
            raise UsageError(f"upsampling by {scale} ({kind}) is not by whole numbers")
        self.margin = self.margins[kind]

    def reach(self, span: Span, axis: int) -> Span:
        factor = self.factors[axis]
        return span[0] // factor - self.margin, (span[1] - 1) // factor + 1 + self.margin

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        y = self.module(values[0])
        for axis, (first, last) in enumerate(region):
            y = y.narrow(axis + 2, first - self.reach((first, last), axis)[0] * self.factors[axis], last - first)
        return y


class Norm(Layer):
    """Instance norm, or batch norm of each image by itself: needs the mean and variance of the whole image."""

    def __init__(self, inputs: list[str], shape: tuple[int, ...], norm: Any):
        super().__init__(inputs, shape)
        self.norm = norm
        self.mean: Tensor | None = None
        self.variance: Tensor | None = None

    def settle(self, mean: Tensor, variance: Tensor) -> None:
        """Take the statistics (C,) of the image."""
        if isinstance(self.norm, nn.GroupNorm):       # of a group: those of its channels, and how far they are apart
            groups, size = self.norm.num_groups, len(mean) // self.norm.num_groups
            square = (variance + mean.square()).view(groups, size).mean(1)
            mean = mean.view(groups, size).mean(1)
            variance = (square - mean.square()).clamp(min=0)
            mean, variance = (found.repeat_interleave(size) for found in (mean, variance))
        self.mean, self.variance = mean, variance

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        return F.batch_norm(values[0], self.mean, self.variance, self.norm.weight, self.norm.bias, False, 0.0,
                            self.norm.eps)


class Whole(Layer):
    """A module of which every output position sees all of the image, computed once."""

    def __init__(self, inputs: list[str], shape: tuple[int, ...], module: nn.Module):
        super().__init__(inputs, shape)
        self.module = module

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        return self.module(values[0], None)


class Dropout(Layer):
    """Dropout that stays on at test time: drawn for the whole image, as the network would draw it."""

    def __init__(self, inputs: list[str], shape: tuple[int, ...], dropout: Any):
        super().__init__(inputs, shape)
        self.dropout = copy.copy(dropout)
        self.dropout.inplace = False
        self.kept = torch.empty(0)

    def draw(self, number: int, device: torch.device) -> None:
        """Draw for image `number` of the batch."""
        ones: Any = torch.ones((), device=device).expand(1, *self.shape)
        ones.image = number
        self.kept = (self.dropout(ones) > 0).cpu()

    def __call__(self, values: list[Tensor], region: Region) -> Tensor:
        x, p = values[0], self.dropout.p
        if p == 1:
            return torch.zeros_like(x)
        (top, bottom), (left, right) = region
        kept = self.kept if self.kept.shape[2:] == (1, 1) else self.kept[..., top:bottom, left:right]
        return x * kept.to(x.device, x.dtype) / (1 - p)


def layer_of(node: fx.Node, net: nn.Module, shapes: dict[str, tuple[int, ...]], vectors: dict[str, Any]) -> Layer:
    """The layer that a node of a traced network stands for; raises UsageError for one that has no tiles.

    `vectors` will hold what is no image, but the same for all pixels.
    """
    inputs = [source.name for source in node.all_input_nodes if source.name not in vectors]
    shape = shapes[node.name]
    if node.op == "placeholder":
        return Source([], shape)
    try:
        if len(shape) != 3:
            raise UsageError("it is no image")
        _check_in_place(node, net)
        if node.op != "call_module" and any(shapes[name][-2:] != shape[-2:] for name in inputs):
            raise UsageError("its inputs differ in size")
        if node.op == "call_module":
            return _of_module(node, net.get_submodule(str(node.target)), inputs, shape)
        if node.op == "call_function" and node.target in FUNCTIONS:
            _check_function(node)
            return Called(inputs, shape, node, node.target, vectors)
        if node.op == "call_method" and node.target in METHODS:
            return Called(inputs, shape, node, getattr(Tensor, str(node.target)), vectors)
        raise UsageError("it is not known how far it reaches")
    except UsageError as error:
        what = type(net.get_submodule(str(node.target))).__name__ if node.op == "call_module" else node.name
        raise UsageError(f"{what} in {type(net).__name__} can't be computed in tiles ({error})") from error


def _of_module(node: fx.Node, module: Any, inputs: list[str], shape: tuple[int, ...]) -> Layer:
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    if any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks):
        raise UsageError("hooks change what it does")
    module = without_parametrizations(copy.deepcopy(module)) if is_parametrized(module) else module
    if isinstance(module, (nn.Conv2d, nn.AvgPool2d, _ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd)):
        return Window(inputs, shape, module)
    if isinstance(module, nn.ConvTranspose2d):
        return Transposed(inputs, shape, module)
    if isinstance(module, Downsample):
        return Window(inputs, shape, with_filter(nn.Conv2d, module.filt, padding_mode="reflect"))
    if isinstance(module, Upsample):
        layer = Transposed(inputs, shape, with_filter(nn.ConvTranspose2d, module.filt))
        layer.mode = "replicate"
        return layer
    if isinstance(module, (nn.Upsample, nn.PixelShuffle)):
        return Upsampled(inputs, shape, module)
    if isinstance(module, (nn.GroupNorm, nn.InstanceNorm2d, _BatchNorm)) and _is_of_image(module):
        return Norm(inputs, shape, module)
    if isinstance(module, Attention):
        return Whole(inputs, shape, module)
    if type(module) in (nn.Dropout, nn.Dropout2d) and module.training:
        return Dropout(inputs, shape, module)
    if isinstance(module, (*POINTWISE, _NormBase)) or (isinstance(module, _DropoutNd) and not module.training):
        return Called(inputs, shape, node, module, {})
    raise UsageError("it is not known how far it reaches")


def pair(value: Any) -> tuple[Any, Any]:
    """The values for rows and columns."""
    return value if isinstance(value, tuple) else (value, value)


def with_filter(kind: Any, kernel: Tensor, **arguments: Any) -> Any:
    """A blur's convolution, of each channel by itself, which is padded where it leaves the image."""
    count, size = kernel.shape[0], kernel.shape[2]
    module = kind(count, count, size, 2, 1, groups=count, bias=False, device=kernel.device, **arguments)
    module.weight = nn.Parameter(kernel, requires_grad=False)
    return module


def _is_of_image(norm: Any) -> bool:
    """Whether a norm uses statistics of the image at hand."""
    return norm.training or getattr(norm, "running_mean", None) is None


def _check_in_place(node: fx.Node, net: nn.Module) -> None:
    module = net.get_submodule(str(node.target)) if node.op == "call_module" else None
    in_place = getattr(module, "inplace", False) or node.target is operator.iadd or node.kwargs.get("inplace")
    if in_place and any(len(source.users) > 1 for source in node.all_input_nodes):
        raise UsageError("it changes in place what other layers read")


def _check_function(node: fx.Node) -> None:
    if node.target is torch.cat and (node.kwargs.get("dim", (*node.args[1:], 0)[0]) not in (1, -3)):
        raise UsageError("it does not join channels")
    if node.target is operator.getitem and not (isinstance(index := node.args[1], tuple) and len(index) == 2):
        raise UsageError("it takes a part of an image")
