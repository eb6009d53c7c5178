"""3x3 convolutions in float32 by F(4x4, 3x3) of Lavin and Gray (2016): a quarter of the multiplications.

Where patches of 6x6 pixels, kernels and blocks of 4x4 results are transformed, y = A' [(G w G') * (B' x B)] A with a
product for each of 36 coefficients; the gradients are the same, transposed. Here those products are matrices, for all
patches and channels at once, and each transform a matrix over the coefficients. The result is right to 2e-6, where
adding up in order is to 2e-7 to 9e-7.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE, BLOCK, KERNEL = 6, 4, 3


def _in_two_dimensions(rows: list[list[float]]) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix).float()


# Interpolated at 0, 1, -1, 2, -2 and infinity.
INPUT = _in_two_dimensions([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                            [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])        # B' of the paper
WEIGHT = _in_two_dimensions([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
                             [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]])          # G
OUTPUT = _in_two_dimensions([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # A'


def convolve(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """(N, C, H, W) and (K, C, 3, 3), float32 on a CPU -> (N, K, H - 2 + 2 padding, W - 2 + 2 padding)."""
    above, left = padding
    height, width = (x.shape[2 + i] + 2 * padding[i] - KERNEL + 1 for i in (0, 1))
    edges = (left, left + -width % BLOCK, above, above + -height % BLOCK)  # to whole blocks
    return convolved(F.pad(x, edges) if any(edges) else x, weight)[..., :height, :width]


def _operator(function: Callable) -> torch.library.CustomOpDef:
    """Something to call as it is in compiled code too: the compiler makes nothing good of the transforms."""
    return torch.library.custom_op(f"image_translation::winograd_{function.__name__}", function, mutates_args=())


# The convolution and its gradients. Each is linear in both arguments, so its own gradients are the other two.

@_operator
def convolved(x: Tensor, weight: Tensor) -> Tensor:
    """(N, C, 4h + 2, 4w + 2) and (K, C, 3, 3) -> (N, K, 4h, 4w)."""
    products = torch.bmm(_transform(INPUT, _patches(x)), _transform(WEIGHT, _kernels(weight)))
    return _joined(_transform(OUTPUT, products), len(x), x.shape[2] // BLOCK)


@_operator
def gradient_of_x(of_y: Tensor, weight: Tensor) -> Tensor:
    """(N, K, 4h, 4w) and (K, C, 3, 3) -> (N, C, 4h + 2, 4w + 2)."""
    kernels = _transform(WEIGHT, _kernels(weight)).transpose(1, 2)
    products = torch.bmm(_transform(OUTPUT.t(), _blocks(of_y)), kernels)
    return _overlapped(_transform(INPUT.t(), products), len(of_y), of_y.shape[2] // BLOCK)


@_operator
def gradient_of_weight(x: Tensor, of_y: Tensor) -> Tensor:
    """(N, C, 4h + 2, 4w + 2) and (N, K, 4h, 4w) -> (K, C, 3, 3)."""
    patches = _transform(INPUT, _patches(x)).transpose(1, 2)
    kernels = _transform(WEIGHT.t(), torch.bmm(patches, _transform(OUTPUT.t(), _blocks(of_y))))
    return kernels.unflatten(0, (KERNEL, KERNEL)).permute(3, 2, 0, 1).contiguous()


def _describe(operator: torch.library.CustomOpDef, shape: Callable, layout: torch.memory_format,
              *gradients: Callable) -> None:
    """Tell torch what the result of two arguments is like, and their gradients, given the result's and both."""
    def remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(of(gradient, *ctx.saved_tensors) if needed else None
                     for of, needed in zip(gradients, ctx.needs_input_grad, strict=True))

    operator.register_fake(lambda a, b: torch.empty(shape(a, b), dtype=a.dtype, device=a.device, memory_format=layout))
    operator.register_autograd(backward, setup_context=remember)


_describe(convolved, lambda x, w: (len(x), len(w), x.shape[2] - 2, x.shape[3] - 2), torch.channels_last,
          lambda g, x, w: gradient_of_x(g, w), lambda g, x, w: gradient_of_weight(x, g))
_describe(gradient_of_x, lambda y, w: (len(y), w.shape[1], y.shape[2] + 2, y.shape[3] + 2), torch.channels_last,
          lambda g, y, w: convolved(g, w), lambda g, y, w: gradient_of_weight(g, y))
_describe(gradient_of_weight, lambda x, y: (y.shape[1], x.shape[1], KERNEL, KERNEL), torch.contiguous_format,
          lambda g, x, y: gradient_of_x(y, g), lambda g, x, y: convolved(x, g))


def _transform(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.flatten(1)).unflatten(1, x.shape[1:])


def _kernels(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (9, C, K)."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1)


def _patches(x: Tensor) -> Tensor:
    """(N, C, 4h + 2, 4w + 2) -> (36, N h w, C)."""
    return x.unfold(2, SIZE, BLOCK).unfold(3, SIZE, BLOCK).permute(4, 5, 0, 2, 3, 1).flatten(2, 4).flatten(0, 1)


def _blocks(y: Tensor) -> Tensor:
    """(N, K, 4h, 4w) -> (16, N h w, K)."""
    return y.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).permute(3, 5, 0, 2, 4, 1).flatten(2, 4).flatten(0, 1)


def _joined(blocks: Tensor, n: int, rows: int) -> Tensor:
    """(16, N h w, K) -> (N, K, 4h, 4w)."""
    blocks = blocks.unflatten(1, (n, rows, -1)).unflatten(0, (BLOCK, BLOCK)).permute(2, 3, 0, 4, 1, 5)
    columns, channels = blocks.shape[3], blocks.shape[5]
    # No view of another tensor, which an activation in place could not change.
    y = torch.empty(n, channels, BLOCK * rows, BLOCK * columns, memory_format=torch.channels_last)
    y.permute(0, 2, 3, 1).view(blocks.shape).copy_(blocks)
    return y


def _overlapped(patches: Tensor, n: int, rows: int) -> Tensor:
    """(36, N h w, C) -> (N, C, 4h + 2, 4w + 2), where patches overlap their sum."""
    patches = patches.unflatten(1, (n, rows, -1)).unflatten(0, (SIZE, SIZE)).permute(2, 3, 0, 4, 1, 5)
    columns, channels = patches.shape[3], patches.shape[5]
    x = patches.new_zeros(n, rows + 1, BLOCK, columns + 1, BLOCK, channels)
    x[:, :-1, :, :-1] = patches[:, :, :BLOCK, :, :BLOCK]
    x[:, 1:, :2, :-1] += patches[:, :, BLOCK:, :, :BLOCK]
    x[:, :-1, :, 1:, :2] += patches[:, :, :BLOCK, :, BLOCK:]
    x[:, 1:, :2, 1:, :2] += patches[:, :, BLOCK:, :, BLOCK:]
    return x.flatten(3, 4).flatten(1, 2)[:, :-2, :-2].permute(0, 3, 1, 2).clone(memory_format=torch.channels_last)
