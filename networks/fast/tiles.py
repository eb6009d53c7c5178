"""Translate a large image tile by tile: the result of the whole image, in bounded memory.

A network becomes a graph of layers, each of which knows what part of its input a part of its output needs. Norms that
use statistics of the whole image divide the work: a pass over all tiles gathers the statistics of one norm, and stores
its input, in host memory, for the passes after it. What is too large to be stored is computed again.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from mmap import mmap
from typing import Any

import torch
from torch import Tensor, nn

from networks.fast.boundary import Wrapped
from networks.fast.layers import Statistics
from networks.fast.tile_graph import Graph, around, cut, needed, part, put, within
from networks.fast.tile_layers import Dropout, Norm, Region, Source, Span, Whole
from networks.layers import mirrored
from util.errors import UsageError
from util.memory import available_memory
from util.notices import notice

SIDE = 512       # of a tile, in pixels of the image, unless given
FINEST = 4       # layers reduced further than this have tiles as large as those reduced this much
STORED = 3 * 2 ** 29  # largest layer output, in bytes, kept rather than recomputed; that of the smallest norm always is
BAND = 16        # rows of a layer that share a piece of memory
WHOLE = 4        # times the largest layer's output: what a whole image needs at once
SHARE = 0.8      # of the free memory, up to which images are not divided


class Tiled(Wrapped):
    """`forward` of a generator in tiles of this side, or for `auto` if the whole image does not fit into memory."""

    def __init__(self, method: Callable, net: nn.Module, tile: int | str, precision: torch.dtype | None,
                 channels_last: bool):
        super().__init__(method)
        self.net, self.tile, self.precision, self.channels_last = net, tile, precision, channels_last
        self.enlarges = getattr(net, "scale", 1)  # how much larger than its input the output is
        self.graph: Graph | None = None  # of the last size

    def __call__(self, x: Tensor, *more: Any, **named: Any) -> Any:
        auto = self.tile == "auto"
        side = SIDE // self.enlarges if auto else int(self.tile)
        if torch.is_grad_enabled() or max(x.shape[-2:]) <= side or (auto and self._fits(x, self._widest(x))):
            return self.method(x, *more, **named)
        try:
            if more or named:
                raise UsageError(f"{type(self.net).__name__} takes more than an image and can't be computed in tiles")
            graph = self._graph(x)
        except UsageError as error:
            if auto:
                notice("tiles", f"large images are translated whole: {error}")
                return self.method(x, *more, **named)
            raise
        if auto and self._fits(x, max(map(graph.numbers, graph.layers))):
            return self.method(x)
        results = [Run(graph, image, number, side, self._arithmetic, self.channels_last).translate()
                   for number, image in enumerate(x.split(1))]
        return torch.cat(results) if len(results) > 1 else results[0]

    def _graph(self, x: Tensor) -> Graph:
        size = x.shape[2], x.shape[3]
        if self.graph is None or self.graph.size != size:
            self.graph = Graph(self.net, x.shape[1], size)
        return self.graph

    def _widest(self, x: Tensor) -> int:
        """An upper bound on the size of any layer's output, cheaper than the maximum."""
        widths = [module.out_channels for module in self.net.modules()
                  if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
        return max(widths, default=0) * x.shape[-2] * x.shape[-1] * self.enlarges ** 2

    def _fits(self, x: Tensor, numbers: int) -> bool:
        """Whether these images fit whole, given how many values the largest layer outputs for each."""
        free = torch.cuda.mem_get_info(x.device)[0] if x.device.type == "cuda" else available_memory()
        size = 4 if self.precision is None else 2
        return not free or WHOLE * size * len(x) * numbers < SHARE * free

    def _arithmetic(self, kind: str) -> Any:
        return torch.autocast(kind, self.precision) if self.precision is not None else nullcontext()


class Run:
    """One image on its way through the network, pass by pass."""

    def __init__(self, graph: Graph, image: Tensor, number: int, side: int, arithmetic: Callable[[str], Any],
                 channels_last: bool):
        self.graph, self.layers, self.image, self.number, self.side = graph, graph.layers, image, number, side
        self.arithmetic, self.device = arithmetic, image.device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.storable = max(STORED, 2 * graph.smallest)  # bytes
        self.source, = (name for name, layer in self.layers.items() if isinstance(layer, Source))
        self.spare: list[Tensor] = []
        self.stored: dict[str, Bands] = {self.source: Bands(self.format, self.spare)}  # the image itself is elsewhere

    def translate(self) -> Tensor:
        """(1, C', H, W)."""
        self.graph.find_vectors(self.image)
        for name, layer in self.layers.items():
            if isinstance(layer, Dropout):
                layer.draw(self.number, self.device)
            elif isinstance(layer, Norm):
                statistics = Statistics()
                self.go_through(layer.inputs[0], statistics.add)
                layer.settle(*(found.to(self.device) for found in statistics.found()))
            elif isinstance(layer, Whole):
                self.compute_whole(name, layer)
            elif self._is_shared(name):
                self.go_through(name)
        channels, *plane = self.layers[self.graph.output].shape
        size = self.graph.size if tuple(plane) == tuple(self.graph.full) else plane
        result = torch.empty((1, channels, *size), device=self.device)
        self.go_through(self.graph.output, result=result)
        return result

    def compute_whole(self, name: str, layer: Whole) -> None:
        """Store a layer that sees all of its input; raises UsageError if that is too large."""
        source = layer.inputs[0]
        if source not in self.stored:
            if not self._can_be_stored(source):
                raise UsageError(f"{type(layer.module).__name__} sees the whole image, which is too large for it")
            self.go_through(source)
        (_, height, width), plane = layer.shape, self.layers[source].shape[1:]
        everything = (0, height), (0, width)
        with self.arithmetic(self.device.type):
            value = layer([self._load(source, ((0, plane[0]), (0, plane[1])))], everything)
        self.stored[name] = Bands(self.format, self.spare)
        self.stored[name].put(everything, value, width)

    def _is_shared(self, name: str) -> bool:
        """Whether several layers read this one, it can be stored, and is no pointwise combination of stored layers."""
        if len(self.graph.readers[name]) < 2 or name in self.stored or not self._can_be_stored(name):
            return False
        path = self.graph.reached([name], set(self.stored))
        return not all(self.layers[step].pointwise for step in path if step not in self.stored)

    def _can_be_stored(self, name: str) -> bool:
        return 2 * self.graph.numbers(name) <= self.storable

    def _to_store(self, target: str, path: list[str]) -> list[str]:
        """The layers to store in a pass: the target, and what is combined from several stored ones for later passes."""
        sources: dict[str, set[str]] = {}
        chosen = []
        for name in path:
            sources[name] = {name} if name in self.stored else set().union(*map(sources.get, self.layers[name].inputs))
            combined = len(self.graph.readers[name]) > 1 and self.layers[name].pointwise and len(sources[name]) > 1
            if name not in self.stored and (combined or name == target) and self._can_be_stored(name):
                chosen.append(name)
        return chosen

    def go_through(self, target: str, watch: Callable[[Tensor], None] | None = None,
                   result: Tensor | None = None) -> None:
        """Compute a layer tile by tile: show its tiles to `watch`, and put them into `result`, or store them."""
        path = self.graph.reached([target], set(self.stored))
        chosen = self._to_store(target, path) if result is None else []
        new = {name: Bands(self.format, self.spare) for name in chosen}
        after = set(self.graph.reached([self.graph.output], {*self.stored, *new})) if result is None else set()
        for row, below in pairwise([*self._rows(target, [target, *new]), []]):
            for cores in row:
                values = self._compute(path, cores)
                if watch:
                    watch(values[target])
                if result is not None:
                    put(result, cores[target], values[target])
                for name, bands in new.items():
                    bands.put(cores[name], self._as_stored(name, values[name]), self.layers[name].shape[2])
            needs = self._needs(path, below[0]) if below else {}
            for name in self.stored.keys() - after:
                self.stored[name].release(needs[name][0][0] if name in needs else None)
            if not new:
                self.spare.clear()
        self.stored = {name: kept for name, kept in self.stored.items() if name in after} | new
        self.spare.clear()

    def _as_stored(self, name: str, value: Tensor) -> Tensor:
        """In 16 bits if 32 would take too much."""
        large = value.dtype == torch.float32 and 4 * self.graph.numbers(name) > self.storable
        return value.half() if large else value

    def _rows(self, target: str, names: list[str]) -> Iterator[list[dict[str, Region]]]:
        """For each row of tiles, and each tile in it: the region of each named layer that belongs to it alone."""
        plane = self.layers[target].shape[1:]
        sides = [max(self.side * size // full, self.side // FINEST, 1)
                 for size, full in zip(plane, self.graph.full, strict=True)]
        rows, columns = (-(-size // side) for size, side in zip(plane, sides, strict=True))
        planes = {name: self.layers[name].shape[1:] for name in names}
        for row in range(rows):
            yield [{name: (part(row, rows, height), part(column, columns, width))
                    for name, (height, width) in planes.items()} for column in range(columns)]

    def _needs(self, path: list[str], cores: dict[str, Region]) -> dict[str, Region]:
        """What has to be computed, or loaded, of each layer on a path."""
        needs = dict(cores)
        for name in reversed(path):
            for source in self.layers[name].inputs if name in needs and name not in self.stored else ():
                region = needed(self.layers[name], needs[name], self.layers[source].shape[1:])
                needs[source] = around(needs.get(source, region), region)
        return needs

    def _compute(self, path: list[str], cores: dict[str, Region]) -> dict[str, Tensor]:
        """The cores of a tile."""
        needs, values, found = self._needs(path, cores), {}, {}
        last = {source: name for name in path if name not in self.stored for source in self.layers[name].inputs}
        with self.arithmetic(self.device.type):
            for name in path:
                layer, region = self.layers[name], needs.get(name)
                if region is None:
                    continue
                if name in self.stored:
                    values[name] = self._load(name, region)
                else:
                    inputs = [cut(values[source], needs[source], layer, region, self.layers[source].shape[1:])
                              for source in layer.inputs]
                    values[name] = layer(inputs, region)
                if name in cores:
                    found[name] = within(values[name], region, cores[name])
                for source in layer.inputs:
                    if last.get(source) == name:
                        values.pop(source, None)
        return found

    def _load(self, name: str, region: Region) -> Tensor:
        if name == self.source:
            x = self.image
            for axis, (first, last) in enumerate(region):  # beyond its edges as AnySize enlarges it
                index = mirrored(torch.arange(first, last, device=x.device), x.shape[axis + 2])
                x = x.index_select(axis + 2, index)
        else:
            x = self.stored[name].load(region).to(self.device)
        x = x.float() if x.dtype == torch.float16 else x  # stored so to save memory
        return x.contiguous(memory_format=self.format)


class Bands:
    """A layer's output in host memory, in bands of rows, which are given back as soon as they have been read."""

    def __init__(self, memory_format: Any, spare: list[Tensor]):
        self.format, self.spare = memory_format, spare      # memory given back, of one size
        self.bands: list[tuple[Span, Tensor, Tensor]] = []  # rows, (1, C, rows, W), and their memory

    def put(self, region: Region, value: Tensor, width: int) -> None:
        """Store a tile of a layer of this width; rows of tiles follow each other."""
        (top, bottom), (left, right) = region
        for first in range(max(top, self.bands[-1][0][1] if self.bands else 0), bottom, BAND):
            rows = first, min(first + BAND, bottom)
            self.bands.append((rows, *self._memory(value.shape[1], rows[1] - rows[0], width, value.dtype)))
        for (first, last), band, _ in self.bands:
            if top <= first and last <= bottom:
                band[..., left:right].copy_(value[:, :, first - top:last - top])

    def load(self, region: Region) -> Tensor:
        """(1, C, rows, columns)."""
        (top, bottom), (left, right) = region
        parts = [band[:, :, max(top, first) - first:min(bottom, last) - first, left:right]
                 for (first, last), band, _ in self.bands if first < bottom and last > top]
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

    def release(self, row: int | None) -> None:
        """Give back the bands above a row, or all."""
        above = [memory for (_, last), _, memory in self.bands if row is None or last <= row]
        self.bands = self.bands[len(above):]
        self.spare += above

    def _memory(self, channels: int, rows: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A band (1, C, rows, W) in memory that is spare, or straight from the system: malloc would keep it."""
        size, taken = BAND * width * channels, rows * width * channels
        if self.spare and (len(self.spare[-1]), self.spare[-1].dtype) == (size, dtype):
            memory = self.spare.pop()
        else:
            self.spare.clear()
            memory = torch.frombuffer(mmap(-1, size * dtype.itemsize), dtype=dtype, count=size)
        if self.format == torch.channels_last:
            return memory[:taken].view(1, rows, width, channels).permute(0, 3, 1, 2), memory
        return memory[:taken].view(1, channels, rows, width), memory
