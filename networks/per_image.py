"""Run a network for translation: each image by itself, repeatably, and leave no trace in the network."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from networks.fast.tuning import eagerly


@contextmanager
def translating(model: nn.Module, seeds: list[int], device: torch.device, evaluate: bool = False) -> Iterator[None]:
    """Inside the block, what a network makes of an image depends on its weights, the image and its seed alone.

    Batch norm takes each image's own statistics and keeps its running ones; dropout stays on, drawn for image i from
    `seeds[i]`: what training mode does with a batch of one (Isola et al. 2017, 3.2), for any batch. With `evaluate`,
    running statistics and no dropout instead.
    """
    modes = {module: module.training for module in model.modules()}
    replaced = []
    nn.Module.train(model, not evaluate)  # a plugin may have a `train` of its own
    if not evaluate:
        generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        for module in modes:
            if isinstance(module, _BatchNorm):
                module.forward = partial(_norm_per_image, module)
            elif isinstance(module, (nn.Dropout, nn.Dropout2d)):
                module.forward = partial(_dropout_per_image, module, generators)
            else:
                continue
            replaced.append(module)
    eager = eagerly() if replaced else nullcontext()  # it would compile for each seed
    try:
        with eager:
            yield
    finally:
        for module in replaced:
            del module.forward
        for module, mode in modes.items():
            module.training = mode


def _norm_per_image(norm: _BatchNorm, x: Tensor) -> Tensor:
    return F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=norm.eps)


def _dropout_per_image(dropout: nn.Module, generators: list[torch.Generator], x: Tensor) -> Tensor:
    keep = 1 - dropout.p
    shape = x.shape[1:] if isinstance(dropout, nn.Dropout) else (x.shape[1], 1, 1)
    draws = [torch.rand(shape, generator=generators[i % len(generators)], device=x.device) for i in range(len(x))]
    return x * (torch.stack(draws) < keep).to(x.dtype) / keep if keep else torch.zeros_like(x)
