"""A network as a graph of layers for images of one size, and the regions of their inputs and outputs."""

import copy
import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from networks.adm import Attention, TimeEmbedding
from networks.blur import Downsample, Upsample
from networks.fast.table import plain
from networks.fast.tile_layers import Layer, Norm, Region, Span, layer_of
from networks.layers import AnySize
from util.errors import UsageError, one_line


class Graph:
    """The layers of a network for images of one size (H, W), in the order in which they run.

    Raises UsageError for a network that can't be divided into tiles.
    """

    def __init__(self, net: nn.Module, channels: int, size: tuple[int, int]):
        self.size = size
        self.full = size
        if isinstance(net, AnySize):
            self.full = tuple(max(side + -side % net.size_multiple, net.smallest) for side in size)
        self.net = net
        self.vectors: dict[str, Any] = {}  # what is the same for all pixels, of the image at hand
        self.layers, self.output, self.makes = traced(net, (channels, *self.full), self.vectors)
        self.readers = {name: [reader for reader, layer in self.layers.items() if name in layer.inputs]
                        for name in self.layers}
        self.smallest = min((self.numbers(name) for name, layer in self.layers.items() if isinstance(layer, Norm)),
                            default=0)  # numbers that a norm puts out

    def find_vectors(self, image: Tensor) -> None:
        """Compute what is the same for all pixels of an image (1, C, H, W)."""
        found: dict[str, Any] = {}
        for node in self.makes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: found.get(source.name, image))
            if node.op == "call_module":
                found[node.name] = self.net.get_submodule(str(node.target))(*args, **kwargs)
            else:
                function: Any = getattr(Tensor, str(node.target)) if node.op == "call_method" else node.target
                found[node.name] = function(*args, **kwargs)
        self.vectors.update(found)

    def numbers(self, name: str) -> int:
        """How many numbers a layer puts out."""
        return math.prod(self.layers[name].shape)

    def reached(self, targets: list[str], stored: set[str]) -> list[str]:
        """The layers that the targets depend on, back to those stored (included), in the order of the network."""
        found: set[str] = set()
        todo = list(targets)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += [] if name in stored else self.layers[name].inputs
        return [name for name in self.layers if name in found]


def traced(net: nn.Module, size: tuple[int, ...],
           vectors: dict[str, Any]) -> tuple[dict[str, Layer], str, list[fx.Node]]:
    """Name -> layer with the shape (C, H, W) of its output, in order; the name of the last; what makes `vectors`."""
    shells: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in net.buffers()}
    shells |= {id(weight): nn.Parameter(weight.detach().to("meta"), False) for weight in net.parameters()}
    twin = plain(copy.deepcopy(net, shells))  # without a copy of the weights
    tracer = Tracer()
    tracer.traced_func_name = "translate" if isinstance(net, AnySize) else "forward"
    try:
        nodes = tracer.trace(twin)
        shapes = Shapes(fx.GraphModule(twin, nodes))
        shapes.run(torch.empty((1, *size), device="meta"))
        *inner, last = nodes.nodes
        result = last.args[0]
        if not isinstance(result, fx.Node) or sum(node.op == "placeholder" for node in inner) != 1:
            raise ValueError("it does not map one image to one image")
    except Exception as error:  # of a plugin's network: anything
        raise UsageError(f"{type(net).__name__} can't be computed in tiles: {one_line(error)}") from error
    makes: list[fx.Node] = []
    for node in inner:
        if _is_one_pixel(node) or (node.all_input_nodes and all(source in makes for source in node.all_input_nodes)):
            makes.append(node)
    vectors.update(dict.fromkeys(node.name for node in makes))
    images = [node for node in inner if node not in makes]
    return {node.name: layer_of(node, net, shapes.found, vectors) for node in images}, result.name, makes


def _is_one_pixel(node: fx.Node) -> bool:
    """Whether a node takes a pixel of the input, x[:, channel, row, column]."""
    index = node.args[1] if node.target is operator.getitem else ()
    return (isinstance(index, tuple) and len(index) == 4 and all(isinstance(place, int) for place in index[1:])
            and node.all_input_nodes[0].op == "placeholder")


class Tracer(fx.Tracer):
    """Sees a blur, attention and the embedding of a time as one layer each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaves = Downsample, Upsample, Attention, TimeEmbedding
        return isinstance(m, leaves) or super().is_leaf_module(m, module_qualified_name)


class Shapes(fx.Interpreter):
    """Runs a graph on the meta device, to learn the shape (C, H, W) of every layer's output."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module)
        self.found: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.found[n.name] = tuple(value.shape[1:]) if torch.is_tensor(value) else ()
        return value


def needed(layer: Layer, region: Region, plane: tuple[int, ...]) -> Region:
    """The region of an input of size `plane` (H, W) that a region of a layer's output needs."""
    spans = []
    for axis, (span, size) in enumerate(zip(region, plane, strict=True)):
        first, last = layer.reach(span, axis)
        low, high = min(max(first, 0), size - 1), max(min(last, size), 1)
        if layer.mode == "reflect":
            low = min(low, 2 * (size - 1) - (last - 1)) if last > size else low
            high = max(high, 1 - first) if first < 0 else high
        spans.append((low, max(high, low + 1)))
    return spans[0], spans[1]


def cut(x: Tensor, has: Region, layer: Layer, region: Region, plane: tuple[int, ...]) -> Tensor:
    """What a layer needs for a region, out of an input of which `has` is computed; padded where it leaves the image."""
    around: list[int] = []
    crops = []
    for axis, (own, span, size) in enumerate(zip(needed(layer, region, plane), region, plane, strict=True)):
        first, last = layer.reach(span, axis)
        x = x.narrow(axis + 2, own[0] - has[axis][0], own[1] - own[0])
        before, after = max(0, -first), max(0, last - size)
        around = [before, after, *around]
        crops.append((first - (own[0] - before), last - first))
    if any(around):
        with torch.autocast(x.device.type, enabled=False):
            x = F.pad(x, around, layer.mode)
    for axis, (start, length) in enumerate(crops):
        x = x.narrow(axis + 2, start, length)
    return x


def part(number: int, of: int, size: int) -> Span:
    """One of equal parts of a side."""
    return number * size // of, (number + 1) * size // of


def around(one: Region, other: Region) -> Region:
    """The smallest region that holds both."""
    rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return rows, columns


def within(x: Tensor, has: Region, wanted: Region) -> Tensor:
    """A part of a tensor that holds the region `has`."""
    (top, bottom), (left, right) = wanted
    return x[..., top - has[0][0]:bottom - has[0][0], left - has[1][0]:right - has[1][0]]


def put(into: Tensor, region: Region, value: Tensor) -> None:
    """Write a region, as far as it lies in the tensor."""
    (top, bottom), (left, right) = region
    place = into[..., top:bottom, left:right]
    place.copy_(value[..., :place.shape[2], :place.shape[3]])
