"""Whether a saved state fits a model."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.state import networks, optimizers, pools
from models.engine.step import FUSED
from networks.architecture import differences
from util import checkpoint
from util.errors import UsageError
from util.progress import Progress
from util.run_files import AVERAGE
from util.seed import random_states, restore_random_states


def matching(net: nn.Module, state: Any, path: str | Path) -> dict[str, Tensor]:
    """A state_dict that a network can load; raises UsageError that names the options behind a mismatch."""
    wanted = net.state_dict()
    state = checkpoint.clean_state_dict(state, path, wanted.keys())
    later = [key for key in wanted if key not in state and key.endswith("num_batches_tracked")]  # since PyTorch 0.4.1
    any_size = getattr(net, "any_size", ())  # buffers that depend on the size of the images
    others = [key for key in {**wanted, **state} if key not in (*later, *any_size) and (
        key not in wanted or key not in state or wanted[key].shape != state[key].shape
        or wanted[key].is_complex() != state[key].is_complex() or (
            wanted[key].is_floating_point() and state[key].dtype == torch.bool))]
    if others:
        reasons = differences(state, getattr(net, "arguments", {}))
        hint = f"it was trained with {', '.join(reasons)}" if reasons else (
            f"other tensors in {len(others)} of {len(wanted)} places, such as {others[0]}")
        raise UsageError(f"{path} does not fit the network: {hint}")
    return state


@contextmanager
def naming_options(opt: Namespace) -> Iterator[None]:
    """Inside the block, a UsageError also says which options differ from those of the training."""
    try:
        yield
    except UsageError as error:
        if differing := getattr(opt, "changed", ()):
            raise UsageError(f"{error}; the run was trained with {', '.join(differing)}") from error
        raise


def check_state(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Raise an error unless every part of a saved state fits the model; nothing is loaded yet.

    A fused optimizer reads out of bounds if its state has another shape.
    """
    if not all(isinstance(key, str) for part in ("networks", "optimizers") for key in state[part]):
        raise TypeError("a network or optimizer in it has no name")
    for name, net in networks(model).items():
        matching(net, state["networks"][name], path)
        if (average := model._engine.average) and name in average.names and state.get("averaged"):
            matching(net, state["networks"][name + AVERAGE], path)
    for name, optimizer in optimizers(model).items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for index, kept in state["optimizers"][name]["state"].items():
            parameter, tensors = parameters[index], {key: v for key, v in kept.items() if torch.is_tensor(v)}
            if type(optimizer) in FUSED and not {"step", "exp_avg", "exp_avg_sq"} <= tensors.keys():
                raise ValueError(f"optimizer {name} lacks the state of parameter {index}")
            wanted = {key: torch.zeros(()) if key == "step" else parameter for key in tensors}
            fits(wanted, tensors, f"optimizer {name}")
    check_rest(model, state)


def check_rest(model: nn.Module, state: dict[str, Any]) -> None:
    """The same for image pools, random states, progress, schedulers and numbers."""
    channels = {getattr(model.opt, "input_nc", 0), getattr(model.opt, "output_nc", 0)}
    for own in [state, *state.get("other_processes", ())]:
        for key in pools(model):
            if not all(torch.is_tensor(x) and x.dim() == 3 and x.is_floating_point() and x.shape[0] in channels
                       for x in own["pools"][key]):
                raise ValueError(f"{key} holds no images of this model")
        before = random_states()
        try:
            restore_random_states(own["random"])
        finally:
            restore_random_states(before)
    progress = Progress.restored(state["progress"])
    counts = [*progress.counters().values(), *(progress.best.get(key, 0) for key in ("epoch", "worse"))]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError("its progress is no count of images")
    progress.means.read()
    for scheduler, saved in zip(model.schedulers, state["schedulers"], strict=False):
        current = scheduler.state_dict()
        for key in current.keys() & saved.keys():
            if not same_kind(current[key], saved[key]):
                raise ValueError(f"a scheduler's {key} is {type(saved[key]).__name__}")
    counts = [state.get(key, 0) for key in ("averaged", "steps")]
    if not (isinstance(state["metric"], (int, float)) and all(isinstance(n, int) and n >= 0 for n in counts)):
        raise ValueError("its metric, or its number of steps, is no number")


def same_kind(one: Any, other: Any) -> bool:
    """Whether two plain values have one type, int and float being one; lists also need equal lengths."""
    for kind in (bool, str, type(None)):
        if isinstance(one, kind) or isinstance(other, kind):
            return isinstance(one, kind) and isinstance(other, kind)
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(same_kind, one, other))
    return isinstance(one, (int, float)) == isinstance(other, (int, float))


def fits(wanted: dict[str, Tensor], found: dict[str, Tensor], name: str) -> None:
    """Raise ValueError unless each wanted tensor is found with the same shape, and floating or not as wanted."""
    for key, tensor in wanted.items():
        if found[key].shape != tensor.shape or found[key].is_floating_point() != tensor.is_floating_point():
            raise ValueError(f"{name}: {key} is {tuple(found[key].shape)} of {found[key].dtype}, not "
                             f"{tuple(tensor.shape)} of {tensor.dtype}")
