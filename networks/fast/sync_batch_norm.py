"""Batch norm over the images of all processes, on every kind of device."""

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # imports the compiler at the first call, torch.compiler.disable at once

from util import distributed


class SyncBatchNorm2d(nn.BatchNorm2d):
    """The statistics are those of the batches of all processes; same weights, same keys.

    Synchronised only where gradients are recorded, which all processes do together; validation and pictures are not.
    A process whose batch only pads the end of an epoch contributes nothing.
    """

    @_disable_dynamo
    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        values = x if x.dtype == torch.float64 else x.float()
        counts = float(distributed.share.batch > 0)
        size = values.new_tensor([values.numel() / values.shape[1]])
        sums = distributed.total_of(torch.cat((values.sum((0, 2, 3)), size)) * counts)
        n = sums[-1].detach()
        mean = sums[:-1] / n
        centred = values - mean[:, None, None]
        variance = distributed.total_of(centred.square().sum((0, 2, 3)) * counts) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp_min(1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)
