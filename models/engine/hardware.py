"""How a model runs on the hardware at hand: what `auto` means here, and networks made faster accordingly."""

from argparse import Namespace

import torch
from torch import nn

from models.engine.state import networks, optimizers
from networks import fast
from networks.fast.precision import AMP, dtype_of, pick_amp
from util.distributed import world_size
from util.notices import notice, tell

__all__ = ["AMP", "ROWS", "check_rows", "prepare"]

ROWS, check_rows = fast.NAMES, fast.check_names

# Training or not: images of 256x256, with 64 channels in the first layer. A test replays a graph in batches, of which
# compiling, 20 to 30 seconds on an H100, saves a fraction of a millisecond an image.
COMPILING_PAYS = {True: 300, False: 100_000}


def prepare(model: nn.Module, opt: Namespace) -> None:
    """Accelerate a model's networks as the options say, and put what `auto` chose into the options, for the record."""
    opt.amp = "off" if opt.plain else pick_amp(opt.amp, model.device)
    compiled = [] if opt.plain else _to_compile(model, opt)
    opt.compile = "on" if compiled else "off"
    without = check_rows([row for row in ROWS if row != "sync_batch_norm"] if opt.plain else opt.without)
    tile = getattr(opt, "tile", "off")
    if opt.plain and world_size() == 1 and tile in ("auto", "off"):
        return  # of several processes, batch norm is one all the same
    precision, on_cuda = dtype_of(opt.amp), model.device.type == "cuda"
    for net in networks(model).values():
        here = net in compiled
        ours = type(net).__module__.startswith("networks.")  # and does the same each time
        fast.accelerate(net, fast.Choices(
            model.device, precision, compiled=here,
            channels_last_weights=here or on_cuda or (precision is not None and not model.isTrain),
            recompute=getattr(opt, "checkpoint_activations", False), processes=world_size(),
            captured=on_cuda and ours and not model.isTrain and not opt.plain, tile=None if tile == "off" else tile,
            without=without), training=model.isTrain)
    if model.isTrain and precision == torch.float16:
        model._engine.scalers = {name.removeprefix("optimizer_"): torch.amp.GradScaler(model.device.type)
                                 for name in optimizers(model)}


def _to_compile(model: nn.Module, opt: Namespace) -> list[nn.Module]:
    """The networks to compile; logs that the first step will take longer, or that no network gains by it."""
    if not _repays(model, opt):
        return []
    found = {name: net for name, net in networks(model).items() if fast.compilable(net, model.device)}
    if found:
        tell(f"compiling {', '.join(found)}: the first step takes longer; --compile off skips it")
    elif opt.compile == "on":
        notice("compile", f"nothing is compiled: none of these networks gains by it on {model.device.type}")
    return list(found.values())


def _repays(model: nn.Module, opt: Namespace) -> bool:
    """Whether compiling is asked for, or saves more time than it takes; on a CPU, translating has no use for it."""
    engine = model._engine
    if opt.compile != "auto" or engine.planned_size is None or (model.device.type == "cpu" and not model.isTrain):
        return opt.compile == "on"
    width, height = engine.planned_size
    return engine.planned_images * width * height / 256 ** 2 * opt.ngf / 64 >= COMPILING_PAYS[model.isTrain]
