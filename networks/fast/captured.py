"""A network's forward pass as one CUDA graph, for recurring image sizes."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from networks.fast.boundary import Wrapped
from util.errors import one_line
from util.memory import ran_out
from util.notices import notice

AFTER = 2                # eager calls per shape before it is captured, in which kernels are chosen
SHAPES = 4               # graphs kept, each with memory of its own
POSITIONS = 2 ** 20      # of a batch, from which a GPU is busy longer than its kernels take to start


class Captured(Wrapped):
    """`forward`, replayed as a graph from the third call with images of one shape on.

    Starting its kernels one by one takes longer than running them, and keeps Python from reading and writing meanwhile.
    For networks that depend on nothing but their input, such as ours without dropout.
    """

    def __init__(self, method: Callable, net: nn.Module):
        super().__init__(method)
        self.net = net
        self.refused = False
        self.calls: dict[tuple[int, ...], int] = {}
        self.graphs: dict[tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if len(args) == 1 and not kwargs else None
        if not torch.is_tensor(x) or not self._can_be_captured(x):
            return self.method(*args, **kwargs)
        shape = tuple(x.shape)
        self.calls[shape] = self.calls.get(shape, 0) + 1
        if shape not in self.graphs and not self._capture(x):
            return self.method(x)
        graph, source, result = self.graphs[shape]
        source.copy_(x)
        graph.replay()
        return result.clone()

    def _can_be_captured(self, x: Tensor) -> bool:
        usual = x.device.type == "cuda" and x.dim() == 4 and x.dtype == torch.float32 and not torch.is_grad_enabled()
        if self.refused or not usual or len(x) * x.shape[2] * x.shape[3] > POSITIONS:
            return False
        return not any(isinstance(module, _DropoutNd) and module.training and module.p for module in self.net.modules())

    def _capture(self, x: Tensor) -> bool:
        """Record the graph for this shape, if it has come often enough and there is room for it."""
        if self.calls[tuple(x.shape)] <= AFTER or len(self.graphs) >= SHAPES:
            return False
        graph, source = torch.cuda.CUDAGraph(), x.clone()
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # cached casts of weights would be freed before a replay
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = self.method(source)
            if not torch.is_tensor(result):
                raise TypeError("the network returns more than one tensor")
        except (RuntimeError, TypeError) as error:
            if ran_out(error):
                raise
            notice("captured", f"the network is not captured as a CUDA graph: {one_line(error)}")
            self.refused = True
            return False
        finally:
            torch.set_autocast_cache_enabled(cached)
        self.graphs[tuple(x.shape)] = graph, source, result
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.method, memo)
