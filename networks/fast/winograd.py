"""3x3 and 4x4 convolutions in float32 by Winograd's F(4x4, 3x3) and F(3x3, 4x4), with a quarter of the multiplications.

Patches of 6x6 pixels, kernels and blocks of results are transformed: y = A' [(G w G') * (B' x B)] A, with one product
for each of 36 coefficients (Lavin and Gray 2016). The gradients are the same formula, transposed. Here the products are
matrix products over all patches and channels at once, and each transform is a matrix over the coefficients. The
relative error is 2e-6, against 2e-7 to 9e-7 for summation in order.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 6
KERNELS = (3, 4)


def block_side(kernel: int) -> int:
    """The side of the block of results that one patch gives."""
    return PATCH - kernel + 1


def _powers(n: int) -> Tensor:
    """(6, n): 1, p, p^2 ... of the points at which polynomials are multiplied: 0, 1, -1, 2, -2 and infinity."""
    points = torch.tensor([0, 1, -1, 2, -2], dtype=torch.float64)
    return torch.cat([points[:, None] ** torch.arange(n), torch.eye(n, dtype=torch.float64)[-1:]])


def _in_two_dimensions(matrix: Tensor) -> Tensor:
    return torch.kron(matrix, matrix).float()


# B' of the paper, and by the side of the kernel G and A'.
INPUT = _in_two_dimensions(torch.tensor([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                                         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]).double())
DIVISORS = torch.tensor([4, -6, -6, 24, 24, 1])  # of a point: the product of its distances to the others
WEIGHT = {side: _in_two_dimensions(_powers(side) / DIVISORS[:, None]) for side in KERNELS}
OUTPUT = {side: _in_two_dimensions(_powers(block_side(side)).t()) for side in KERNELS}


def convolve(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """(N, C, H, W) and (K, C, k, k), float32 on a CPU -> (N, K, H - k + 1 + 2 padding, W - k + 1 + 2 padding)."""
    above, left = padding
    kernel = weight.shape[-1]
    block = block_side(kernel)
    height, width = (x.shape[2 + i] + 2 * padding[i] - kernel + 1 for i in (0, 1))
    edges = (left, left + -width % block, above, above + -height % block)  # to whole blocks
    return convolved(F.pad(x, edges) if any(edges) else x, weight)[..., :height, :width]


LIBRARY = torch.library.Library("image_translation", "DEF")


def _operator(function: Callable) -> torch._ops.OpOverload:
    """Make it opaque to the compiler, whose version of the transforms is four times slower.

    (`torch.library.custom_op` would do the same, but imports the compiler at the first call.)
    """
    def in_float32(a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return function(a, b)

    name = f"winograd_{function.__name__}"
    LIBRARY.define(f"{name}(Tensor a, Tensor b) -> Tensor")
    LIBRARY.impl(name, in_float32, "CPU")
    return getattr(torch.ops.image_translation, name).default


# The convolution and its gradients. Each is linear in both arguments, so its own gradients are the other two.
# Shapes: h by w blocks of side b, kernels of side k, x (N, C, b h + k - 1, b w + k - 1).

@_operator
def convolved(x: Tensor, weight: Tensor) -> Tensor:
    """x and (K, C, k, k) -> (N, K, b h, b w)."""
    kernel = weight.shape[-1]
    block = block_side(kernel)
    products = torch.bmm(_transform(INPUT, _patches(x, block)), _transformed(weight).transpose(1, 2))
    return _joined(_transform(OUTPUT[kernel], products), len(x), (x.shape[2] - kernel + 1) // block, block)


@_operator
def gradient_of_x(of_y: Tensor, weight: Tensor) -> Tensor:
    """(N, K, b h, b w) and (K, C, k, k) -> x."""
    kernel = weight.shape[-1]
    block = block_side(kernel)
    products = torch.bmm(_transform(OUTPUT[kernel].t(), _blocks(of_y, block)), _transformed(weight))
    return _overlapped(_transform(INPUT.t(), products), len(of_y), of_y.shape[2] // block, block)


@_operator
def gradient_of_weight(x: Tensor, of_y: Tensor) -> Tensor:
    """x and (N, K, b h, b w) -> (K, C, k, k)."""
    kernel = x.shape[2] - of_y.shape[2] + 1
    block = block_side(kernel)
    blocks = _transform(OUTPUT[kernel].t(), _blocks(of_y, block)).transpose(1, 2)
    products = torch.bmm(blocks, _transform(INPUT, _patches(x, block)))
    weights = (WEIGHT[kernel].t() @ products.flatten(1)).t().contiguous()
    return weights.view(of_y.shape[1], x.shape[1], kernel, kernel)


def _describe(operator: torch._ops.OpOverload, shape: Callable, layout: torch.memory_format,
              *gradients: Callable) -> None:
    """Register the shape of an operator's result, and its gradients as functions of (gradient, a, b)."""
    def remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors  # read once: recomputed activations are given only once
        return tuple(of(gradient, a, b) if needed else None
                     for of, needed in zip(gradients, ctx.needs_input_grad, strict=True))

    def fake(a: Tensor, b: Tensor) -> Tensor:
        return torch.empty(shape(a, b), dtype=a.dtype, device=a.device, memory_format=layout)

    name = operator.name()
    torch.library.register_fake(name, fake, lib=LIBRARY)
    torch.library.register_autograd(name, backward, setup_context=remember, lib=LIBRARY)


def _sides(x: Tensor, more: int) -> tuple[int, int]:
    return x.shape[2] + more, x.shape[3] + more


# The gradient is contiguous if x is, in case a plugin called `F.instance_norm` before: see `layers.InstanceNorm2d`.
_describe(convolved, lambda x, w: (len(x), len(w), *_sides(x, 1 - w.shape[-1])), torch.channels_last,
          lambda g, x, w: gradient_of_x(g, w).contiguous() if x.is_contiguous() else gradient_of_x(g, w),
          lambda g, x, w: gradient_of_weight(x, g))
_describe(gradient_of_x, lambda y, w: (len(y), w.shape[1], *_sides(y, w.shape[-1] - 1)), torch.channels_last,
          lambda g, y, w: convolved(g, w), lambda g, y, w: gradient_of_weight(g, y))
_describe(gradient_of_weight, lambda x, y: (y.shape[1], x.shape[1], *2 * [x.shape[2] - y.shape[2] + 1]),
          torch.contiguous_format,
          lambda g, x, y: gradient_of_x(y, g), lambda g, x, y: convolved(x, g))


def _transform(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.flatten(1)).unflatten(1, x.shape[1:])


def _transformed(weight: Tensor) -> Tensor:
    """(K, C, k, k) -> (36, K, C)."""
    channels = weight.shape[:2]
    return (WEIGHT[weight.shape[-1]] @ weight.reshape(channels.numel(), -1).t()).unflatten(1, channels)


def _patches(x: Tensor, block: int) -> Tensor:
    """(N, C, b h + k - 1, b w + k - 1) -> (36, N h w, C)."""
    return x.unfold(2, PATCH, block).unfold(3, PATCH, block).permute(4, 5, 0, 2, 3, 1).flatten(2, 4).flatten(0, 1)


def _blocks(y: Tensor, block: int) -> Tensor:
    """(N, K, b h, b w) -> (b^2, N h w, K)."""
    return y.unflatten(3, (-1, block)).unflatten(2, (-1, block)).permute(3, 5, 0, 2, 4, 1).flatten(2, 4).flatten(0, 1)


def _joined(blocks: Tensor, n: int, rows: int, block: int) -> Tensor:
    """(b^2, N h w, K) -> (N, K, b h, b w)."""
    blocks = blocks.unflatten(1, (n, rows, -1)).unflatten(0, (block, block)).permute(2, 3, 0, 4, 1, 5)
    columns, channels = blocks.shape[3], blocks.shape[5]
    # Not a view of another tensor: an in-place activation may follow.
    y = torch.empty(n, channels, block * rows, block * columns, memory_format=torch.channels_last)
    y.permute(0, 2, 3, 1).view(blocks.shape).copy_(blocks)
    return y


def _overlapped(patches: Tensor, n: int, rows: int, block: int) -> Tensor:
    """(36, N h w, C) -> (N, C, b h + k - 1, b w + k - 1), the sum of overlapping patches."""
    patches = patches.unflatten(1, (n, rows, -1)).unflatten(0, (PATCH, PATCH)).permute(2, 3, 0, 4, 1, 5)
    columns, channels = patches.shape[3], patches.shape[5]
    x = patches.new_zeros(n, rows + 1, block, columns + 1, block, channels)
    more = PATCH - block  # of a patch, in the next block
    x[:, :-1, :, :-1] = patches[:, :, :block, :, :block]
    x[:, 1:, :more, :-1] += patches[:, :, block:, :, :block]
    x[:, :-1, :, 1:, :more] += patches[:, :, :block, :, block:]
    x[:, 1:, :more, 1:, :more] += patches[:, :, block:, :, block:]
    rest = block - more
    x = x.flatten(3, 4).flatten(1, 2)[:, :-rest or None, :-rest or None]
    return x.permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)
