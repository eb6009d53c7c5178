"""A training step as one CUDA graph: a few hundred kernels start at once instead of one by one."""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.base_model import BaseModel
from models.engine.state import networks, optimizers, pools
from models.engine.step import Guard, is_fused
from util.distributed import world_size
from util.errors import UsageError, one_line
from util.notices import notice, tell
from util.seed import random_states, restore_random_states

WARM_UP = 3       # eager steps first: kernels are chosen and compiled, optimizers get their state
COMPARED = 3      # replayed steps
TOLERANCE = 0.3   # relative to how far the weights moved; a graph that misses an input or an update is at 1


def why_not(model: BaseModel, opt, processes: int) -> str:
    """The reason a step of this training can't be captured, or nothing."""
    reasons = {
        f"{opt.device.type} has no CUDA graphs": opt.device.type != "cuda",
        f"{type(model).__name__} does not say capturable = True": not vars(type(model)).get("capturable"),
        "images differ in size": model._engine.planned_size is None,
        "--accumulate takes several batches": opt.accumulate > 1,
        "--amp fp16 scales its gradients by what it sees": bool(model._engine.scalers),
        "several processes communicate in the step": processes > 1,
        "an optimizer is not a fused Adam": not all(map(is_fused, optimizers(model).values())),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def decide(model: BaseModel, opt: Namespace) -> None:
    """Put into the options, for the record, whether steps are captured: `on` or `off`."""
    reason = "--plain" if opt.plain else "off" if opt.cuda_graph == "off" else why_not(model, opt, world_size())
    if reason and opt.cuda_graph == "on":
        notice("cuda graph", f"--cuda_graph on: steps are not captured, {reason}")
    opt.cuda_graph = "off" if reason else "on"


class Recorded(NamedTuple):
    """One kind of step."""

    replay: Callable[[], None]
    outputs: dict[str, Tensor]  # attributes of the model that it sets
    flags: list[Tensor]         # of the guard


class CapturedStep:
    """Called instead of `optimize_parameters`, after `set_input`; a batch of another shape takes an eager step.

    What changes between steps is in tensors that are filled before a replay: inputs, choices of image pools, learning
    rates. Steps of another kind, by what `due` answers in them, have a graph of their own. `record(step)` returns a
    function that replays the step.
    """

    def __init__(self, model: BaseModel, guard: Guard, record: Callable[[Callable[[], None]], Callable[[], None]]):
        self.model, self.guard, self.record = model, guard, record
        self.given_up = False
        self.forget()

    def __call__(self, inputs: dict[str, Tensor]) -> None:
        """Train on these attributes of the model, which `set_input` has set."""
        kind = self.model._engine.kind_of_step()
        self.steps[kind] += 1
        whole = len(next(iter(inputs.values()), ())) == self.model.opt.batch_size
        if kind not in self.recorded and not self.given_up and self.steps[kind] > WARM_UP and whole:
            self._capture(inputs, kind)
        if kind not in self.recorded or {k: v.shape for k, v in inputs.items()} != self.shapes:
            self.model.optimize_parameters()
            return
        self._fill(inputs)
        self.recorded[kind].replay()
        for pool in self.pools:
            pool.planned = False  # used by the replay, which runs no Python
        vars(self.model).update(self.recorded[kind].outputs)
        self.guard.flags = list(self.recorded[kind].flags)

    def forget(self) -> None:
        """Record again: the optimizers' tensors have been replaced."""
        self.steps: Counter[tuple] = Counter()     # of each kind
        self.recorded: dict[tuple, Recorded] = {}
        self.shapes: dict[str, torch.Size] = {}    # of the inputs, once there are tensors for them

    def _capture(self, inputs: dict[str, Tensor], kind: tuple) -> None:
        """Record the step and compare it with the eager one; on any difference or failure, steps stay eager."""
        before = self._state()
        try:
            if {k: v.shape for k, v in inputs.items()} != self.shapes:
                self._prepare(inputs)
            plain = self._moved(self.model.optimize_parameters, inputs, before)
            self._restore(before)
            self._fill(inputs)
            self._drop_graphs()
            replays: list[Callable[[], None]] = []
            set_by_it = changed_tensors(self.model,
                                        lambda: replays.append(self.record(self._step_with_static_rates)))
            replay, flags, self.guard.flags = replays[0], self.guard.flags, []
            outputs = {name: value.detach() for name, value in set_by_it.items()}
            self._restore(before)
            captured = self._moved(replay, inputs, before)
            difference = float((captured - plain).norm() / plain.norm().clamp_min(1e-30))
            if not difference <= TOLERANCE:
                raise UsageError(f"after {COMPARED} steps its weights are off by {difference:.0%} of their change")
            self.recorded[kind] = Recorded(replay, outputs, flags)
            tell(f"the step is one CUDA graph (weights within {difference:.1%} after {COMPARED} steps)")
        except (RuntimeError, UsageError, torch.AcceleratorError) as error:
            self.given_up = True
            notice("cuda graph", f"steps are not captured ({one_line(error)}); --cuda_graph off skips the attempt")
        self.guard.flags = []
        self._restore(before)
        vars(self.model).update(inputs)

    def _drop_graphs(self) -> None:
        """Detach the model's tensors: autograd nodes of a step on another stream must not enter the capture."""
        for name, value in list(vars(self.model).items()):
            if torch.is_tensor(value) and value.grad_fn is not None:
                setattr(self.model, name, value.detach())

    def _prepare(self, inputs: dict[str, Tensor]) -> None:
        self.shapes = {name: value.shape for name, value in inputs.items()}
        self.inputs = {name: value.clone() for name, value in inputs.items()}
        self.images = len(next(iter(inputs.values())))
        self.rates = [(group, torch.tensor(0.0, device=self.model.device))
                      for optimizer in optimizers(self.model).values() for group in optimizer.param_groups]
        asked = [pool for pool in pools(self.model).values() if pool.pool_size]
        self.pools = sorted(asked, key=lambda pool: pool.last_query)  # they draw in the order of their queries
        for pool in self.pools:
            pool.hold(self.images, next(iter(inputs.values())))

    def _fill(self, inputs: dict[str, Tensor]) -> None:
        """Fill the tensors that differ between two steps."""
        for name, value in inputs.items():
            self.inputs[name].copy_(value)
        vars(self.model).update(self.inputs)
        for group, rate in self.rates:
            rate.fill_(group["lr"])
        for pool in self.pools:
            pool.plan(self.images)

    def _step_with_static_rates(self) -> None:
        numbers = [group["lr"] for group, _ in self.rates]
        for group, rate in self.rates:
            group.update(lr=rate, capturable=True)
        try:
            self.model.optimize_parameters()
        finally:
            for (group, _), number in zip(self.rates, numbers, strict=True):
                group.update(lr=number, capturable=False)

    def _moved(self, step: Callable[[], None], inputs: dict[str, Tensor], before: dict[str, Any]) -> Tensor:
        """The change of the weights after COMPARED steps on these inputs, flattened."""
        for _ in range(COMPARED):
            self._fill(inputs)
            step()
            self.guard.flags = []
        pairs = zip(self._parameters(), before["tensors"], strict=False)  # which begin with the parameters
        return torch.cat([(p.detach() - old).flatten().float() for p, old in pairs])

    def _parameters(self) -> list[Tensor]:
        return [p for net in networks(self.model).values() for p in net.parameters()]

    def _tensors(self) -> list[Tensor]:
        """Everything on the device that a step changes in place, except the pools."""
        buffers = [b for net in networks(self.model).values() for b in net.buffers()]
        states = [v for o in optimizers(self.model).values() for s in o.state.values() for v in s.values()
                  if torch.is_tensor(v)]
        return [*self._parameters(), *buffers, *states]

    def _state(self) -> dict[str, Any]:
        return {"tensors": [t.detach().clone() for t in self._tensors()], "random": random_states(),
                "pools": {key: [image.clone() for image in pool.images] for key, pool in pools(self.model).items()}}

    @torch.no_grad()
    def _restore(self, before: dict[str, Any]) -> None:
        for tensor, value in zip(self._tensors(), before["tensors"], strict=True):
            tensor.copy_(value)
        for key, pool in pools(self.model).items():
            pool.images = list(before["pools"][key])
        restore_random_states(before["random"])


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Record a step on the GPU without running it; returns a function that runs it."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread pins memory meanwhile
        step()
    return graph.replay


def changed_tensors(model: BaseModel, change: Callable[[], None]) -> dict[str, Tensor]:
    """The tensor attributes of a model that a call, such as `set_input`, sets."""
    before = dict(vars(model))
    change()
    return {k: v for k, v in vars(model).items() if torch.is_tensor(v) and before.get(k) is not v}
