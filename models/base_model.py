"""What every model plugin shares. See docs/model_plugin.md for how to write one."""

import warnings
from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from models.engine import hardware as execution
from models.engine.average import WeightAverage, is_averaged
from models.engine.schedule import get_scheduler, restore_scheduler
from models.engine.step import fuse
from networks.architecture import differences
from networks.layers import check_size
from networks.per_image import translating
from util import checkpoint
from util.device import one_core
from util.distributed import from_main, gathered, rank, world_size
from util.errors import UsageError, one_line
from util.image_pool import ImagePool
from util.notices import notice, tell
from util.run_files import AVERAGE, STATE, checkpoint_tag, network_file, run_folder
from util.seed import derive, random_states, restore_random_states, seed_all


class MicroBatch(NamedTuple):
    """Which part of a step a batch is, with --accumulate; alone it is all of it."""

    first: bool = True
    share: float = 1.0   # of the step's images in this process
    last: bool = True


class BaseModel(nn.Module, ABC):
    """A model is a module: an attribute `netG_A` is the network G_A, an attribute `optimizer_G` an optimizer.

    Plugins of the reference, which list `model_names`, `loss_names`, `visual_names` and `optimizers`, work too: a name
    found both ways counts once.
    """

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        """Add the model's options, change defaults with `parser.set_defaults`, and return the parser."""
        return parser

    one_sided = True       # whether --model test can stand in for it: its images are ordinary ones
    capturable = False     # whether steps, and translations, differ but by their inputs: no Python state; not inherited
    planned_images = 0     # what a script will put through the model, for --compile auto
    planned_size: tuple[int, int] | None = None  # (width, height) of all of them, where it is one
    paired = False         # whether real_X is the truth of fake_X: what scripts take from the dataset
    passes: dict[str, int] = {}  # network -> batches whose activations it keeps at the peak of a step; 1 unless named

    def __init__(self, opt):
        super().__init__()
        self.opt = opt
        self.isTrain = opt.isTrain
        self.gpu_ids = opt.gpu_ids
        self.device = opt.device
        self.save_dir = str(run_folder(opt))
        self.loss_names: list[str] = []
        self.model_names: list[str] = []
        self.visual_names: list[str] = []
        self.optimizers: list[Optimizer] = []
        self.schedulers: list = []
        self.image_paths: list[str] = []
        self.metric = 0.0
        self.progress: dict[str, Any] = {}
        self._saved_schedulers: list[dict[str, Any]] = []
        self.micro_batch = MicroBatch()
        self.scalers: dict[str, torch.amp.GradScaler] = {}
        self.average: WeightAverage | None = None  # with --ema
        self.compiled = False              # whether networks are
        self.takes_one_core = False        # whether the input is best translated on one core

    # What a plugin writes.

    def set_input(self, batch: dict[str, Any]) -> None:
        """Put real_A, real_B (N, C, H, W) and image_paths in place; with --direction BtoA, A is the batch's B.

        real_A or real_B is None where the batch has none, or where the dataset only repeats that domain.
        """
        source, target = self.domains()
        present = {d: d in batch and batch.get("repeated") != d for d in "AB"}
        self.real_A = batch[source].to(self.device, non_blocking=True) if present[source] else None
        self.real_B = batch[target].to(self.device, non_blocking=True) if present[target] else None
        self.image_paths = batch[f"{source if present[source] else target}_paths"]

    @abstractmethod
    def forward(self) -> None:
        """Set the translated images."""

    @abstractmethod
    def optimize_parameters(self) -> None:
        """Do one training step."""

    def compute_visuals(self) -> None:
        """Make what only pictures need; runs after `forward` in `test` and before pictures are shown."""

    # What a plugin calls.

    def domains(self) -> tuple[str, str]:
        """(source, target): which domains of the data this model calls A and B."""
        return ("A", "B") if self.opt.direction == "AtoB" else ("B", "A")

    def record(self, **terms: Tensor) -> Tensor:
        """Keep loss terms for the log, detached and on the device, and return their sum."""
        for name, value in terms.items():
            if name not in self.loss_names:
                self.loss_names.append(name)
            setattr(self, f"loss_{name}", value.detach())
        return sum(terms.values())

    def minimize(self, name: str, loss: Tensor) -> None:
        """One step of `optimizer_<name>` down the gradient of `loss`; with --accumulate, of the mean over batches."""
        optimizer = getattr(self, f"optimizer_{name}")
        part = self.micro_batch
        if part.first:
            optimizer.zero_grad()
        loss = loss * (part.share + (loss - loss).detach())  # NaN where it is not finite: the guard sees gradients only
        scaler = self.scalers.get(name)
        (scaler.scale(loss) if scaler else loss).backward()
        if part.last:
            if scaler:
                scaler.unscale_(optimizer)
            optimizer.step()  # the guard skips it where a scaled gradient overflowed
            if scaler:
                scaler.update()

    def adam(self, name: str, *nets: nn.Module) -> Optimizer:
        """Make `optimizer_<name>` for these networks with --lr and --beta1."""
        parameters = [p for net in nets for p in net.parameters()]
        optimizer = Adam(parameters, lr=self.opt.lr, betas=(self.opt.beta1, 0.999))
        setattr(self, f"optimizer_{name}", optimizer)
        return optimizer

    def set_requires_grad(self, nets: nn.Module | list[nn.Module], requires_grad: bool = False) -> None:
        """Switch the gradients of all weights; `frozen` does it for the length of a block."""
        for net in nets if isinstance(nets, list) else [nets]:
            if net is not None:
                net.requires_grad_(requires_grad)

    # What the scripts call.

    def setup(self, opt) -> None:
        """Move to the device, make the schedulers, load what the options name; `progress` is that of a resumed run.

        Raises UsageError when a checkpoint is missing, truncated or of another architecture.
        """
        if self.isTrain:
            execution.tell_memory(self, opt)
        self.to(self.device)
        compiled = execution.prepare(self, opt)
        self.compiled = bool(compiled)
        if self.isTrain:
            self.schedulers = [get_scheduler(optimizer, opt) for optimizer in self.named_optimizers().values()]
            for optimizer in self.named_optimizers().values():
                fuse(optimizer)
            if opt.ema:
                self.average = WeightAverage(self.networks(), opt.ema)
            if opt.continue_train:
                self.resume()
        else:
            self.load_networks(checkpoint_tag(opt))
        self.print_networks(opt.verbose)
        execution.compile_now(self, compiled)

    def take(self, batch: dict[str, Any]) -> None:
        """Make a batch the input, with its files also for a plugin that does not set `image_paths`."""
        self.image_paths = batch.get("A_paths", [])
        self.takes_one_core = execution.takes_one_core(self, batch)
        self.set_input(batch)

    def eval(self) -> "BaseModel":
        """Evaluation mode, also for a plugin with a `train` of its own."""
        return nn.Module.train(self, False)

    def test(self) -> None:
        """Translate the input: the same image gives the same result, whatever the batch and the order."""
        seeds = [derive(self.opt.seed, Path(path).name) for path in self.image_paths or [""]]
        evaluate = getattr(self.opt, "eval", False)
        cores = one_core() if self.takes_one_core else nullcontext()
        with torch.no_grad(), cores, translating(self, seeds, self.device, evaluate):
            self.forward()
            self.compute_visuals()

    def get_image_paths(self) -> list[str]:
        """The files behind the current input."""
        return self.image_paths

    def get_current_visuals(self) -> dict[str, Any]:
        """Name -> (N, C, H, W) in [-1, 1], or an (H, W, 3) array in 0..255; a visual that is None is left out."""
        visuals = {name: getattr(self, name, None) for name in self.visual_names}
        return {name: value for name, value in visuals.items() if value is not None}

    def visual_domain(self, name: str) -> str:
        """The domain of the data that a visual belongs to: test.py writes it at that domain's depth and range."""
        source, target = self.domains()
        return target if name.endswith("_B") else source

    def translations(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Name -> (output, truth or None), what metrics score after `test`: each visual fake_X, in [-1, 1]."""
        outputs = {name: getattr(self, name, None) for name in self.visual_names if name.startswith("fake_")}
        return {name: (output, getattr(self, f"real_{name.removeprefix('fake_')}", None) if self.paired else None)
                for name, output in outputs.items() if torch.is_tensor(output)}

    def current_loss_tensors(self) -> dict[str, Tensor]:
        """The last value of each loss, on the device: reading it does not wait for the step."""
        values = {name: getattr(self, f"loss_{name}") for name in self.loss_names if hasattr(self, f"loss_{name}")}
        return {name: torch.as_tensor(value, device=self.device).detach() for name, value in values.items()}

    def get_current_losses(self) -> dict[str, float]:
        """The last value of each loss; waits for the device."""
        return {name: float(value) for name, value in self.current_loss_tensors().items()}

    def update_learning_rate(self, metric: float | None = None) -> None:
        """End an epoch for the learning rates; `metric` (smaller is better) is what the plateau policy watches.

        Without a new one that policy waits.
        """
        self.metric = self.metric if metric is None else metric
        for scheduler in self.schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                if metric is not None:
                    scheduler.step(metric)
            else:
                with warnings.catch_warnings():  # resumed at the end of an epoch: no step was taken before
                    warnings.filterwarnings("ignore", "Detected call of", UserWarning)
                    scheduler.step()

    def learning_rate(self) -> float:
        """The rate of the first optimizer, 0 without any."""
        return next((optimizer.param_groups[0]["lr"] for optimizer in self.named_optimizers().values()), 0.0)

    # Networks, optimizers and their files.

    def networks(self) -> dict[str, nn.Module]:
        """Name -> network: those listed in `model_names`, then every other `net*`."""
        found: dict[str, nn.Module] = {}
        for name in [*self.model_names, *(n[3:] for n in self._modules if n.startswith("net"))]:
            net = getattr(self, f"net{name}", None)
            if net is None:
                raise UsageError(f"{type(self).__name__} lists the network '{name}' but has no attribute net{name}")
            if net not in found.values():
                found[name] = net
        return found

    def named_optimizers(self) -> dict[str, Optimizer]:
        """Attribute name or index in `optimizers` -> optimizer, each once."""
        named = {key: value for key, value in vars(self).items() if isinstance(value, Optimizer)}
        listed = {str(i): value for i, value in enumerate(self.optimizers) if value not in named.values()}
        return {**named, **listed}

    def network_state(self) -> dict[str, dict[str, Tensor]]:
        """Name -> plain state_dict on the CPU; the average of a generator is `<name>_ema`."""
        states = {name: plain_state(net) for name, net in self.networks().items()}
        if self.average:
            with self.average.in_place():
                for name in self.average.names:
                    average = plain_state(self.networks()[name])  # which may lie where the weights come back to
                    states[name + AVERAGE] = {key: value.clone() for key, value in average.items()}
        return states

    def is_finite(self) -> bool:
        """Whether all weights and statistics are; waits for the device."""
        return all(bool(value.isfinite().all()) for net in self.networks().values()
                   for value in net.state_dict().values())

    def save_networks(self, tag: str | int) -> None:
        """Write `<tag>_net_<name>.pth` for each network and, with --ema, average; without, no older average stays."""
        from_main(lambda: self._write_networks(tag))

    def _write_networks(self, tag: str | int) -> None:
        states = self.network_state()
        for name, state in states.items():
            checkpoint.save(state, network_file(self.save_dir, tag, name))
            if name + AVERAGE not in states:
                network_file(self.save_dir, tag, name + AVERAGE).unlink(missing_ok=True)

    def load_networks(self, tag: str | int) -> None:
        """Read `<tag>_net_<name>.pth` for each network, or a test with --ema the average; raises UsageError, naming the
        option behind a mismatch.
        """
        averages = not self.isTrain and self.opt.ema
        for name, net in self.networks().items():
            path = network_file(self.save_dir, tag, name + AVERAGE if averages and is_averaged(name) else name)
            load_network(net, from_main(lambda path=path: checkpoint.load(path)), path)
            there = not averages and not self.isTrain and network_file(self.save_dir, tag, name + AVERAGE).exists()
            tell(f"loaded {path}{'; its average is there too: --ema' if there else ''}")

    def save_state(self, progress: dict[str, Any]) -> None:
        """Write `latest_state.pth`, all that a resume needs in one file: plain values and tensors."""
        pools = {key: [image.cpu() for image in pool.images] for key, pool in self.pools().items()}
        own = gathered({"pools": pools, "random": random_states()})
        from_main(lambda: checkpoint.save({
            "networks": self.network_state(),
            "optimizers": {name: o.state_dict() for name, o in self.named_optimizers().items()},
            "schedulers": [s.state_dict() for s in self.schedulers],
            **own[0],
            "other_processes": own[1:],
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
            "metric": float(self.metric),
            "averaged": self.average.steps if self.average else 0,
            "progress": progress,
        }, self._state_file()))

    def resume(self) -> None:
        """Go on where `latest_state.pth` stopped; without it, or with --epoch or --load_iter, read networks only."""
        path = self._state_file()
        tag = checkpoint_tag(self.opt)
        if tag != "latest" or not from_main(path.exists):
            self.load_networks(tag)
            reason = f"{path} does not exist" if tag == "latest" else f"'{tag}' was asked for"
            tell(f"only the networks are restored ({reason}): optimizers start anew, at epoch {self.opt.epoch_count}")
            return
        state = self.restore_weights()
        if len(state["processes"]) == world_size():
            restore_random_states(state["processes"][rank()]["random"])
        else:
            seed_all(derive(self.opt.seed, rank(), state["progress"]["total_iters"]))
        self.metric, self.progress = state["metric"], dict(state["progress"])
        self._saved_schedulers = state["schedulers"]
        self.restore_schedulers()
        tell(f"resumed from {path}: epoch {self.progress['epoch']}, after {self.progress['iters']} of its images")

    def restore_weights(self) -> dict[str, Any]:
        """Put networks, optimizers and pools back to the last save; returns what else it holds."""
        path = self._state_file()
        networks_alone = "networks alone load with --epoch TAG --epoch_count N"
        try:
            state = from_main(lambda: checkpoint.load(path))
        except UsageError as error:
            raise UsageError(f"{error}; {networks_alone}") from error
        try:
            for name, net in self.networks().items():
                load_network(net, state["networks"][name], path)
            self._restore_average(state, path)
            for name, optimizer in self.named_optimizers().items():
                groups = optimizer.state_dict()["param_groups"]  # rates and betas are what the options say now
                optimizer.load_state_dict({"state": state["optimizers"][name]["state"], "param_groups": groups})
                align_state(optimizer)
            if late := set(state["optimizers"]) - set(self.named_optimizers()):
                notice("late", f"the state of {', '.join(sorted(late))} is not restored: the model makes it only later")
            processes = [state, *state.get("other_processes", ())]
            for key, pool in self.pools().items():
                pool.images = [x.to(self.device) for x in processes[rank() % len(processes)]["pools"][key]]
            for name, scaler in self.scalers.items():
                scaler.load_state_dict(state.get("scalers", {}).get(name, scaler.state_dict()))
            return {"processes": processes, **{key: state[key] for key in ("metric", "progress", "schedulers")}}
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} does not fit this model ({error}); was the run trained with another --model or "
                             f"version? If so, {networks_alone}") from error

    def _restore_average(self, state: dict[str, Any], path: Path) -> None:
        if not self.average:
            return
        self.average.restart()
        if state.get("averaged"):
            self.average.steps = state["averaged"]
            with self.average.in_place():
                for name in self.average.names:
                    load_network(self.networks()[name], state["networks"][name + AVERAGE], path)

    def _state_file(self) -> Path:
        return Path(self.save_dir) / STATE

    def pools(self) -> dict[str, ImagePool]:
        """Attribute name -> history of images."""
        return {key: value for key, value in vars(self).items() if isinstance(value, ImagePool)}

    def check_size(self, width: int, height: int) -> None:
        """Raise UsageError when a network can't be trained on images of this size."""
        for net in self.networks().values():
            check_size(net, width, height)

    def restore_schedulers(self) -> None:
        """Put the schedulers where they were; again after `setup`, for those that a plugin makes there."""
        for scheduler, saved in zip(self.schedulers, self._saved_schedulers, strict=False):
            restore_scheduler(scheduler, saved, self.progress["epoch"] - self.opt.epoch_count)

    def print_networks(self, verbose: bool) -> None:
        """One line a network; with `verbose` all its layers."""
        for name, net in self.networks().items():
            if verbose:
                print(net, flush=True)
            millions = sum(p.numel() for p in net.parameters()) / 1e6
            tell(f"network {name}: {millions:.3f} M parameters")


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Gradients pass these networks and their weights get none; enclose the forward, where the graph is built."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def plain_state(net: nn.Module) -> dict[str, Tensor]:
    """A state_dict on the CPU."""
    return {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}


def align_state(optimizer: Optimizer) -> None:
    """Lay out what an optimizer keeps as its parameters lie in memory; fused ones go through both in one order."""
    for parameter, kept in optimizer.state.items():
        for key, value in kept.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.dim():
                kept[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def load_network(net: nn.Module, state: Any, path: str | Path) -> None:
    """Load a state_dict, also an old one; raises UsageError that names the options which explain a mismatch."""
    if not isinstance(state, dict) or state.keys() != net.state_dict().keys():
        state = checkpoint.clean_state_dict(state, path)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reasons = differences(state, getattr(net, "arguments", {}))
        hint = f"it was trained with {', '.join(reasons)}" if reasons else one_line(error, 300)
        raise UsageError(f"{path} does not fit the network: {hint}") from error
