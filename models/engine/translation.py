"""Translate batch after batch: on a CPU several at once, each on a core of its own."""

import copy
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from models.base_model import BaseModel
from models.engine.hardware import takes_one_core
from models.engine.state import optimizers
from util.errors import one_line
from util.notices import notice

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

    If a batch takes one core and the first one changed nothing, copies of the model translate as many at once as there
    are cores.
    """
    batches, cores = iter(batches), torch.get_num_threads()
    if not (first := next(batches, None)):
        return
    several = cores > 1 and takes_one_core(model, first) and vars(type(model)).get("capturable")
    before = _changeable(model) if several else []
    result = tested(model, first)
    copies = _copies(model, cores) if several and all(map(torch.equal, before, _changeable(model))) else []
    yield result
    yield from _at_once(model, copies, batches) if copies else (tested(model, batch) for batch in batches)


def _changeable(model: BaseModel) -> list[Tensor]:
    """What a translation might change: the random generator, and buffers, as those of spectral norm."""
    return [torch.get_rng_state(), *(buffer.clone() for buffer in model.buffers())]


def _copies(model: BaseModel, count: int) -> list[BaseModel]:
    """Copies of a model that share its weights but not its modules, which may store something; none if that fails."""
    copies = []
    try:
        for _ in range(count):
            copies.append(replica := copy.copy(model))
            memo = {id(value): value for value in (*model.parameters(), *optimizers(model).values(), model.opt)}
            memo[id(model)] = replica
            vars(replica).update({key: copy.deepcopy(value, memo) for key, value in vars(model).items()
                                  if isinstance(value, (dict, list))})  # among them the networks
    except Exception as error:
        notice("copies", f"images are translated one after the other: the model can't be copied ({one_line(error)})")
        return []
    return copies


def _at_once(model: BaseModel, copies: list[BaseModel], batches: Iterable[dict[str, Any]]) -> Iterator[Translated]:
    """As `translated`, by copies of the model; a batch that takes all cores waits for the others."""
    cores = len(copies)
    own = threading.local()  # the copy of a thread
    ahead: deque[Future[Translated]] = deque()

    def start() -> None:
        own.model = copies.pop()
        torch.set_num_threads(1)
        torch.autocast("cpu", enabled=False).__enter__()  # the outermost autocast keeps cast weights: never left

    def work(batch: dict[str, Any]) -> Translated:
        replica = copy.copy(own.model)
        replica._engine = copy.copy(model._engine)
        return tested(replica, batch)

    try:
        with ThreadPoolExecutor(cores, initializer=start) as pool:
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
