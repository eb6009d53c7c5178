"""Translate batch after batch: on a CPU several at once, each on a core of its own."""

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from models.base_model import BaseModel
from models.execution import takes_one_core
from util.errors import one_line
from util.notices import notice

WRITERS = 4  # threads that use what the calling one translates


def translated(model: BaseModel, batches: Iterable[dict[str, Any]],
               use: Callable[[BaseModel, dict[str, Any]], Any]) -> Iterator[Any]:
    """What `use`, called in a thread, makes of (a model after `test`, the batch), for each batch, in order.

    Where images take one core, as many batches are translated at once as there are cores.
    """
    batches = iter(batches)
    if not (first := next(batches, None)):
        return
    numbers, cores = torch.get_rng_state(), torch.get_num_threads()
    result = tested(model, first)
    draws = not torch.equal(numbers, torch.get_rng_state())  # numbers come in the order of the images
    copies = [] if draws else replicas(model, cores)
    at_once = len(copies)
    own = threading.local()  # each thread has a copy: while it runs, its layers know the seeds of a batch

    def start() -> None:
        torch.set_num_threads(1)
        if copies:
            own.model = copies.pop()
            torch.autocast("cpu", enabled=False).__enter__()  # the outermost keeps cast weights: never left

    def work(batch: dict[str, Any]) -> Any:
        return use(tested(own.model, batch), batch)

    try:
        with ThreadPoolExecutor(at_once or WRITERS, initializer=start) as pool:
            ahead: deque[Future] = deque([pool.submit(use, result, first)])
            for batch in batches:
                if at_once and takes_one_core(model, batch):
                    ahead.append(pool.submit(work, batch))
                else:
                    ahead.append(pool.submit(use, tested(model, batch), batch))
                if len(ahead) > (2 * at_once or WRITERS):  # each holds its batch in memory
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
    finally:
        torch.set_num_threads(cores)  # of threads that are still to start


def tested(model: BaseModel, batch: dict[str, Any]) -> BaseModel:
    """A copy of the model after `test` of a batch; what it has made stays when the model is given another one."""
    model = copy.copy(model)
    model.take(batch)
    model.test()
    return model


def replicas(model: BaseModel, count: int) -> list[BaseModel]:
    """Copies of a model on the CPU that share its weights, but no state of its layers and no attribute set later.

    None for one core, for another device, and where something in a plugin's model can't be copied.
    """
    if count == 1 or model.device.type != "cpu":
        return []
    shared = [*model.parameters(), *model.buffers(), *model.named_optimizers().values(), model.opt]
    copies = []
    try:
        for _ in range(count):
            memo = {id(value): value for value in shared}
            copies.append(replica := copy.copy(model))
            vars(replica).update({key: copy.deepcopy(value, memo) for key, value in vars(model).items()
                                  if isinstance(value, (dict, list))})  # among them the networks
            replica.compiled = False  # a copy of what is compiled is what it was compiled from
    except Exception as error:
        notice("replicas", f"images are translated one after the other: {type(model).__name__} can't be copied "
                           f"({one_line(error)})")
        return []
    return copies
