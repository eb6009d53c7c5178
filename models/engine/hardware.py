"""How a model runs on the hardware at hand: precision, memory layout, compilation, and what it takes of memory."""

import inspect
from typing import Any

import torch
from torch import nn

from networks.fast.footprint import activation_bytes, state_bytes
from networks.fast.precision import pick_precision
from networks.fast.tuning import compilable, compile_parts, may_lie_channels_last, times, tune
from util.distributed import world_size
from util.errors import UsageError, one_line
from util.memory import GIB, LESS_MEMORY, free_memory
from util.notices import notice, tell

COMPILING_PAYS = {True: 300, False: 1000}  # training or not: images of 256x256, with 64 channels in the first layer
ONE_CORE = 512 * 512  # pixels of a batch up to which a core each for several is quicker than all cores for each


def prepare(model, opt) -> list[nn.Module]:
    """Set up a model's networks as the options say; returns those that are to be compiled.

    Raises UsageError for what a plugin that takes its optimizer steps itself can't have.
    """
    precision = pick_precision(opt.amp, model.device)
    on_cuda = model.device.type == "cuda"
    _refuse_own_steps(model, opt, precision)
    compiled = [net for net in model.networks().values() if _repays(model, opt) and compilable(net, model.device)]
    for net in model.networks().values():
        here = net in compiled
        if world_size() > 1:
            from networks.fast.sync_batch_norm import synchronise  # with the compiler, whose import takes a second

            synchronise(net)
        if here:
            compile_parts(net)
        channels_last = on_cuda or (model.device.type == "cpu" and may_lie_channels_last(net))
        if channels_last and (here or on_cuda or (precision is not None and not model.isTrain)):
            for parameter in net.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        tune(net, precision, channels_last, recompute=getattr(opt, "checkpoint_activations", False))
    if model.isTrain and precision == torch.float16:
        model.scalers = {name.removeprefix("optimizer_"): torch.amp.GradScaler(model.device.type)
                         for name in model.named_optimizers()}
    return compiled


def _repays(model, opt) -> bool:
    """Whether compiling is asked for, or saves more time than it takes; not where images take one core each."""
    if opt.compile != "auto" or model.planned_size is None or (model.device.type == "cpu" and not model.isTrain):
        return opt.compile == "on"
    width, height = model.planned_size
    return model.planned_images * width * height / 256 ** 2 * opt.ngf / 64 >= COMPILING_PAYS[model.isTrain]


def takes_one_core(model, batch: dict[str, Any]) -> bool:
    """Whether a batch is translated on one core: small images, on a CPU, by eager networks."""
    if model.device.type != "cpu" or (model.compiled and not model.opt.isTrain):
        return False
    images = [value for value in batch.values() if torch.is_tensor(value) and value.dim() >= 4]
    return bool(images) and all(image.numel() <= ONE_CORE * image.shape[1] for image in images)


def _refuse_own_steps(model, opt, precision: torch.dtype | None) -> None:
    wished = [name for name, wish in (("--amp fp16", precision == torch.float16),
                                      ("--accumulate", getattr(opt, "accumulate", 1) > 1)) if wish]
    own = (cls for cls in type(model).__mro__ if cls.__module__ != "models.base_model" and issubclass(cls, nn.Module)
           and not cls.__module__.startswith("torch."))
    if wished and any("step" in function.__code__.co_names for cls in own for function in vars(cls).values()
                      if inspect.isfunction(function)):
        raise UsageError(f"{wished[0]} needs a model whose steps are taken by self.minimize(name, loss); "
                         f"{type(model).__name__} calls step() itself")


def _input_shape(model, net: nn.Module) -> tuple[int, int, int, int]:
    """(N, C, H, W) of what enters a network."""
    width, height = model.planned_size or (256, 256)
    return model.opt.batch_size, getattr(net, "arguments", {}).get("input_nc", model.opt.input_nc), height, width


def compile_now(model, nets: list[nn.Module]) -> None:
    """Compile the first network, and tell what it costs and gains; where that fails, nothing is compiled."""
    if not nets:
        if model.opt.compile == "on":
            notice("compile", f"nothing is compiled: none of these networks says in compiles_on that it gains by it on "
                              f"{model.device.type}")
        return
    try:
        with torch.set_grad_enabled(model.isTrain):
            spent, compiled, without = times(nets[0], torch.zeros(_input_shape(model, nets[0]), device=model.device))
    except Exception as error:  # of a compiler, which may be missing, too old or confused
        torch.compiler.set_stance("force_eager")
        notice("compile", f"networks are not compiled ({one_line(error)}); --compile off says that it need not be "
                          f"tried")
        return
    name = next(name for name, net in model.networks().items() if net is nets[0])
    tell(f"compiled in {spent:.0f} s: a pass of network {name} takes {compiled:.3f} s instead of {without:.3f} s")


def tell_memory(model, opt) -> None:
    """Estimate the peak of a training step, before the first one, and say so where it will not fit."""
    if model.planned_size is None:
        return
    size = 2 if pick_precision(opt.amp, model.device) else 4  # bytes of a value
    states = activations = 0
    for name, net in model.networks().items():
        if not hasattr(net, "arguments"):
            return  # not of define_G or define_D: what enters it is not known
        try:
            kept = activation_bytes(net, _input_shape(model, net)) * size // 4
        except Exception:  # a plugin's network that does not run on shapes alone
            return
        activations += kept * (1 if opt.checkpoint_activations else model.passes.get(name, 1))
        states += state_bytes(net)
    activations += activations // 2  # and what passes through without being kept
    need, free = (states + activations) / GIB, free_memory(model.device) / GIB
    tell(f"memory of a step: about {need:.1f} GiB, {activations / GIB:.1f} of them activations")
    if free and need > free:
        notice("memory", f"only {free:.1f} GiB are free; what helps, in this order: {', '.join(LESS_MEMORY)}")
