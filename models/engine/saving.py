"""The files of a run: networks, the state that a resume reads, and when they are saved."""

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.engine.ema import is_averaged
from models.engine.fit import check_state, matching, naming_options
from models.engine.schedule import restore_scheduler
from models.engine.state import networks, optimizers, pools
from networks.architecture import differences
from util import checkpoint
from util.distributed import from_main, gathered, rank, world_size
from util.errors import UsageError, did_you_mean, one_line
from util.memory import ran_out
from util.notices import notice, say, tell
from util.run_files import AVERAGE, STATE, checkpoint_tag, network_file, network_files
from util.seed import derive, random_states, restore_random_states, seed_all

LITTLE = 0.5   # share of a network that --init_from finds, below which it says so
RETRY = 60.0  # seconds until a failed save is tried again
PAUSE = 2.0   # the same when there is nothing else to do
ANY = "G_any"    # a generator that others may start from, in every direction
ALSO = {"G_A": "G", "G": "G_A"}  # a single generator, and that of a cycle with the same direction


# Networks.

def plain_state(net: nn.Module) -> dict[str, Tensor]:
    """A state_dict on the CPU."""
    return {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}


def network_states(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Name -> plain state_dict; the average of a generator is `<name>_ema`."""
    states = {name: plain_state(net) for name, net in networks(model).items()}
    if average := model._engine.average:
        with average.in_place():
            for name in average.names:
                state = plain_state(networks(model)[name])  # may share memory with the weights that come back
                states[name + AVERAGE] = {key: value.clone() for key, value in state.items()}
    return states


def is_finite(model: nn.Module) -> bool:
    """Whether all weights and statistics are finite; waits for the device."""
    return all(bool(value.isfinite().all()) for net in networks(model).values() for value in net.state_dict().values())


def write_networks(model: nn.Module, tag: str | int) -> None:
    """Write `<tag>_net_<name>.pth` for each network and, with --ema, average; remove an average that is outdated."""
    states = network_states(model)
    for name, state in states.items():
        checkpoint.save(state, network_file(model.save_dir, tag, name))
        if name + AVERAGE not in states:
            network_file(model.save_dir, tag, name + AVERAGE).unlink(missing_ok=True)


def read_networks(model: nn.Module, tag: str | int) -> None:
    """Read `<tag>_net_<name>.pth` for each network, or in a test with --ema the average."""
    averages = not model.isTrain and model.opt.ema
    asked = averages and "ema" in model.opt.typed  # else it is a default of the model
    wanted = networks(model)
    if not model.isTrain and model.model_names:  # a plugin that lists them needs no others to translate
        wanted = {name: net for name, net in wanted.items() if name in model.model_names}
    for name, net in wanted.items():
        path, average = (network_file(model.save_dir, tag, name + suffix) for suffix in ("", AVERAGE))
        if averages and is_averaged(name):
            if asked and path.exists() and not average.exists():
                raise UsageError(f"{average} does not exist: the run was trained without --ema; leave --ema out")
            path = average if asked or average.exists() else path
        with naming_options(model.opt):
            load_network(net, from_main(lambda path=path: checkpoint.load(path)), path)
        other = path != average and not model.isTrain and average.exists()
        tell(f"loaded {path}{'; --ema loads its average' if other else ''}")


def load_network(net: nn.Module, state: Any, path: str | Path) -> None:
    """Load a state_dict, also one of an old tool; raises UsageError that names the options behind a mismatch."""
    net.load_state_dict(matching(net, state, path))


def init_from(nets: dict[str, nn.Module], source: str, checkpoints_dir: str, tag: str) -> None:
    """Copy every tensor of equal name and shape, and log for each network how much matched.

    `source` is a run, its folder, or one `*_net_<name>.pth`. Raises UsageError if it does not exist, or if nothing in a
    file fits its network.
    """
    files = find_weights(source, checkpoints_dir, tag)
    chosen = {name: files.get(name) or files.get(ALSO.get(name, "")) or (is_averaged(name) and files.get(ANY)) or None
              for name in nets}
    if not any(chosen.values()):
        raise UsageError(f"--init_from {source} has {', '.join(sorted(files))}; this model has {', '.join(nets)}: "
                         f"none in common")
    for name, net in nets.items():
        tell(f"network {name}: {copy_matching(net, chosen[name]) if chosen[name] else 'no weights, starts afresh'}")


def find_weights(source: str, checkpoints_dir: str, tag: str) -> dict[str, Path]:
    """Network name -> file; raises UsageError that lists what exists."""
    path = Path(source)
    if path.is_file():
        named = re.fullmatch(r".+_net_(.+)\.pth", path.name)
        return {named[1] if named else "G": path}
    folder = path if path.is_dir() else Path(checkpoints_dir) / source
    found = network_files(folder, tag)
    if not found:
        runs = [file.parent.name for file in Path(checkpoints_dir).glob("*/*_net_*.pth")]
        problem = f"has no {tag}_net_*.pth (--epoch names another checkpoint)" if folder.is_dir() else "does not exist"
        raise UsageError(f"--init_from {source}: {folder} {problem}.{did_you_mean(source, runs)} Give a run in "
                         f"{checkpoints_dir}, a folder, or a .pth file")
    return found


def copy_matching(net: nn.Module, path: Path) -> str:
    """Copy what fits from a file into a network; returns how much that was, in words."""
    offered, wanted = checkpoint.clean_state_dict(checkpoint.load(path), path), net.state_dict()
    reasons = differences(offered, getattr(net, "arguments", {}))
    fitting = {key: value for key, value in offered.items() if key in wanted and wanted[key].shape == value.shape}
    if not fitting:
        raise UsageError(f"nothing in {path} fits this network: {', '.join(reasons) or 'its tensors have other names'}")
    net.load_state_dict(fitting, strict=False)
    missing = [key for key in wanted if key not in fitting]
    share = sum(value.numel() for value in fitting.values()) / sum(value.numel() for value in wanted.values())
    if share < LITTLE:
        notice(f"little {path}", f"only {share:.1%} of the network fits {path}; --netG and --ngf should be those "
                                 f"that it was trained with (for --netG local, half the --ngf of global)")
    return (f"{share:.1%} ({len(fitting)} of {len(wanted)} tensors) from {path}"
            + (f", trained with {', '.join(reasons)}" if reasons else "")
            + (f"; not loaded: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}" if missing else ""))


# The state.

def save_state(model: nn.Module, progress: dict[str, Any]) -> None:
    """Write `latest_state.pth`, all that a resume needs in one file: plain values and tensors."""
    images = {key: [image.cpu() for image in pool.images] for key, pool in pools(model).items()}
    own = gathered({"pools": images, "random": random_states()})
    engine = model._engine
    from_main(lambda: checkpoint.save({
        "networks": network_states(model),
        "optimizers": {name: o.state_dict() for name, o in optimizers(model).items()},
        "schedulers": [s.state_dict() for s in model.schedulers],
        **own[0],
        "other_processes": own[1:],
        "scalers": {name: scaler.state_dict() for name, scaler in engine.scalers.items()},
        "metric": float(model.metric),
        "averaged": engine.average.steps if engine.average else 0,
        "steps": engine.steps,
        "progress": progress,
    }, state_file(model)))


def state_file(model: nn.Module) -> Path:
    """`latest_state.pth` of the model's run."""
    return Path(model.save_dir) / STATE


def resume(model: nn.Module) -> None:
    """Continue from `latest_state.pth`; without it, or with --epoch or --load_iter, read the networks only."""
    path, opt = state_file(model), model.opt
    tag = checkpoint_tag(opt.epoch, opt.load_iter)
    if tag != "latest" or not from_main(path.exists):
        model.load_networks(tag)
        reason = f"{path} does not exist" if tag == "latest" else f"'{tag}' was asked for"
        if from_main(path.exists):
            go_back(model, path)
        tell(f"only the networks are restored ({reason}): optimizers start afresh, at epoch {opt.epoch_count}")
        return
    with naming_options(model.opt):
        state = restore_state(model)
    if len(state["processes"]) == world_size():
        restore_random_states(state["processes"][rank()]["random"])
    else:
        seed_all(derive(opt.seed, rank(), state["progress"]["total_iters"]))
    model.metric, progress = state["metric"], dict(state["progress"])
    model._engine.progress, model._engine.saved_schedulers = progress, state["schedulers"]
    restore_schedulers(model)
    tell(f"resumed from {path}: epoch {progress['epoch']}, after {progress['iters']} of its images")


def go_back(model: nn.Module, path: Path) -> None:
    """Keep what is known about the best checkpoint, and say which numbered ones will be overwritten."""
    with contextlib.suppress(UsageError, LookupError, TypeError, AttributeError):  # a damaged state says nothing
        model._engine.best = dict(from_main(lambda: checkpoint.load(path))["progress"]["best"])
    later = sorted(int(match[1]) for file in path.parent.glob("*_net_*.pth")
                   if (match := re.match(r"(\d+)_net_", file.name)) and int(match[1]) >= model.opt.epoch_count)
    if later:
        notice("later", f"the checkpoints of later epochs ({', '.join(map(str, dict.fromkeys(later)))}) will be "
                        f"overwritten; another --name with --init_from keeps them")


def restore_schedulers(model: nn.Module) -> None:
    """Restore the schedulers; called again after `setup`, for those that a plugin makes there."""
    engine = model._engine
    for scheduler, saved in zip(model.schedulers, engine.saved_schedulers, strict=False):
        restore_scheduler(scheduler, saved, engine.progress["epoch"] - model.opt.epoch_count)


def restore_state(model: nn.Module) -> dict[str, Any]:
    """Restore networks, optimizers and pools from the last save; returns what else it holds."""
    path = state_file(model)
    alone = "--epoch TAG --epoch_count N loads the networks alone"
    try:
        state = from_main(lambda: checkpoint.load(path))
    except UsageError as error:
        raise UsageError(f"{error}; {alone}") from error
    try:
        check_state(model, state, path)
        for name, net in networks(model).items():
            load_network(net, state["networks"][name], path)
        _restore_average(model, state, path)
        for name, optimizer in optimizers(model).items():
            groups = optimizer.state_dict()["param_groups"]  # rates and betas are those of the options now
            optimizer.load_state_dict({"state": state["optimizers"][name]["state"], "param_groups": groups})
            align_state(optimizer)
        if late := set(state["optimizers"]) - set(optimizers(model)):
            notice("late", f"the state of {', '.join(sorted(late))} is not restored: the model makes it only later")
        processes = [state, *state.get("other_processes", ())]
        for key, pool in pools(model).items():
            pool.images = [x.to(model.device) for x in processes[rank() % len(processes)]["pools"][key]]
        for name, scaler in model._engine.scalers.items():
            scaler.load_state_dict(state.get("scalers", {}).get(name, scaler.state_dict()))
        model._engine.steps = state.get("steps", 0)
        return {"processes": processes, **{key: state[key] for key in ("metric", "progress", "schedulers")}}
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        if ran_out(error):
            raise
        hint = "" if getattr(model.opt, "changed", ()) else (
            f"; was the run trained with another --model or version? If so, {alone}")
        raise UsageError(f"{path} does not fit this model ({one_line(error)}){hint}") from error


def _restore_average(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    if not (average := model._engine.average):
        return
    average.restart()
    if state.get("averaged"):
        average.steps = state["averaged"]
        with average.in_place():
            for name in average.names:
                load_network(networks(model)[name], state["networks"][name + AVERAGE], path)


def align_state(optimizer: Optimizer) -> None:
    """Store an optimizer's state in the memory format of its parameters; fused ones read both in one order."""
    for parameter, kept in optimizer.state.items():
        for key, value in kept.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.dim():
                kept[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


class Saver:
    """A save that fails (a full disk, a lost mount) does not end a training: the last good one stays."""

    def __init__(self, save: Callable[[], None], minutes: float):
        self.save = save
        self.interval = minutes * 60 if minutes > 0 else float("inf")
        self.saved = False                 # at least once
        self.error: OSError | None = None  # of the last attempt
        self._tried = time.monotonic()

    def due(self) -> bool:
        """Whether the interval is over, or it is time to try again."""
        return time.monotonic() - self._tried >= (min(self.interval, RETRY) if self.error else self.interval)

    def attempt(self) -> bool:
        """Save; a failure is reported once and kept in `error`."""
        try:
            self.save()
        except OSError as error:
            if self.error is None:
                say(f"warning: the save failed ({error}); the last good one is untouched, the training goes on and "
                    f"tries again")
            self.error = error
        else:
            if self.error is not None:
                say("saved again")
            self.error, self.saved = None, True
        self._tried = time.monotonic()
        return self.error is None

    def insist(self, seconds: float, stop: Callable[[], object] = lambda: False) -> None:
        """Save, retrying for this long or until `stop`; raises UsageError if it can't be done."""
        end = time.monotonic() + seconds
        while not self.attempt():
            if time.monotonic() >= end or stop():
                raise UsageError(f"what was trained since the last good save is lost, it can't be saved: {self.error}")
            time.sleep(min(PAUSE, max(0.0, end - time.monotonic())))
