"""Score a model's translations, and decide which checkpoint is the best."""

import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from models.base_model import BaseModel
from util.distributed import from_main, gathered
from util.errors import UsageError, with_place
from util.images import ValueRange, tensor2im
from util.metrics import find_metrics
from util.metrics.scores import Figure, Scores, choose
from util.notices import notice
from util.seed import random_states, restore_random_states

FOLLOWED = ("lpips", "l1", "kid", "swd")  # by --best_metric auto: the first that the outputs have


def feed(model: BaseModel, batch: dict[str, Any]) -> None:
    """Make a batch the model's input, with its files also for a plugin that does not set `image_paths`."""
    model.image_paths = batch.get("A_paths", [])
    model.set_input(batch)


def translated(model: BaseModel, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields each batch after `model.test()` on it."""
    for batch in batches:
        feed(model, batch)
        model.test()
        yield batch


def values_of(opt: Namespace, domain: str) -> ValueRange:
    """The depth and range of a domain's files."""
    return ValueRange.parse(getattr(opt, f"depth_{domain}"), getattr(opt, f"range_{domain}"))


class Followed(NamedTuple):
    """The figure that decides which checkpoint is the best."""

    name: str
    value: float
    higher_is_better: bool

    @property
    def cost(self) -> float:
        """Positive, lower is better, for the plateau policy."""
        return 1 / (1 + max(self.value, 0)) if self.higher_is_better else self.value

    def beats(self, value: float | None) -> bool:
        """Whether it is finite, and better than the earlier value if there is one."""
        better = value is None or (self.value > value if self.higher_is_better else self.value < value)
        return math.isfinite(self.value) and better


def follow(values: dict[str, float], wish: str) -> Followed | None:
    """The mean of the values that --best_metric names: one, as "fake_B/l1", a metric of all outputs, or `auto`.

    Values of translations (`fake_*`) are used if there are any, else all; `auto` ignores the cycle error (`rec_*`),
    which says nothing about the translation.
    """
    for name in FOLLOWED if wish == "auto" else (wish,):
        keys = [key for key in values if name in (key, key.split("/")[1])
                and not (wish == "auto" and key.startswith("rec_"))]
        if keys := [key for key in keys if key.startswith("fake_")] or keys:
            metric, = find_metrics([name.split("/")[-1]])
            return Followed(name, sum(values[key] for key in keys) / len(keys), metric.higher_is_better)
    return None


def add_translations(scores: Scores, model: BaseModel, images: Sequence[str]) -> None:
    """Score a model's translations of a batch of images, rounded as in their files."""
    for name, (output, truth) in model.translations().items():
        written = values_of(model.opt, model.visual_domain(name)).as_written
        scores.add(name, images, written(output), truth if truth is None else written(truth))
        real = getattr(model, f"real_{name.removeprefix('fake_')}", None) if name.startswith("fake_") else None
        if torch.is_tensor(real):
            scores.add_reference(name, images, written(real))


class Validation:
    """Translates images that are not trained on, exactly as test.py does, and leaves the training undisturbed."""

    def __init__(self, opt: Namespace, model: BaseModel, loader: Any):  # of the package data
        self.model, self.loader = model, loader
        followed = [] if opt.best_metric == "auto" else [opt.best_metric.split("/")[-1]]
        self.scores = Scores(choose([*opt.metrics, *followed], opt.metric_weights), model.device, opt.metric_weights)
        if missing := set(followed) - {metric.name for metric in self.scores.metrics}:
            raise UsageError(f"--best_metric {opt.best_metric} can't be followed: no {', '.join(missing)} here")

    def __call__(self, each: Callable[[], None]) -> dict[str, Figure]:
        """"fake_B/l1" -> its figure; `each` is called after each batch. With --ema, of the averaged generators."""
        self.scores.clear()
        with as_tested(self.model), averaged(self.model):
            for _ in translated(self.model, self.loader):
                add_translations(self.scores, self.model, self.model.get_image_paths())
                each()
        for part in gathered(self.loader.errors):
            for path, error in part.items():
                notice(f"validation {path}", f"validation leaves out {error}")
        self.scores.gather()
        return from_main(self.scores.figures)


def averaged(model: BaseModel) -> AbstractContextManager[None]:
    """Inside the block, generators have their averaged weights, if --ema keeps such."""
    average = model._engine.average
    return average.in_place() if average else nullcontext()


@contextmanager
def as_tested(model: BaseModel) -> Iterator[None]:
    """Inside the block, `model.test()` translates as test.py does; afterwards, nothing has changed."""
    weights_stay_cast = torch.autocast(model.device.type, enabled=False)
    with undisturbed(model), weights_stay_cast:
        model.isTrain = False
        yield


@contextmanager
def undisturbed(model: BaseModel) -> Iterator[None]:
    """Restore the model's attributes and the random generators afterwards."""
    attributes, states = dict(vars(model)), random_states()
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(attributes)
        restore_random_states(states)


def best_of(state: dict[str, Any], found: Followed, epoch: int) -> tuple[dict[str, Any], bool]:
    """What is known about the best checkpoint after a validation, and whether this is it; epoch 0 means none."""
    if state.get("name") != found.name:
        state = {"name": found.name, "value": None, "epoch": 0, "worse": 0}  # another metric has a best of its own
    if found.beats(state["value"]):
        return {"name": found.name, "value": found.value, "epoch": epoch, "worse": 0}, True
    return {**state, "worse": state["worse"] + 1}, False


class Pictures:
    """Pictures of the last step, and of a few images of a loader, the same ones at every call."""

    def __init__(self, model: BaseModel, loader: Any, count: int):
        self.model, self.loader, self.count = model, loader, count
        self.samples: list[dict[str, Any]] | None = None  # read when they are first shown

    def __call__(self) -> dict[str, np.ndarray]:
        """Label -> (H, W, 3) uint8, "fake_B" of the last step, "sample1_fake_B" of the first sample."""
        if self.samples is None:
            self.samples = self.loader.samples(self.count)
        return self._of_step() | self._of_samples(self.samples)

    def _of_step(self) -> dict[str, np.ndarray]:
        """The first image of each visual, as test.py would write it; visuals that only a step sets too."""
        with harmless("the pictures of the last step can't be made"), torch.no_grad():
            self.model.compute_visuals()
        visuals, shown = self.model.get_current_visuals(), {}
        with harmless("the model can't be tested, pictures are those of the last step"), as_tested(self.model):
            self.model.test()
            visuals |= self.model.get_current_visuals()
        for label, value in visuals.items():
            with harmless(f"visual {label} can't be shown"):
                shown[label] = tensor2im(value)
        return shown

    def _of_samples(self, samples: Iterable[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Each sample and its translations; with --ema, by averaged generators."""
        shown = {}
        with harmless("the images of every save can't be translated"), as_tested(self.model), averaged(self.model):
            for number, batch in enumerate(samples, 1):
                feed(self.model, batch)
                self.model.test()
                visuals = self.model.get_current_visuals()
                main = [label for label in visuals if label.startswith(("real", "fake"))]
                shown |= {f"sample{number}_{label}": tensor2im(visuals[label]) for label in main or visuals}
        return shown


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Report an error inside the block once and go on: nothing that only shows a training may end it."""
    try:
        yield
    except Exception as error:
        notice(what, f"{what}: {with_place(error)}")
