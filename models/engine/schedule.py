"""The learning rate as a function of the epoch."""

import math
import warnings
from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from util.errors import unknown


def linear(epoch: int, opt) -> float:
    """Constant for n_epochs, then a straight line that would reach 0 one epoch after the last."""
    return 1.0 - max(0, epoch - opt.n_epochs) / (opt.n_epochs_decay + 1)


def step(epoch: int, opt) -> float:
    """A tenth after every lr_decay_iters epochs."""
    return 0.1 ** ((epoch - 1) // opt.lr_decay_iters)


def cosine(epoch: int, opt) -> float:
    """Half a cosine over the whole run, n_epochs + n_epochs_decay; 0 from then on (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - 1) / (opt.n_epochs + opt.n_epochs_decay))))


POLICIES = {"linear": linear, "step": step, "cosine": cosine}
LR_POLICIES = (*POLICIES, "plateau")


def get_scheduler(optimizer: Optimizer, opt) -> LRScheduler:
    """A scheduler to step at the end of each epoch; each parameter group keeps its own initial rate.

    `plateau` needs a figure at each step and divides the rate by 5 when it has not improved in 6 figures.
    """
    if opt.lr_policy == "plateau":
        return ReduceLROnPlateau(optimizer, mode="min", factor=0.2, threshold=0.01, patience=5)
    if opt.lr_policy not in POLICIES:
        raise unknown("learning rate policy", opt.lr_policy, LR_POLICIES)
    factor = POLICIES[opt.lr_policy]
    return LambdaLR(optimizer, lambda steps: max(0.0, factor(opt.epoch_count + steps, opt)))


def advance(schedulers: Iterable[LRScheduler], metric: float | None) -> None:
    """Step schedulers at the end of an epoch; without a metric (lower is better) the plateau policy waits."""
    for scheduler in schedulers:
        if isinstance(scheduler, ReduceLROnPlateau):
            if metric is not None:
                scheduler.step(metric)
        else:
            with warnings.catch_warnings():  # resumed at the end of an epoch, no step was taken before
                warnings.filterwarnings("ignore", "Detected call of", UserWarning)
                scheduler.step()


def restore_scheduler(scheduler: LRScheduler, saved: dict[str, Any], epochs: int) -> None:
    """Restore a scheduler to a given epoch; schedules that depend only on the epoch are recomputed."""
    optimizer = scheduler.optimizer
    if not hasattr(scheduler, "lr_lambdas"):
        if saved.keys() != scheduler.state_dict().keys():
            return  # another policy: this one starts afresh
        scheduler.load_state_dict(saved)
        for group, rate in zip(optimizer.param_groups, saved["_last_lr"], strict=True):
            group["lr"] = rate
        return
    scheduler.last_epoch = epochs
    for group, rate, factor in zip(optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        group["lr"] = rate * factor(epochs)
