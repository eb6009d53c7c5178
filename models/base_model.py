"""What every model plugin shares; docs/model_plugin.md says how to write one."""

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.engine import hardware, saving, state
from models.engine.building import FromOptions
from models.engine.ema import WeightAverage
from models.engine.schedule import advance, get_scheduler
from models.engine.step import fuse, minimizing, not_a_loss
from networks.label_maps import coloured
from networks.per_image import drawn, translating
from util.distributed import from_main
from util.errors import UsageError, did_you_mean
from util.notices import notice, tell
from util.run_files import checkpoint_tag, run_folder
from util.seed import derive


class BaseModel(FromOptions, nn.Module, ABC):
    """A model is a module: an attribute `netG_A` is the network G_A, an attribute `optimizer_G` an optimizer.

    Plugins of the reference, which list `model_names`, `loss_names`, `visual_names` and `optimizers`, work too: what is
    found both ways counts once. What drives the model keeps its state in `_engine`; other names are free.
    """

    real_A: Any         # (N, C, H, W), or None if the input has none
    real_B: Any
    mask_A: Tensor | None  # (N, 1, H, W), 1 where the image is translated; None without --masks
    mask_B: Tensor | None
    takes_masks = False  # whether it translates inside masks only
    one_sided = True    # whether --model test can replace it: it translates ordinary images
    needs = ""          # what the dataset must have for training: "B", or "pairs"; not inherited
    capturable = False  # True if a step depends on nothing but its input tensors, so it can be replayed; not inherited

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        """Add the model's options, change defaults with `parser.set_defaults`, and return the parser."""
        return parser

    def __init__(self, opt: Namespace):
        super().__init__()
        self.opt = opt
        self.isTrain = opt.isTrain
        self.gpu_ids = opt.gpu_ids
        self.device = opt.device
        self.save_dir = str(run_folder(opt.checkpoints_dir, opt.name))
        self.loss_names: list[str] = []
        self.model_names: list[str] = []
        self.visual_names: list[str] = []
        self.optimizers: list[Optimizer] = []
        self.schedulers: list = []
        self.image_paths: list[str] = []
        self.metric: float = 0             # what the plateau policy watches
        self.mask_A = self.mask_B = None
        self._engine = state.EngineState()

    # What a plugin writes.

    def set_input(self, batch: dict[str, Any]) -> None:
        """Set real_A, real_B (N, C, H, W) and image_paths; with --direction BtoA, A is the batch's B.

        real_A or real_B is None if the batch has none, or if the dataset only repeats that domain.
        """
        self._engine.new_input()
        source, target = self.domains()
        if source not in batch:  # single images are called A in either direction
            source, target = target, source
        present = {d: d in batch and batch.get("repeated") != d for d in "AB"}
        self.real_A = batch[source].to(self.device, non_blocking=True) if present[source] else None
        self.real_B = batch[target].to(self.device, non_blocking=True) if present[target] else None
        self.mask_A, self.mask_B = (batch[f"{d}_mask"].to(self.device, non_blocking=True) if f"{d}_mask" in batch
                                    and present[d] else None for d in (source, target))
        self.image_paths = batch[f"{source if present[source] else target}_paths"]

    @abstractmethod
    def forward(self) -> None:
        """Set the translated images."""

    @abstractmethod
    def optimize_parameters(self) -> None:
        """Take one training step."""

    def compute_visuals(self) -> None:
        """Make what only pictures need; called after `forward` in `test` and before pictures are shown."""

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
        total: Any = sum(terms.values())
        return total

    def minimize(self, name: str, loss: Tensor | Iterator[Tensor]) -> None:
        """Take one step of `optimizer_<name>` on `loss`, or on the sum of several; with --accumulate, on the mean.

        Of an iterator of losses, each is differentiated before the next is computed, which saves memory. Gradients are
        averaged over processes; a step whose loss or gradient is not finite is skipped.
        """
        if not torch.is_tensor(loss) and not isinstance(loss, Iterator):
            raise not_a_loss(self, name, loss)
        optimizer, part = getattr(self, f"optimizer_{name}"), self._engine.part
        if name in self._engine.minimized and part != state.MicroBatch():
            raise UsageError(f"--accumulate needs one minimize('{name}', ...) per batch, not several")
        self._engine.minimized.add(name)
        if part.first:
            optimizer.zero_grad()
        scaler = self._engine.scalers.get(name)
        for term in (loss,) if torch.is_tensor(loss) else loss:
            # NaN unless the loss is finite, even if its gradient is; anomaly detection would blame this line for it.
            finite = 0.0 if torch.is_anomaly_enabled() else (term - term).detach()
            shared = term * (part.share + finite)
            (scaler.scale(shared) if scaler else shared).backward()
        if part.last:
            if scaler:
                scaler.unscale_(optimizer)
            with minimizing(self._engine):
                optimizer.step()
            if scaler:
                scaler.update()

    def due(self, every: int) -> bool:
        """True every `every` steps, starting with the first; captured steps have a graph for each answer."""
        return self._engine.due(every)

    def noise(self, *size: int) -> Tensor:
        """(N, ...) from N(0, 1); in a test that of an image is always the same, and another for each of --n_samples."""
        return drawn(torch.randn, size, self._engine.generators, self.device)

    def uniform(self, *size: int) -> Tensor:
        """(N, ...) between 0 and 1, drawn like `noise`."""
        return drawn(torch.rand, size, self._engine.generators, self.device)

    def set_requires_grad(self, nets: nn.Module | list[nn.Module], requires_grad: bool = False) -> None:
        """Turn the gradients of all weights on or off; `frozen` does it for the duration of a block."""
        for net in nets if isinstance(nets, list) else [nets]:
            if net is not None:
                net.requires_grad_(requires_grad)

    # What scripts call, and what a plugin may override.

    def setup(self, opt: Namespace) -> None:
        """Move to the device, accelerate the networks, make schedulers, load what the options name.

        Raises UsageError if a checkpoint is missing, truncated or of another architecture.
        """
        self.to(self.device)
        hardware.prepare(self, opt)
        if self.isTrain:
            self.schedulers = [get_scheduler(optimizer, opt) for optimizer in state.optimizers(self).values()]
            for optimizer in state.optimizers(self).values() if not opt.plain else ():
                fuse(optimizer)
            if opt.ema:
                self._engine.average = WeightAverage(state.networks(self), opt.ema)
                self._engine.average_every = opt.n_critic
            if opt.continue_train:
                saving.resume(self)
        else:
            self.load_networks(checkpoint_tag(opt.epoch, opt.load_iter))
        self.print_networks(opt.verbose)

    def eval(self) -> "BaseModel":
        """Evaluation mode, also for a plugin with a `train` of its own."""
        return nn.Module.train(self, False)

    def test(self) -> None:
        """Translate the input: the same image gives the same result, in any batch and order."""
        engine, evaluate = self._engine, getattr(self.opt, "eval", False)
        seeds = [derive(self.opt.seed, Path(path).name, *engine.sample) for path in self.image_paths or [""]]
        with torch.no_grad(), translating(self, seeds, self.device, evaluate) as engine.generators:
            self.forward()
            self.compute_visuals()

    def get_image_paths(self) -> list[str]:
        """The files of the current input."""
        return self.image_paths

    def get_current_visuals(self) -> dict[str, Any]:
        """Name -> (N, C, H, W) in [-1, 1], or an (H, W, 3) array in 0..255; a visual that is None is left out.

        Label maps (--label_nc) are coloured.
        """
        visuals = {name: getattr(self, name, None) for name in self.visual_names}
        for name in [name for name in visuals if not hasattr(self, name)]:
            notice(f"visual {name}", f"{type(self).__name__} has '{name}' in visual_names, but sets no such attribute."
                                     f"{did_you_mean(name, vars(self))}")
        labels = getattr(self.opt, "label_nc", 0)
        return {name: coloured(value, labels) if labels and self.visual_domain(name) == self.domains()[0] else value
                for name, value in visuals.items() if value is not None}

    def visual_domain(self, name: str) -> str:
        """The domain of the data that a visual belongs to: test.py writes it at that domain's depth and range."""
        source, target = self.domains()
        return target if name.endswith("_B") else source

    def exported(self, net: nn.Module) -> nn.Module:
        """(N, C, H, W), or its `channels` -> the translation: what `export` writes, given a copy of the generator."""
        return net

    def translations(self) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Name -> (output, truth or None), what metrics score after `test`: each visual fake_X, in [-1, 1]."""
        outputs = {name: getattr(self, name, None) for name in self.visual_names if name.startswith("fake_")}
        paired = self._engine.paired
        return {name: (output, getattr(self, f"real_{name.removeprefix('fake_')}", None) if paired else None)
                for name, output in outputs.items() if torch.is_tensor(output)}

    def get_current_losses(self) -> dict[str, float]:
        """The last value of each loss; waits for the device."""
        return {name: float(value) for name, value in state.losses(self).items()}

    def update_learning_rate(self, metric: float | None = None) -> None:
        """Step the schedulers at the end of an epoch; `metric` (lower is better) is for the plateau policy."""
        self.metric = self.metric if metric is None else metric
        advance(self.schedulers, metric)

    def save_networks(self, tag: str | int) -> None:
        """Write `<tag>_net_<name>.pth` for each network."""
        from_main(lambda: saving.write_networks(self, tag))

    def load_networks(self, tag: str | int) -> None:
        """Read `<tag>_net_<name>.pth` for each network; raises UsageError that names the option behind a mismatch."""
        saving.read_networks(self, tag)

    def print_networks(self, verbose: bool) -> None:
        """One line per network; with `verbose` all its layers."""
        for name, net in state.networks(self).items():
            if verbose:
                print(net, flush=True)
            millions = sum(p.numel() for p in net.parameters()) / 1e6
            tell(f"network {name}: {millions:.3f} M parameters")


@contextmanager
def frozen(*nets: nn.Module) -> Iterator[None]:
    """Gradients pass through these networks but their weights get none; must enclose the forward pass."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
