"""Processes that work together, as `torchrun` starts them: which one this is, and what they tell each other.

Alone, every function here does nothing or returns what it was given.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from util.errors import UsageError

LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
BUCKET = 2 ** 24           # numbers sent at once
PATIENCE = timedelta(hours=2)  # of a process that waits for another, which may be writing or decoding


@dataclass
class Share:
    """What part of all images this process has: of the current batch, and of the whole step (several batches)."""

    batch: float = 1.0
    step: float = 1.0


share = Share()


def rank() -> int:
    """The number of this process, 0 alone."""
    return int(os.environ["RANK"]) if LAUNCHED else 0


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if LAUNCHED else 1


def local_world_size() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if LAUNCHED else 1


def is_main() -> bool:
    """Whether this is the process that logs and writes."""
    return rank() == 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside the block the processes can talk: over NCCL between GPUs, over gloo between CPUs.

    Raises UsageError when another process ends early; that one says why.
    """
    if not LAUNCHED:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed by peer" in str(error):
            raise UsageError("another process of this job has ended; what it wrote says why") from error
        raise
    finally:
        dist.destroy_process_group()


def from_main(make: Callable[[], Any]) -> Any:
    """What the main process makes, in all of them; what it raises is raised in all of them."""
    if world_size() == 1:
        return make()
    answer: list[Any] = [None, None]
    if is_main():
        try:
            answer[0] = make()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def gathered(value: Any) -> list[Any]:
    """The values of all processes, by rank; the main process has them, the others an empty list."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []


def all_max(values: Iterable[float]) -> list[float]:
    """Of each number the largest among all processes."""
    vector = torch.tensor(list(values), dtype=torch.float64)
    if world_size() > 1:
        dist.all_reduce(vector, dist.ReduceOp.MAX)
    return vector.tolist()


def all_sum(tensor: Tensor) -> Tensor:
    """Replace a tensor by the sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give all processes the main one's values."""
    if world_size() > 1:
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            tensor.data.copy_(values)


@torch.no_grad()
def average_gradients(gradients: list[Tensor]) -> None:
    """Replace gradients by their mean over the images of all processes: each has the mean over its own."""
    if world_size() == 1:
        return
    for gradient in gradients:
        gradient.mul_(share.step) if share.step else gradient.zero_()  # what stands in for images may hold NaN
    bucket: list[Tensor] = []
    for i, gradient in enumerate(gradients):
        bucket.append(gradient)
        last = i + 1 == len(gradients) or gradients[i + 1].dtype != gradient.dtype
        if last or sum(g.numel() for g in bucket) >= BUCKET:
            flat = all_sum(torch.cat([g.reshape(-1) for g in bucket]))
            for g, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                g.copy_(part.view_as(g))
            bucket = []


class _TotalOf(torch.autograd.Function):
    """The sum over all processes, whose gradients will count by their share of the step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.share = share.step
        return all_sum(x.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = total_of(gradient * ctx.share)
        return total / ctx.share if ctx.share else total * 0


def total_of(x: Tensor) -> Tensor:
    """The sum of a tensor over all processes, differentiable any number of times."""
    return _TotalOf.apply(x)
