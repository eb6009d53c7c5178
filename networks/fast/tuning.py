"""How a network runs: precision, memory layout, recomputation, compilation; weights and keys stay as they are."""

import contextlib
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from networks.layers import BatchNorm2d, InstanceNorm2d, Tanh

WARM_UP, TIMED = 2, 3  # passes
# layers of torch, in a network of whoever wrote it
MENDED = {nn.BatchNorm2d: BatchNorm2d, nn.InstanceNorm2d: InstanceNorm2d, nn.Tanh: Tanh}


def tune(net: nn.Module, precision: torch.dtype | None, channels_last: bool, recompute: bool) -> None:
    """Run a network under autocast to `precision` (None casts nothing), on inputs in channels-last memory.

    What leaves it is float32 and contiguous again. With `recompute` its parts keep no activations and run again in the
    backward pass (Chen et al. 2016).
    """
    for module in net.modules():
        module.__class__ = MENDED.get(type(module), type(module))
    if recompute:
        _wrap_parts(net, lambda part: partial(_recomputed, net, part))
    if precision is not None or channels_last:
        net.forward = partial(_at_the_boundary, net.forward, precision, channels_last)


def _at_the_boundary(forward: Callable, precision: torch.dtype | None, channels_last: bool, *args: Any,
                     **kwargs: Any) -> Any:
    if channels_last:
        args = tuple(x.contiguous(memory_format=torch.channels_last) if torch.is_tensor(x) and x.dim() == 4 else x
                     for x in args)
    kind = next((x.device.type for x in args if torch.is_tensor(x)), "cpu")
    with torch.autocast(kind, precision) if precision is not None else contextlib.nullcontext():  # or a plugin's own
        out = forward(*args, **kwargs)
    return tree_map(lambda x: _as_usual(x, precision) if torch.is_tensor(x) else x, out)


def _as_usual(x: Tensor, precision: torch.dtype | None) -> Tensor:
    return (x.float() if x.dtype == precision else x).contiguous()


def may_lie_channels_last(net: nn.Module) -> bool:
    """Whether a network's gradients are right so on a CPU: where all its modules are torch's or ours.

    Others may call `F.instance_norm`, as does one that tracks statistics; see `InstanceNorm2d`.
    """
    return all(type(m).__module__.startswith(("torch.", "networks.")) for m in net.modules()) and not any(
        isinstance(m, nn.InstanceNorm2d) and m.track_running_stats for m in net.modules())


def parts(net: nn.Module) -> list[tuple[nn.Module, str]]:
    """(module, method) of what a network consists of: its own `parts()`, or all of it."""
    return net.parts() if hasattr(net, "parts") else [(net, "forward")]


def _wrap_parts(net: nn.Module, wrap: Callable[[Callable], Callable]) -> None:
    for module, name in parts(net):
        setattr(module, name, wrap(getattr(module, name)))


def _recomputed(net: nn.Module, part: Callable, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return part(*args, **kwargs)
    norms = _batch_norms(net)
    batches = next((norm.batches for norm in norms if isinstance(norm, BatchNorm2d)), ())
    return checkpoint(part, *args, use_reentrant=False, **kwargs,
                      context_fn=lambda: (contextlib.nullcontext(), _again(norms, batches)))


@contextlib.contextmanager
def _again(norms: list[_BatchNorm], batches: Sequence[int]) -> Iterator[None]:
    """Batch norm sees the batches that it saw, and does not count them a second time."""
    buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    try:
        with _sharing(norms, batches):
            yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.data.copy_(value)  # the backward pass may have saved it


def compilable(net: nn.Module, device: torch.device) -> bool:
    """Whether to compile a network: where its class says so in `compiles_on`, else generators wherever there is a
    compiler.
    """
    everywhere = ("cuda", "cpu") if "netG" in getattr(net, "arguments", {}) else ()
    return device.type in getattr(net, "compiles_on", everywhere)


class Compiled:
    """A part of a network, compiled; a deep copy of it is the part again."""

    def __init__(self, part: Callable):
        self.part, self._compiled = part, torch.compile(part, dynamic=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable:
        return copy.deepcopy(self.part, memo)


def compile_parts(net: nn.Module) -> None:
    """Compile each part by itself: parts of one kind share the result, so it takes seconds; call it before `tune`."""
    _wrap_parts(net, Compiled)


def eagerly() -> contextlib.AbstractContextManager:
    """Inside the block, what is compiled runs as it is written; the compiler is not imported for it."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


def times(net: nn.Module, x: Tensor) -> tuple[float, float, float]:
    """(compiling, a pass compiled, a pass without): seconds, with backward where gradients are on; nothing changes.

    Raises whatever the compiler does.
    """
    start = time.perf_counter()
    _seconds(net, x, WARM_UP)
    spent = time.perf_counter() - start
    compiled = _seconds(net, x, TIMED)
    with eagerly():
        _seconds(net, x, 1)
        return spent - WARM_UP * compiled, compiled, _seconds(net, x, TIMED)


def _seconds(net: nn.Module, x: Tensor, passes: int) -> float:
    buffers = [buffer.clone() for buffer in net.buffers()]
    parameters = [p for p in net.parameters() if p.requires_grad]
    taken = []
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        for _ in range(passes):
            start = time.perf_counter()
            total = net(x).sum()
            if total.requires_grad:
                torch.autograd.grad(total, parameters, allow_unused=True)
            total.item()
            taken.append(time.perf_counter() - start)
    for buffer, before in zip(net.buffers(), buffers, strict=True):
        buffer.data.copy_(before)
    return statistics.median(taken)


def together(net: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """What a network makes of several batches (N, C, H, W): in one call, where no image can tell.

    Unequal sizes, and batch norm in a network with modules of a plugin's own, need a call each.
    """
    norms = _batch_norms(net)
    of_a_plugin = any(norm.training for norm in norms) and not (  # whose own code may look across images
        may_lie_channels_last(net) and all(isinstance(norm, BatchNorm2d) for norm in norms))
    if of_a_plugin or len({x.shape[1:] for x in batches}) > 1:
        return tuple(net(x) for x in batches)
    sizes = [len(x) for x in batches]
    with _sharing(norms, sizes):
        return net(torch.cat(batches)).split(sizes)


@contextlib.contextmanager
def _sharing(norms: list[_BatchNorm], batches: Sequence[int]) -> Iterator[None]:
    """Inside the block, what enters these norms is several batches of so many images."""
    for norm in norms:
        norm.batches = batches
    try:
        yield
    finally:
        for norm in norms:
            del norm.batches


def _batch_norms(net: nn.Module) -> list[_BatchNorm]:
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]
