"""A diffusion bridge between pairs of images (Liu et al. 2023, "I2SB: image-to-image Schroedinger bridge")."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

LENGTH = 1000        # number of times after 0
BETA_MIN = 1e-4      # variance that the first and the last time add


class Bridge(nn.Module):
    """From x_0, the truth, to x_T, the input, T = LENGTH; `time` is (N,) whole numbers from 0 to T.

    Each time adds noise of the variance beta, whose root rises in a straight line to the middle and falls again.
    """

    before: Tensor       # (T + 1,): the sum of the variances up to a time
    after: Tensor        # and from it on

    def __init__(self, beta_max: float = 0.3):
        super().__init__()
        half = torch.linspace(BETA_MIN ** 0.5, (beta_max / LENGTH) ** 0.5, LENGTH, dtype=torch.float64)[:LENGTH // 2]
        betas = torch.cat((half, half.flip(0))).square()
        before = torch.cat((torch.zeros(1, dtype=torch.float64), betas.cumsum(0)))
        self.register_buffer("before", before.float(), persistent=False)
        self.register_buffer("after", (before[-1] - before).float(), persistent=False)

    def at(self, time: Tensor, x_0: Tensor, x_T: Tensor, noise: Tensor) -> Tensor:
        """x at a time, given both ends: (N, C, H, W) (equation 11)."""
        before, after = (sums[time][:, None, None, None] for sums in (self.before, self.after))
        total = before + after
        return (after * x_0 + before * x_T) / total + (before * after / total).sqrt() * noise

    def target(self, time: Tensor, x: Tensor, x_0: Tensor) -> Tensor:
        """What the network learns to find in x (equation 12)."""
        return (x - x_0) / self.before[time][:, None, None, None].sqrt()

    def start(self, time: Tensor, x: Tensor, found: Tensor) -> Tensor:
        """The x_0 that what the network has found in x stands for."""
        return x - self.before[time][:, None, None, None].sqrt() * found

    def earlier(self, time: Tensor, earlier: Tensor, x: Tensor, x_0: Tensor, noise: Tensor | None) -> Tensor:
        """x at an earlier time, given x_0 and x at this one; without noise, its mean (equation 4)."""
        early, late = (self.before[t][:, None, None, None] for t in (earlier, time))
        between = late - early
        mean = (between * x_0 + early * x) / late
        return mean if noise is None else mean + (between * early / late).sqrt() * noise


class Sampler(nn.Module):
    """From an input (N, C, H, W) to its translation: `net` finds x_0 at ever earlier times, `steps` in all.

    `draw(N, C, H, W)` gives the noise between the steps; without it, each step goes to the mean.
    """

    def __init__(self, net: nn.Module, bridge: Bridge, steps: int, draw: Callable[..., Tensor] | None = None):
        super().__init__()
        self.net, self.bridge, self.draw = net, bridge, draw
        self.times = [round(LENGTH * (1 - step / steps)) for step in range(steps + 1)]

    def forward(self, x: Tensor) -> Tensor:
        given = x
        for times in pairwise(self.times):
            late, early = (torch.full_like(x[:, 0, 0, 0], time, dtype=torch.long) for time in times)
            x_0 = self.bridge.start(late, x, self.net(entering(x, given, late))).clamp(-1, 1)
            x = self.bridge.earlier(late, early, x, x_0, self.draw(*x.shape) if self.draw else None)
        return x


def entering(x: Tensor, given: Tensor, time: Tensor) -> Tensor:
    """What a network sees, (N, 2 C + 1, H, W): x, the input, and the time (N,) as a plane in [0, 1]."""
    plane = (time.to(x) / LENGTH)[:, None, None, None] * torch.ones_like(x[:, :1])
    return torch.cat((x, given, plane), 1)
