"""Translate batch after batch: on a CPU several at once, each on a core of its own."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from models.base_model import BaseModel
from models.engine.hardware import takes_one_core
from networks.per_image import in_mode

Translated = tuple[BaseModel, dict[str, Any]]


def feed(model: BaseModel, batch: dict[str, Any]) -> None:
    """Make a batch the model's input, with its files also for a plugin that does not set `image_paths`."""
    model.image_paths = batch.get("A_paths", [])
    model._engine.one_core = takes_one_core(model, batch)
    model.set_input(batch)


def tested(model: BaseModel, batch: dict[str, Any]) -> Translated:
    """The model after `test` on a batch, and the batch."""
    feed(model, batch)
    model.test()
    return model, batch


def translated(model: BaseModel, batches: Iterable[dict[str, Any]]) -> Iterator[Translated]:
    """(the model after `test`, the batch) for each batch, in order.

    If a batch takes one core and the first one changed nothing, as many are translated at once as there are cores.
    """
    batches, cores = iter(batches), torch.get_num_threads()
    if not (first := next(batches, None)):
        return
    several = cores > 1 and takes_one_core(model, first) and vars(type(model)).get("capturable")
    before = _changeable(model) if several else []
    result = tested(model, first)
    several = several and all(map(torch.equal, before, _changeable(model)))
    yield result
    yield from _at_once(model, batches, cores) if several else (tested(model, batch) for batch in batches)


def _changeable(model: BaseModel) -> list[Tensor]:
    """What a translation might change: the random generator, and buffers, as those of spectral norm."""
    return [torch.get_rng_state(), *(buffer.clone() for buffer in model.buffers())]


def _at_once(model: BaseModel, batches: Iterable[dict[str, Any]], cores: int) -> Iterator[Translated]:
    """As `translated`, by shallow copies of the model, which share its networks; a batch that takes all cores waits."""
    ahead: deque[Future[Translated]] = deque()

    def work(batch: dict[str, Any]) -> Translated:
        replica = copy.copy(model)
        replica._engine = copy.copy(model._engine)
        return tested(replica, batch)

    mode = in_mode(model, not getattr(model.opt, "eval", False))  # once: threads that switch it would race
    try:
        with mode, ThreadPoolExecutor(cores, initializer=_enter_thread) as pool:
            for batch in batches:
                alone = not takes_one_core(model, batch)
                if not alone:
                    ahead.append(pool.submit(work, batch))
                while len(ahead) > (0 if alone else 2 * cores):
                    yield ahead.popleft().result()
                if alone:
                    yield tested(model, batch)
            while ahead:
                yield ahead.popleft().result()
    finally:
        torch.set_num_threads(cores)  # of threads that are still to start


def _enter_thread() -> None:
    torch.set_num_threads(1)
    torch.autocast("cpu", enabled=False).__enter__()  # the outermost autocast keeps cast weights: it is never left
