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
from util.errors import one_line
from util.notices import notice

Translated = tuple[BaseModel, dict[str, Any]]


def translated(model: BaseModel, batches: Iterable[dict[str, Any]]) -> Iterator[Translated]:
    """(the model after `test`, the batch) for each batch, in order.

    Where a batch takes one core and nothing is kept from one to the next, copies of the model translate as many at once
    as there are cores.
    """
    batches, cores = iter(batches), torch.get_num_threads()
    if not (first := next(batches, None)):
        return
    several = cores > 1 and takes_one_core(model, first) and vars(type(model)).get("capturable")
    before = kept(model) if several else []
    result = tested(model, first)
    copies = replicas(model, cores) if several and all(map(torch.equal, before, kept(model))) else []
    yield result
    yield from at_once(model, copies, batches) if copies else (tested(model, batch) for batch in batches)


def tested(model: BaseModel, batch: dict[str, Any]) -> Translated:
    """The model after `test` of a batch, and the batch."""
    model.take(batch)
    model.test()
    return model, batch


def kept(model: BaseModel) -> list[Tensor]:
    """What a translation may change: the random numbers to come, and buffers, as of spectral norm."""
    return [torch.get_rng_state(), *(buffer.clone() for buffer in model.buffers())]


def replicas(model: BaseModel, count: int) -> list[BaseModel]:
    """Copies of a model that share its weights; none where a network can't be copied."""
    copies = []
    try:
        for _ in range(count):
            copies.append(replica := copy.copy(model))
            memo = {id(value): value for value in (*model.parameters(), *model.named_optimizers().values(), model.opt)}
            memo[id(model)] = replica
            vars(replica).update({key: copy.deepcopy(value, memo) for key, value in vars(model).items()
                                  if isinstance(value, (dict, list))})  # among them the networks
            replica.compiled = False  # a copy of what is compiled is what it was compiled from
    except Exception as error:
        notice("replicas", f"images are translated one after the other, a network can't be copied ({one_line(error)})")
        return []
    return copies


def at_once(model: BaseModel, copies: list[BaseModel], batches: Iterable[dict[str, Any]]) -> Iterator[Translated]:
    """As `translated`, by copies of the model; a batch that takes all cores has them alone."""
    cores = len(copies)
    own = threading.local()  # each thread has a copy: while it runs, its layers know the seeds of a batch
    ahead: deque[Future[Translated]] = deque()

    def start() -> None:
        own.model = copies.pop()
        torch.set_num_threads(1)
        torch.autocast("cpu", enabled=False).__enter__()  # the outermost keeps cast weights: never left

    def work(batch: dict[str, Any]) -> Translated:
        return tested(copy.copy(own.model), batch)

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
