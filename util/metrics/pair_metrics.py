"""How far an image is from the true one, or from another translation of the same input."""

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from util.metrics import pair_metric, sample_metric


@pair_metric("l1")
def l1(output: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the values, 0 (equal) to 1.

    (N, C, H, W), twice -> (N,), as all here.
    """
    return (output - truth).abs().flatten(1).mean(1)


@pair_metric("psnr", higher_is_better=True)
def psnr(output: Tensor, truth: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB, at most 100 (equal)."""
    with np.errstate(divide="ignore"):
        values = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in _arrays(output, truth)]
    return torch.tensor(values).clamp_max(100)


@pair_metric("ssim", higher_is_better=True)
def ssim(output: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity in windows of 7 pixels, at most 1 (equal) (Wang et al. 2004).

    Images under 7 pixels have one window, those under 3 none: NaN.
    """
    side = min(7, (min(output.shape[2:]) - 1) // 2 * 2 + 1)
    if side < 3:
        return torch.full((len(output),), torch.nan)
    return torch.tensor([structural_similarity(b, a, data_range=1.0, channel_axis=2, win_size=side)
                         for a, b in _arrays(output, truth)])


@pair_metric("lpips", needs="lpips")
def lpips(network: nn.Module, output: Tensor, truth: Tensor) -> Tensor:
    """Perceptual distance of AlexNet's features, 0 (equal) and up (Zhang et al. 2018)."""
    return torch.stack([network(three_channels(a), three_channels(b)).cpu()
                        for a, b in zip(output.split(1), truth.split(1), strict=True)]).flatten()


@sample_metric("diversity")
def diversity(output: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference between translations of one input, 0 (equal) to 1."""
    return l1(output, other)


@sample_metric("lpips_diversity", needs="lpips")
def lpips_diversity(network: nn.Module, output: Tensor, other: Tensor) -> Tensor:
    """Perceptual distance between translations of one input, 0 (equal) and up (Zhu et al. 2017, BicycleGAN)."""
    return lpips(network, output, other)


def three_channels(images: Tensor) -> Tensor:
    """(N, C, H, W) as networks for colour photographs take it: the first three channels, or the first one thrice."""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def _arrays(output: Tensor, truth: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """(H, W, C) pairs in double precision."""
    a, b = (images.double().permute(0, 2, 3, 1).cpu().numpy() for images in (output, truth))
    return list(zip(a, b, strict=True))
