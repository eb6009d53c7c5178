"""Distances between two sets of images, for data without pairs."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.metrics import set_metric
from util.metrics.pair_metrics import three_channels

BINS = 256
SIDE, SMALLEST, PATCH, PATCHES, DIRECTIONS = 128, 16, 7, 64, 256


def histograms(images: Tensor) -> Tensor:
    """(N, C, BINS): the share of each image's pixels in equal bins of [0, 1], by channel; NaN counts as black."""
    bins = (images.nan_to_num(0).clamp(0, 1) * (BINS - 1)).round().long().flatten(2)
    counts = torch.zeros(*bins.shape[:2], BINS, dtype=torch.float64)
    return counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=torch.float64)) / bins.shape[2]


@set_metric("colours", features=histograms)
def colours(output: Tensor, reference: Tensor) -> float:
    """Wasserstein distance between the values of all pixels of two sets, 0 to 1, the mean over channels."""
    difference = output.mean(0).cumsum(1) - reference.mean(0).cumsum(1)
    return float(difference.abs().sum(1).mean() / (BINS - 1))


def patches(images: Tensor) -> Tensor:
    """(N, levels, PATCHES, C * PATCH^2): patches at fixed random places of a Laplacian pyramid of 128x128 pixels."""
    draw = torch.Generator().manual_seed(0)
    level = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    found = []
    while True:
        side = level.shape[-1]
        smaller = F.interpolate(level, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
        last = side <= SMALLEST
        detail = level if last else level - F.interpolate(smaller, (side, side), mode="bilinear", align_corners=False)
        places = torch.randint((side - PATCH + 1) ** 2, (PATCHES,), generator=draw)
        found.append(F.unfold(detail, PATCH)[:, :, places].transpose(1, 2))
        if last:
            return torch.stack(found, 1)
        level = smaller


def in_order(rows: Tensor) -> Tensor:
    """Each row sorted, by NumPy: several times as fast as torch on a CPU."""
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))


@set_metric("swd", features=patches)
def swd(output: Tensor, reference: Tensor) -> float:
    """Sliced Wasserstein distance between patches of two sets, times 1000: whether textures agree.

    The mean over the levels of a pyramid (Karras et al. 2018, section 5); it needs no pretrained weights.
    """
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(output.shape[-1], DIRECTIONS, generator=draw).t()
    directions /= directions.norm(dim=1, keepdim=True)
    distances = []
    for a, b in zip(output.unbind(1), reference.unbind(1), strict=True):
        scale = b.std().clamp_min(1 / 255)  # of pictures without detail: a grey level
        projected = [in_order(directions @ x.flatten(0, 1).t() / scale) for x in (a, b)]  # (DIRECTIONS, patches)
        if projected[0].shape != projected[1].shape:  # quantiles of as many
            count = projected[0].shape[1]
            projected[1] = F.interpolate(projected[1][None], count, mode="linear", align_corners=True)[0]
        distances.append((projected[0] - projected[1]).abs().mean())
    return float(torch.stack(distances).mean() * 1000)


def inception_features(network: nn.Module, images: Tensor) -> Tensor:
    """(N, D) of Inception, whose input is resized with anti-aliasing (Parmar et al. 2022)."""
    images = F.interpolate(three_channels(images).float(), (299, 299), mode="bicubic", antialias=True,
                           align_corners=False)
    found = network((images * 255).round().clamp(0, 255).to(torch.uint8))
    return (found[0] if isinstance(found, tuple) else found).cpu()


@set_metric("fid", features=inception_features, needs="inception")
def fid(output: Tensor, reference: Tensor) -> float:
    """Frechet distance between the Inception features of two sets; too high for few images (Heusel et al. 2017).

    Of Gaussians: |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)).
    The trace of the root is the sum of the singular values of A B^T with S = A^T A and S' = B^T B: exact, and small
    matrices if there are fewer images than features.
    """
    means, roots = zip(*(_mean_and_root(x.double()) for x in (output, reference)), strict=True)
    both = torch.linalg.svdvals(roots[0] @ roots[1].t()).sum()
    return float((means[0] - means[1]).square().sum() + sum(root.square().sum() for root in roots) - 2 * both)


def _mean_and_root(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and A with A^T A the covariance."""
    mean = features.mean(0)
    root = (features - mean) / max(1, len(features) - 1) ** 0.5
    return mean, torch.linalg.qr(root, mode="r").R if len(root) > root.shape[1] else root


@set_metric("kid", features=inception_features, needs="inception")
def kid(output: Tensor, reference: Tensor) -> float:
    """Distance between the Inception features of two sets, 0 if they are alike (Binkowski et al. 2018).

    The unbiased squared MMD with the kernel (x y / d + 1)^3, of all images at once.
    """
    a, b = output.double(), reference.double()
    within = []
    for x in (a, b):
        kernel = _cubic(x, x)
        within.append((kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1)))
    return float(within[0] + within[1] - 2 * _cubic(a, b).mean())


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.t() / a.shape[1] + 1) ** 3
