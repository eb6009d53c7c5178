"""Numbers that are not finite cost a step, not a training."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from util import distributed

MAX_UNREAD = 1000    # steps
FUSED = (Adam, AdamW)  # optimizers whose fused step reads `found_inf`


class Guard:
    """Inside the block, an optimizer step whose gradient is not finite changes nothing, and gradients longer than
    `clip` (L2 norm over one optimizer, 0 for any length) are shortened (Pascanu et al. 2013). Of several processes
    each has the gradient of its images; the step takes the mean over all.

    It acts on every optimizer, whoever steps it. A fused one reads the flag on the device; for the others the step
    waits for it. `read` waits for the device and tells which batches were skipped.
    """

    def __init__(self, clip: float = 0.0, statistics: Iterable[Tensor] = ()):
        self.clip = clip
        self.streak = 0                    # skipped steps in a row, up to the last read
        self.skipped = 0                   # in all
        self.taken = 0
        self._step: list[Tensor] = []      # a flag for each optimizer of the current step
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
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        gradients = [p.grad for p in parameters]
        distributed.average_gradients(gradients)
        if self.clip or gradients[0].device.type != "cpu":
            total = get_total_norm(gradients)
        else:  # a sum tells as well, and takes half the time
            total = sum(gradient.abs().sum() if gradient.is_complex() else gradient.sum(dtype=torch.float32)
                        for gradient in gradients)
        bad = ~total.isfinite()
        self._step.append(bad)
        if self.clip:
            clip_grads_with_norm_(parameters, self.clip, total)
        if is_fused(optimizer):
            if not hasattr(optimizer, "found_inf"):
                self._fused.append(optimizer)
            optimizer.found_inf = bad.float()
        elif bad:
            for parameter in parameters:
                parameter.grad = None

    def end_step(self, files: list[str]) -> None:
        """Keep the flag of the step that ended, and what its batch was read from."""
        if not self._step:
            return
        bad = torch.stack(self._step).any()
        self._recent.append((files, bad))
        self._step = []
        if bad.device.type == "cpu":  # known at once, so what follows from it depends on no log interval
            self._urgent |= bool(bad)
            if not bad:
                self._keep_statistics()

    def take_flags(self) -> list[Tensor]:
        """The flags of the current step, which then has none."""
        flags, self._step = self._step, []
        return flags

    def set_flags(self, flags: list[Tensor]) -> None:
        """Those of a step that was replayed, where no optimizer was called."""
        self._step = list(flags)

    def due(self) -> bool:
        """Whether the steps have to be read, as there are many, or one is known to be skipped."""
        return self._urgent or len(self._recent) >= MAX_UNREAD

    def read(self) -> list[str]:
        """The files of the batches skipped since the last call; mends the statistics that they spoilt."""
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
        """Remember those that are finite, and put the others back."""
        for tensor, good in zip(self._statistics, self._good, strict=True):
            if tensor.isfinite().all():
                good.copy_(tensor)
            else:
                tensor.copy_(good)


def is_fused(optimizer: Optimizer) -> bool:
    """Whether its step is one kernel, which reads `found_inf` on the device."""
    return type(optimizer) in FUSED and all(group["fused"] for group in optimizer.param_groups)


def fuse(optimizer: Optimizer) -> None:
    """Step in one kernel, which can skip on the device, where the optimizer has one and its maker left it open."""
    if type(optimizer) not in FUSED:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    closed = any(group["fused"] is not None or group["foreach"] or group["differentiable"]
                 for group in optimizer.param_groups)
    if not closed and all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters):
        for group in optimizer.param_groups:
            group["fused"] = True
