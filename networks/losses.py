"""GAN objectives, gradient penalties, and `GANLoss`: the losses of both players."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.augment import augmented
from networks.layers import together
from util.distributed import average_gradients
from util.errors import UsageError, unknown
from util.registry import Registry

OBJECTIVES = Registry("GAN objective")
BALANCE_RATE = 0.001            # of BEGAN's k
CRITICS = ("wgan", "wgangp")    # modes of the Wasserstein distance


@OBJECTIVES.register("vanilla")
@OBJECTIVES.register("relativistic")
def vanilla(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """Cross entropy of the logits (Goodfellow et al. 2014; non-saturating for the generator).

    `relativistic`: of their differences from the mean of the others (Jolicoeur-Martineau 2019, equation 8).
    """
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


@OBJECTIVES.register("wgan")
@OBJECTIVES.register("wgangp")
def wgangp(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """The critic's mean score (Arjovsky et al. 2017); `GANLoss.discriminator` adds the penalty of `wgangp`."""
    return -prediction.mean() if real else prediction.mean()


@OBJECTIVES.register("began")
def began(prediction: Tensor, target: Tensor, real: bool, for_discriminator: bool) -> Tensor:
    """The mean energy, low for real images (Berthelot et al. 2017); `GANLoss.discriminator` weights it with k."""
    return prediction.mean()


class GANLoss(nn.Module):
    """The objective of a discriminator, and of the generator that tries to fool it.

    A discriminator returns scores (N, 1, H, W), or a list of them for several scales, whose losses are averaged. Called
    with `features=True`, it returns for each scale a list of what its layers computed, the scores last.
    """

    def __init__(
        self,
        gan_mode: str,                                 # a name in OBJECTIVES
        target_real_label: float = 1.0,
        target_fake_label: float = 0.0,
        *,
        r1: float = 0.0,                               # gamma of the penalty on real images (Mescheder et al. 2018)
        gp: float = 0.0,                               # weight of the zero-centred penalty between real and generated
        penalty_every: int = 1,                        # steps from one of these penalties to the next
        due: Callable[[int], bool] = lambda every: True,  # whether this step is one of them
        diffaugment: Sequence[str] = (),               # names in AUGMENTATIONS: what the discriminator sees of images
        lambda_feature: float = 0.0,                   # weight of feature matching
        gamma: float = 0.5,                            # of BEGAN: energy of generated images over that of real ones
    ):
        super().__init__()
        self.gan_mode = gan_mode
        self.objective = OBJECTIVES.constructor(gan_mode)
        self.relative = gan_mode == "relativistic"
        self.labels = {True: target_real_label, False: target_fake_label}
        self.r1, self.gp, self.penalty_every, self.due = r1, gp, penalty_every, due
        self.diffaugment, self.lambda_feature, self.gamma = diffaugment, lambda_feature, gamma

    def forward(self, prediction: Tensor | list[Tensor], target_is_real: bool,
                for_discriminator: bool = True) -> Tensor:
        """The mean over all scores, of any shape; the hinge has another form for the generator."""
        if self.relative:
            raise UsageError("--gan_mode relativistic compares real and generated images; this model scores them "
                             "separately (GANLoss.generator and GANLoss.discriminator see both)")
        return self._mean(prediction if isinstance(prediction, list) else [prediction], bool(target_is_real),
                          for_discriminator)

    def _mean(self, scores: list[Tensor], real: bool, for_discriminator: bool) -> Tensor:
        """The objective's mean over the scales."""
        losses = [self.objective(s, torch.full_like(s, self.labels[real]), real, for_discriminator) for s in scores]
        return torch.stack(losses).mean() if len(losses) > 1 else losses[0]

    def discriminator(self, netD: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of netD, and its terms `real`, `fake`, and the penalties `gp` and `r1`.

        It is their sum for a Wasserstein critic, and half of it otherwise. `real` and `fake` are (N, C, H, W); `fake`
        is detached here, so the generator gets no gradient. Batch norm normalises real and generated images separately.
        """
        real, fake = augmented(real, self.diffaugment), augmented(fake.detach(), self.diffaugment)
        on_fake, on_real = ([scale[-1] for scale in scales] for scales in judge(netD, fake, real, learning=True))
        if self.gan_mode == "began":
            return self._energies(netD, on_real[0].mean(), on_fake[0].mean())
        if self.relative:
            on_fake, on_real = relative(on_fake, on_real), relative(on_real, on_fake)
        terms = {"fake": self._mean(on_fake, False, True), "real": self._mean(on_real, True, True)}
        terms |= self._penalties(netD, real, fake)
        total: Any = sum(terms.values())
        return (1.0 if self.gan_mode in CRITICS else 0.5) * total, terms

    def generator(self, netD: nn.Module, fake: Tensor, real: Tensor | None = None, name: str = "G",
                  paired: bool = False) -> dict[str, Tensor]:
        """The losses of a generator whose images are `fake`: `name`, and with lambda_feature `<name>_feature`.

        `real` is needed for feature matching and `relativistic`. With `paired`, each image's features are compared with
        its partner's (Wang et al. 2018, equation 3), else their means over batch and positions (Salimans et al. 2016).
        Features are those of images that are not augmented.
        """
        both = self.relative or self.lambda_feature > 0
        if both and real is None:
            raise UsageError("--gan_mode relativistic and --lambda_feature need real images beside the generated ones; "
                             "this model's generator_loss gives GANLoss.generator none")
        images = [x for x in ((fake, real) if both else (fake,)) if x is not None]
        features = judge(netD, *images, features=True) if self.lambda_feature else []
        if self.diffaugment or not features:
            scored = images if self.relative else images[:1]
            scales, *others = judge(netD, *(augmented(x, self.diffaugment) for x in scored))
        else:
            scales, *others = features
        scores = [scale[-1] for scale in scales]
        if self.relative:
            on_real = [scale[-1] for scale in others[0]]
            loss = 0.5 * (self._mean(relative(scores, on_real), True, False)
                          + self._mean(relative(on_real, scores), False, False))
        else:
            loss = self._mean(scores, True, False)
        if not self.lambda_feature:
            return {name: loss}
        return {name: loss, f"{name}_feature": self.lambda_feature * feature_distance(features[0], features[1], paired)}

    def _energies(self, netD: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """L(x) - k L(G), and the control of k (Berthelot et al. 2017, equation 5); `balance` is their measure M."""
        balance: Any = getattr(netD, "balance", None)
        if balance is None:
            raise UsageError("--gan_mode began needs a discriminator that is an autoencoder: --netD autoencoder")
        difference = (self.gamma * real - fake).detach()
        loss = real - balance.clone() * fake
        with torch.no_grad():
            average_gradients([difference])            # over processes
            balance.copy_((balance + BALANCE_RATE * difference).clamp(0, 1))
        return loss, {"fake": fake, "real": real, "balance": real + difference.abs()}

    def _penalties(self, netD: nn.Module, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        if self.gan_mode == "wgangp":
            return {"gp": cal_gradient_penalty(netD, real, fake, real.device)[0]}
        if not (self.r1 or self.gp) or not self.due(self.penalty_every):
            return {}
        terms = {}
        if self.r1:
            terms["r1"] = self.r1 / 2 * squared_gradient(netD, points_between(real, fake, "real"), "real")
        if self.gp:
            terms["gp"] = self.gp * squared_gradient(netD, points_between(real, fake, "mixed"), "fake")
        return {name: self.penalty_every * term for name, term in terms.items()}


def judge(netD: nn.Module, *batches: Tensor, features: bool = False,
          learning: bool = False) -> list[list[list[Tensor]]]:
    """For each batch and each scale of netD: the features if asked for, then the scores.

    With two batches, the first is fake: discriminators that remember past images rely on the order.
    """
    more = {"features": True} if features else {}
    if hasattr(netD, "remembers"):
        found = tuple(netD(x, past=past, learning=learning, **more)
                      for x, past in zip(batches, ("fake", "real"), strict=False))
    else:
        found = together(netD, *batches, **more)
    if features:
        return list(found)
    return [[[scores] for scores in (out if isinstance(out, list) else [out])] for out in found]


def relative(scores: list[Tensor], others: list[Tensor]) -> list[Tensor]:
    """Scores of each scale above the mean of the others."""
    return [score - other.mean() for score, other in zip(scores, others, strict=True)]


def feature_distance(fake: list[list[Tensor]], real: list[list[Tensor]], paired: bool) -> Tensor:
    """The mean L1 distance over all scales and layers, of features or of their means; `real` gets no gradient."""
    pairs = [(one, other.detach()) for ours, theirs in zip(fake, real, strict=True)
             for one, other in zip(ours[:-1], theirs[:-1], strict=True)]
    if not paired:
        pairs = [(one.mean((0, 2, 3)), other.mean((0, 2, 3))) for one, other in pairs]
    return torch.stack([F.l1_loss(one, other) for one, other in pairs]).mean()


def points_between(real: Tensor, fake: Tensor, place: str) -> Tensor:
    """Where a gradient is taken: real images, fake ones, or random points between; (N, C, H, W), which asks for it."""
    if place not in ("real", "fake", "mixed"):
        raise unknown("place for the gradient penalty", place, ("real", "fake", "mixed"))
    if real.shape != fake.shape:
        raise UsageError(f"the gradient penalty needs real and generated images of one size, not "
                         f"{tuple(real.shape)} and {tuple(fake.shape)}; use --preprocess resize_and_crop")
    share: Any = {"real": 1.0, "fake": 0.0}.get(place)
    if share is None:
        share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    return (share * real + (1 - share) * fake).detach().requires_grad_(True)


def score_gradient(netD: nn.Module, points: Tensor, mean: bool, past: str = "") -> Tensor:
    """The gradient (N, C*H*W) of each image's scores, their mean or their sum, which can be differentiated again.

    A discriminator that remembers past images compares with those called `past`.
    """
    more = {"past": past} if hasattr(netD, "remembers") else {}
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    with eager:  # compiled code has no second derivative
        out = netD(points, **more)
    scores = out if isinstance(out, list) else [out]
    total: Any = sum(x.flatten(1).mean(1).sum() / len(scores) if mean else x.sum() for x in scores)
    return torch.autograd.grad(total, points, create_graph=True)[0].flatten(1)


def squared_gradient(netD: nn.Module, points: Tensor, past: str = "") -> Tensor:
    """E |grad D|^2, the zero-centred penalty, of each image's mean score (Mescheder et al. 2018, equation 9)."""
    return score_gradient(netD, points, True, past).square().sum(1).mean()


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
    gradients = score_gradient(netD, points_between(real_data, fake_data, type), mean=False, past="fake")
    return lambda_gp * ((gradients + 1e-16).norm(2, dim=1) - constant).square().mean(), gradients
