"""GAN objectives and the gradient penalty."""

import contextlib
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.layers import together
from util.errors import UsageError, unknown
from util.registry import Registry

OBJECTIVES = Registry("GAN objective")


@OBJECTIVES.register("vanilla")
def vanilla(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """Cross entropy of the logits (Goodfellow et al. 2014; non-saturating for the generator)."""
    return F.binary_cross_entropy_with_logits(prediction, target)


@OBJECTIVES.register("lsgan")
def lsgan(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """Least squares (Mao et al. 2017)."""
    return F.mse_loss(prediction, target)


@OBJECTIVES.register("hinge")
def hinge(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """Margin of 1 for the discriminator, the plain mean for the generator (Lim and Ye 2017)."""
    signed = prediction if real else -prediction
    return F.relu(1 - signed).mean() if for_discriminator else -signed.mean()


@OBJECTIVES.register("wgangp")
def wgangp(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """The critic's mean score (Gulrajani et al. 2017); `GANLoss.discriminator` adds the gradient penalty."""
    return -prediction.mean() if real else prediction.mean()


class GANLoss(nn.Module):
    """The objective of a discriminator, and of the generator that tries to fool it, on a map of scores (N, 1, H, W)."""

    def __init__(self, gan_mode: str, target_real_label: float = 1.0, target_fake_label: float = 0.0):
        super().__init__()
        self.gan_mode = gan_mode
        self.objective = OBJECTIVES.constructor(gan_mode)
        self.labels = {True: target_real_label, False: target_fake_label}

    def forward(self, prediction: Tensor, target_is_real: bool, for_discriminator: bool = True) -> Tensor:
        """The mean over all scores, of any shape; the hinge has another form for the generator."""
        target = torch.full_like(prediction, self.labels[bool(target_is_real)])
        return self.objective(prediction, target, bool(target_is_real), for_discriminator)

    def discriminator(self, netD: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of netD, the mean over real and fake plus any penalty, and its terms `real`, `fake`, `gp`.

        `real` and `fake` are (N, C, H, W); `fake` is detached here, so the generator gets no gradient. Batch norm
        normalises real and generated images separately.
        """
        fake = fake.detach()
        scores = together(netD, fake, real)
        terms = {"fake": self(scores[0], False), "real": self(scores[1], True)}
        loss = 0.5 * (terms["fake"] + terms["real"])
        if self.gan_mode == "wgangp":
            terms["gp"] = cal_gradient_penalty(netD, real, fake, real.device)[0]
            loss = loss + terms["gp"]
        return loss, terms


def cal_gradient_penalty(
    netD: nn.Module,
    real_data: Tensor,                  # (N, C, H, W)
    fake_data: Tensor,                  # (N, C, H, W)
    device: torch.device | str,
    type: str = "mixed",                # where the gradient is taken: real, fake, or between them
    constant: float = 1.0,              # the norm aimed at
    lambda_gp: float = 10.0,
) -> tuple[Tensor, Tensor | None]:
    """lambda_gp * E[(|grad D| - constant)^2] and the gradients (N, C*H*W) (Gulrajani et al. 2017, equation 3)."""
    if lambda_gp <= 0.0:
        return torch.zeros((), device=device), None
    if type not in ("real", "fake", "mixed"):
        raise unknown("place for the gradient penalty", type, ("real", "fake", "mixed"))
    if real_data.shape != fake_data.shape:
        raise UsageError(f"the gradient penalty needs real and generated images of one size, not "
                         f"{tuple(real_data.shape)} and {tuple(fake_data.shape)}; use --preprocess resize_and_crop")
    share: Any = {"real": 1.0, "fake": 0.0}.get(type)
    if share is None:
        share = torch.rand(len(real_data), 1, 1, 1, device=device, dtype=real_data.dtype)
    points = (share * real_data + (1 - share) * fake_data).detach().requires_grad_(True)
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    with eager:  # compiled code has no second derivative
        scores = netD(points)
    gradients, = torch.autograd.grad(scores, points, torch.ones_like(scores), create_graph=True)
    gradients = gradients.flatten(1)
    return lambda_gp * ((gradients + 1e-16).norm(2, dim=1) - constant).square().mean(), gradients
