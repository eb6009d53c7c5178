"""Matrix products in float32 on a CPU, by the library that is quicker there.

torch takes MKL's, which uses half of what AMD's Zen 5 can do (0.21 of 0.46 TFLOP/s on two cores); oneDNN's takes it
all.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from util.device import cpu_seconds

CLEARLY = 1.5  # times as quick, so that no two runs choose differently: the libraries round differently


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """(M, K) and (K, N) -> (M, N); in other types than float32, and compiled, it is torch's own product."""
    if a.dtype != torch.float32 or torch.compiler.is_compiling() or not _onednn_is_quicker():
        return a @ b
    return _Product.apply(a, b)


def multiply_each(a: Tensor, b: Tensor) -> Tensor:
    """(G, M, K) and (G, K, N), float32 -> (G, M, N), inside of an operator: without gradients."""
    if not _onednn_is_quicker():
        return torch.bmm(a, b)
    return torch.stack([_by_onednn(x, y) for x, y in zip(a, b, strict=True)])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _by_onednn(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return multiply(gradient, b.t()) if of_a else None, _gradient_of(b, a, gradient) if of_b else None


def _gradient_of(b: Tensor, a: Tensor, gradient: Tensor) -> Tensor:
    """In the memory order of b, which are weights, perhaps transposed: autograd would copy another one."""
    return multiply(a.t(), gradient) if b.is_contiguous() else multiply(gradient.t(), a).t()


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


@functools.cache
def _onednn_is_quicker() -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    x = torch.ones(512, 512)
    usual, onednn = cpu_seconds(lambda: x @ x, lambda: _by_onednn(x, x))
    return CLEARLY * onednn < usual
