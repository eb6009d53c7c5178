"""The engine's state of a model, its attribute `_engine`, and what it finds in a model."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.engine.ema import WeightAverage
from util.distributed import share, world_size
from util.errors import UsageError
from util.image_pool import ImagePool
from util.progress import Means


class MicroBatch(NamedTuple):
    """Which part of a step a batch is, with --accumulate; without, it is the whole step."""

    first: bool = True
    share: float = 1.0   # of the step's images in this process
    last: bool = True


@dataclass
class EngineState:
    """The state of one model."""

    planned_images: int = 0                          # of the whole run, for --compile auto
    planned_size: tuple[int, int] | None = None      # (width, height) if all images share one size
    paired: bool = False                             # whether real_X is the truth of fake_X
    part: MicroBatch = field(default_factory=MicroBatch)
    minimized: set[str] = field(default_factory=set)  # optimizers that have had this batch
    minimizing: bool = False                         # inside `minimize`
    steps: int = 0                                   # taken in the training
    periods: set[int] = field(default_factory=set)   # that `due` was asked for
    guarded: bool = False                            # a Guard is active around all steps
    generators: list[torch.Generator] = field(default_factory=list)  # in a test, of each image of the batch
    sample: tuple[int, ...] = ()                     # which of several translations of one input; () is the first
    scalers: dict[str, torch.amp.GradScaler] = field(default_factory=dict)
    average: WeightAverage | None = None             # with --ema
    average_every: int = 1                           # steps, of which the generator takes one
    progress: dict[str, Any] = field(default_factory=dict)               # of the run that was resumed
    best: dict[str, Any] = field(default_factory=dict)                   # checkpoint, of a run that goes back
    saved_schedulers: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, part: MicroBatch) -> None:
        """The next call of `optimize_parameters` sees this part of a step."""
        self.part, self.minimized = part, set()

    def end_step(self) -> None:
        """Count a step of the training, and if the generator took one, its weights in the average."""
        if self.average and self.due(self.average_every):
            self.average.update()
        self.steps += 1

    def new_input(self) -> None:
        """In a loop of the plugin's own, `set_input` ends the step before it."""
        if not self.guarded and self.minimized:
            self.steps, self.minimized = self.steps + 1, set()

    def due(self, every: int) -> bool:
        """True every `every` steps, starting with the first."""
        self.periods.add(every)
        return self.steps % every == 0

    def kind_of_step(self) -> tuple[tuple[int, bool], ...]:
        """What `due` answers in this step."""
        return tuple((every, self.due(every)) for every in sorted(self.periods))


def networks(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> network: those that a plugin lists in `model_names`, then every other attribute `net*`."""
    found: dict[str, nn.Module] = {}
    for name in [*model.model_names, *(n[3:] for n in model._modules if n.startswith("net"))]:
        net = getattr(model, f"net{name}", None)
        if net is None:
            raise UsageError(f"{type(model).__name__} lists the network '{name}' but has no attribute net{name}")
        if net not in found.values():
            found[name] = net
    return found


def optimizers(model: nn.Module) -> dict[str, Optimizer]:
    """Attribute name, or index in the list `optimizers` -> optimizer, each once."""
    named = {key: value for key, value in vars(model).items() if isinstance(value, Optimizer)}
    listed = {str(i): value for i, value in enumerate(model.optimizers) if value not in named.values()}
    return {**named, **listed}


def pools(model: nn.Module) -> dict[str, ImagePool]:
    """Attribute name -> history of images."""
    return {key: value for key, value in vars(model).items() if isinstance(value, ImagePool)}


def losses(model: nn.Module) -> dict[str, Tensor]:
    """The last value of each loss, on the device: reading it does not wait for the step."""
    values = {name: getattr(model, f"loss_{name}") for name in model.loss_names if hasattr(model, f"loss_{name}")}
    return {name: torch.as_tensor(value, device=model.device).detach() for name, value in values.items()}


def mean_losses(model: nn.Module) -> dict[str, float]:
    """The last value of each loss, the mean over all images of all processes; waits for the device."""
    if world_size() == 1:
        return model.get_current_losses()
    means = Means()
    means.add(losses(model), share.batch)
    return means.read()


def learning_rate(model: nn.Module) -> float:
    """The rate of the first optimizer, 0 without any."""
    return next((optimizer.param_groups[0]["lr"] for optimizer in optimizers(model).values()), 0.0)
