"""Processes that `torchrun` started: which one this is, and how they exchange values.

In a single process, every function here does nothing or returns its argument.
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
PATIENCE = timedelta(hours=2)  # for another process, which may be writing or decoding


def rank() -> int:
    """The number of this process, 0 alone."""
    return int(os.environ["RANK"]) if LAUNCHED else 0


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if LAUNCHED else 1


@dataclass
class Share:
    """This process's share of the images of all: of the current batch, and of the whole step (several batches)."""

    batch: float = 1 / world_size()
    step: float = 1 / world_size()


share = Share()


def local_world_size() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if LAUNCHED else 1


def is_main() -> bool:
    """Whether this is the process that logs and writes."""
    return rank() == 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside the block the processes can communicate: by NCCL between GPUs, by gloo between CPUs.

    Raises UsageError if another process ends early; that one says why.
    """
    if not LAUNCHED:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection closed by peer" in str(error):
            raise UsageError("another process of this job has ended; its output says why") from error
        raise
    finally:
        dist.destroy_process_group()


def from_main(make: Callable[[], Any]) -> Any:
    """The value that the main process computes, in all of them; its error is raised in all of them."""
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
    """The values of all processes, by rank, in the main process; an empty list in the others."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size() if is_main() else None
    dist.gather_object(value, values)
    return values or []


def all_max(values: Iterable[float]) -> list[float]:
    """The maximum of each number over all processes."""
    vector = torch.tensor(list(values), dtype=torch.float64)
    if world_size() > 1:
        dist.all_reduce(vector, dist.ReduceOp.MAX)
    return vector.tolist()


def all_sum(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over all processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the main process's values to all."""
    if world_size() > 1:
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0)
            tensor.data.copy_(values)


@torch.no_grad()
def average_gradients(gradients: list[Tensor]) -> None:
    """Replace gradients, the mean over this process's images, by the mean over all images of all processes."""
    if world_size() == 1:
        return
    if not dist.is_initialized():
        raise UsageError("torchrun started this process, but the processes have not joined; put the training inside "
                         "`with util.distributed.joined(device):`")
    for gradient in gradients:
        gradient.mul_(share.step) if share.step else gradient.zero_()  # stand-ins for images may yield NaN
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
    """The sum over all processes, for gradients that are later weighted by their share of the step."""

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
