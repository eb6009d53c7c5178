"""From gradients to an optimizer step: mean over processes, clipping, skipping what is not finite."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from models.engine.state import EngineState, optimizers
from util import distributed
from util.distributed import rank, world_size
from util.errors import UsageError

MAX_UNREAD = 1000      # steps
FUSED = (Adam, AdamW)  # optimizers whose fused step reads `found_inf`


class Guard:
    """Inside the block, every optimizer step takes the mean gradient over all processes, clipped, or is skipped.

    It is skipped if the gradient is not finite. `clip` is the longest gradient (L2 norm over one optimizer), 0 for any
    length (Pascanu et al. 2013). It acts on every optimizer, whoever calls `step`. A fused optimizer reads the flag on
    the device; others wait for it. `read` waits for the device and returns the files of the skipped batches.
    """

    def __init__(self, clip: float = 0.0, statistics: Iterable[Tensor] = (),
                 check: Callable[[Optimizer], None] = lambda optimizer: None):
        self.clip, self.check = clip, check
        self.streak = 0                    # skipped steps in a row, up to the last read
        self.skipped = 0                   # in all
        self.taken = 0
        self.flags: list[Tensor] = []      # a flag for each optimizer of the current step
        self._recent: list[tuple[list[str], Tensor]] = []
        self._urgent = False
        self._fused: list[Optimizer] = []
        self._statistics = list(statistics)  # of batch norm: a forward pass changes them before its loss is known
        self._good = [tensor.clone() for tensor in self._statistics]

    def __enter__(self) -> "Guard":
        self._hook = register_optimizer_step_pre_hook(self._before_step)
        return self

    def __exit__(self, *_) -> None:
        self._hook.remove()
        while self._fused:
            del self._fused.pop().found_inf

    def _before_step(self, optimizer: Optimizer, *_) -> None:
        self.check(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        distributed.average_gradients([p.grad for p in parameters])
        length = measure([p.grad for p in parameters], exactly=bool(self.clip))
        bad = ~length.isfinite()
        self.flags.append(bad)
        if self.clip:
            clip_grads_with_norm_(parameters, self.clip, length)
        if is_fused(optimizer) and not hasattr(optimizer, "found_inf"):
            self._fused.append(optimizer)
        skip_if(bad, optimizer, parameters)

    def end_step(self, files: list[str]) -> None:
        """Keep the flag of the step that ended, and the files of its batch."""
        if not self.flags:
            return
        bad = torch.stack(self.flags).any()
        self._recent.append((files, bad))
        self.flags = []
        if bad.device.type == "cpu":  # known at once, so that its consequences do not depend on the log interval
            self._urgent |= bool(bad)
            if not bad:
                self._keep_statistics()

    def due(self) -> bool:
        """Whether flags should be read: there are many, or one is known to be set."""
        return self._urgent or len(self._recent) >= MAX_UNREAD

    def read(self) -> list[str]:
        """The files of the batches skipped since the last call; restores the statistics they spoilt."""
        flags = torch.stack([flag for _, flag in self._recent]).tolist() if self._recent else []
        skipped = [files for (files, _), bad in zip(self._recent, flags, strict=True) if bad]
        self._recent = []
        for bad in flags:
            self.streak = self.streak + 1 if bad else 0
        self.skipped += len(skipped)
        self.taken += len(flags) - len(skipped)
        self._urgent = False
        self._keep_statistics()
        return [file for files in skipped for file in files]

    @torch.no_grad()
    def _keep_statistics(self) -> None:
        """Remember those that are finite, and restore the others."""
        for tensor, good in zip(self._statistics, self._good, strict=True):
            if tensor.isfinite().all():
                good.copy_(tensor)
            else:
                tensor.copy_(good)


def measure(gradients: list[Tensor], exactly: bool) -> Tensor:
    """The L2 norm of all gradients, or on a CPU their sum, finite only if they are, in half the time."""
    if exactly or gradients[0].device.type != "cpu":
        return get_total_norm(gradients)
    return sum(gradient.abs().sum() if gradient.is_complex() else gradient.sum(dtype=torch.float32)
               for gradient in gradients)


def skip_if(bad: Tensor, optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
    """Make the coming step change nothing if the flag is set."""
    if is_fused(optimizer):
        optimizer.found_inf = bad.float()
    elif bad:
        for parameter in parameters:
            parameter.grad = None


def not_a_loss(model: nn.Module, name: str, loss: object) -> UsageError:
    """The error for something else than a tensor in `minimize(name, loss)`, with the plugin's line."""
    method = {"G": "generator_loss", "D": "discriminator_loss"}.get(name, "")
    code = getattr(getattr(type(model), method, None), "__code__", None) or sys._getframe(2).f_code
    return UsageError(f"{type(model).__name__}.{code.co_name} ({code.co_filename} line {code.co_firstlineno}) gives "
                      f"minimize('{name}', ...) {'None' if loss is None else type(loss).__name__}; it must return the "
                      f"loss, a tensor")


@contextmanager
def minimizing(engine: EngineState) -> Iterator[None]:
    """Around `optimizer.step()` in `minimize`: outside `train.py` the step has a guard of its own."""
    engine.minimizing = True
    try:
        if engine.guarded:
            yield
        else:
            with Guard():
                yield
    finally:
        engine.minimizing = False


def own_steps_refused(model: nn.Module, opt: Namespace) -> Callable[[Optimizer], None]:
    """A check for Guard: raises UsageError for a step outside `minimize` if an option needs it."""
    option = "--amp fp16" if opt.amp == "fp16" else "--accumulate" if opt.accumulate > 1 else ""

    def check(optimizer: Optimizer) -> None:
        if option and not model._engine.minimizing and optimizer in optimizers(model).values():
            raise UsageError(f"{option} needs a model whose steps are taken by self.minimize(name, loss); "
                             f"{type(model).__name__} calls step() itself")
    return check


def is_fused(optimizer: Optimizer) -> bool:
    """Whether its step is one kernel, which reads `found_inf` on the device."""
    return type(optimizer) in FUSED and all(group["fused"] for group in optimizer.param_groups)


def fuse(optimizer: Optimizer) -> None:
    """Step in one kernel, which can skip on the device, if the optimizer has one and its author left that open."""
    if type(optimizer) not in FUSED:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    closed = any(group["fused"] is not None or group["foreach"] or group["differentiable"]
                 for group in optimizer.param_groups)
    if not closed and all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters):
        for group in optimizer.param_groups:
            group["fused"] = True


def refuse_untrained(guard: Guard, opt: Namespace) -> None:
    """Raise UsageError if all steps were skipped."""
    if guard.skipped and not guard.taken:
        raise UsageError(f"no step was finite, nothing is trained; a smaller --lr, --amp off, or python -m data.check "
                         f"{opt.dataroot} may help")


def counts(batches: int, size: int, left: int) -> tuple[list[int], list[int]]:
    """The images of each of the next batches of an epoch in which `left` are left: in this process, and in all.

    0 is a batch that only stands in for missing images.
    """
    lefts = [left - i * size * world_size() for i in range(batches)]
    return ([max(0, min(size, left - rank() * size)) for left in lefts],
            [min(size * world_size(), left) for left in lefts])


def grouped(batches: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of `size` batches; the last may be shorter."""
    batches = iter(batches)
    while group := list(islice(batches, size)):
        yield group
