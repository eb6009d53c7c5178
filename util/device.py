"""Which device to compute on, and how many CPU cores there are."""

import os

import torch

from util import distributed
from util.errors import UsageError
from util.notices import notice


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(device: str, gpu_ids: str | None) -> tuple[list[int], torch.device]:
    """(gpu_ids, device) for --device and the older --gpu_ids; raises UsageError for a device that does not exist."""
    if gpu_ids is not None and device == "auto":
        try:
            numbers = [int(word) for word in str(gpu_ids).split(",") if int(word) >= 0]
        except ValueError:
            raise UsageError(f"--gpu_ids {gpu_ids} is not a list of numbers; write 0, or -1 for the CPU") from None
        if len(numbers) > 1:
            notice("gpus", f"--gpu_ids {gpu_ids}: one process uses one GPU, cuda:{numbers[0]}")
        if numbers and not torch.cuda.is_available():
            notice("no gpu", f"--gpu_ids {gpu_ids}: no CUDA device here, the best other one is used")
        else:
            device = f"cuda:{numbers[0]}" if numbers else "cpu"
    if device in ("auto", "cuda") and distributed.LAUNCHED and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device {device} is not a device; use auto, cpu, cuda, cuda:N or mps") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (picked.index or 0) >= there.get(picked.type, 0):
        raise UsageError(f"--device {device} is not there (devices of that kind: {there.get(picked.type, 0)}); use "
                         f"--device auto")
    if picked.type == "cuda" and picked.index is not None:
        torch.cuda.set_device(picked)  # else threads that pin memory would use the first GPU too
    return ([picked.index or 0] if picked.type == "cuda" else []), picked
