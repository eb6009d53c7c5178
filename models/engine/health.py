"""Symptoms of a GAN training that goes wrong, found in the losses and in small pictures, said in words."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 10        # observations that must agree
EARLY = 500        # images before which a generator can't be judged
FILES = 50         # that are remembered, to see whether they repeat
SIDE = 8           # of the small pictures
CHANCE = {"lsgan": 0.25, "vanilla": 0.6931}  # the loss of a discriminator that guesses


class Seen(NamedTuple):
    """A translation at one moment: small pictures (C, SIDE, SIDE), and mean differences of the large ones."""

    source: Tensor
    output: Tensor
    target: Tensor
    changed: float     # |output - source|
    apart: float       # |target - source|

    @classmethod
    def of(cls, *batches: Tensor) -> "Seen":
        """Source, output and target (N, C, H, W); the small pictures are those of the first image."""
        source, output, target = (x.detach().float() for x in batches)
        small = (F.adaptive_avg_pool2d(x[:1], SIDE)[0].cpu() for x in (source, output, target))
        return cls(*small, *(float((x - source).abs().mean()) for x in (output, target)))


class Health:
    """Call `observe` at intervals; `tell` gets a line when a symptom starts and another when it ends."""

    def __init__(self, gan_mode: str, paired: bool, tell: Callable[[str], None]):
        self.chance, self.paired, self.tell = CHANCE.get(gan_mode), paired, tell
        self.losses: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self.seen: dict[str, deque[Seen]] = {}
        self.files: deque[bool] = deque(maxlen=FILES)  # whether this content was seen before in the epoch
        self._contents: set[bytes] = set()
        self._epoch = 0
        self.present: dict[str, int] = {}  # symptom -> observations without it

    def observe(self, model: Any, losses: dict[str, float], images: int, epoch: int, files: Iterable[str]) -> None:
        """Look at the last step, after `images` images; waits for the device, as reading the losses did."""
        if images < EARLY:
            return
        self.losses.append(losses)
        for source, target in (("A", "B"), ("B", "A")):
            batches = [getattr(model, name, None) for name in (f"real_{source}", f"fake_{target}", f"real_{target}")]
            if all(torch.is_tensor(x) and x.dim() == 4 for x in batches) and len({x.shape for x in batches}) == 1:
                self.seen.setdefault(f"fake_{target}", deque(maxlen=WINDOW)).append(Seen.of(*batches))
        self._remember(epoch, files)
        for what, (remedy, holds) in SYMPTOMS.items():
            self._follow(what, remedy, holds(self))

    def _remember(self, epoch: int, files: Iterable[str]) -> None:
        if epoch != self._epoch:
            self._epoch, self._contents = epoch, set()
        for path in files:
            try:
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "blake2b").digest()
            except OSError:
                continue  # a plugin's images need not be files
            self.files.append(digest in self._contents)
            self._contents.add(digest)

    def _follow(self, what: str, remedy: str, holds: bool) -> None:
        if holds:
            if what not in self.present:
                self.tell(f"health: {what}; try {remedy}")
            self.present[what] = 0
        elif what in self.present:
            self.present[what] += 1
            if self.present[what] >= WINDOW // 2:
                del self.present[what]
                self.tell(f"health: no longer: {what}")

    def windows(self) -> list[list[Seen]]:
        """The last observations of each translation that has enough."""
        return [list(window) for window in self.seen.values() if len(window) == WINDOW]

    def mean_loss(self, *starts: str) -> float | None:
        """The mean over a full window of the sum of the losses with these prefixes; None without any."""
        sums = [[value for name, value in losses.items() if name.startswith(starts)] for losses in self.losses]
        return sum(map(sum, sums)) / WINDOW if len(sums) == WINDOW and all(sums) else None

    def discriminator(self) -> list[float]:
        """The discriminators' losses over a full window, relative to guessing; empty before, or if that is unknown."""
        values = [value for losses in self.losses for name, value in losses.items() if name.startswith("D_")]
        return [value / self.chance for value in values] if self.chance and len(self.losses) == WINDOW else []


def spread(images: Iterable[Tensor]) -> float:
    """How far apart images are: the standard deviation per pixel, averaged over pixels."""
    return float(torch.stack(list(images)).std(0).mean())


def correlation(a: Tensor, b: Tensor) -> float:
    """Of the brightness of two small pictures, -1 to 1; 0 if one has no contrast."""
    a, b = (x.mean(0).flatten() - x.mean() for x in (a, b))
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-6))


def copied(health: Health) -> bool:
    """The output changes by less than a twentieth of the difference between the domains."""
    return any(fmean(s.changed for s in window) < 0.05 * fmean(s.apart for s in window) for window in health.windows())


def collapsed(health: Health) -> bool:
    """Outputs of different inputs differ by less than a tenth of what real images do."""
    return any(spread(s.output for s in window) < 0.1 * min(spread(s.target for s in window),
                                                           spread(s.source for s in window))
               for window in health.windows())


def inverted(health: Health) -> bool:
    """Brightness is opposed to the truth of a pair, or, more strongly, to the input."""
    return any(fmean(correlation(s.output, s.target if health.paired else s.source) for s in window)
               < (-0.3 if health.paired else -0.7) for window in health.windows())


def dominates(kind: str, times: float) -> Callable[[Health], bool]:
    """A test whether terms with this prefix exceed `times` the adversarial ones."""
    def test(health: Health) -> bool:
        term, adversarial = health.mean_loss(kind), health.mean_loss("G_GAN", "G_A", "G_B")
        return term is not None and adversarial is not None and term > times * adversarial > 0
    return test


SYMPTOMS: dict[str, tuple[str, Callable[[Health], bool]]] = {  # what is wrong -> what to try, and a test
    "the generator copies its input": ("--lambda_identity 0, or smaller --lambda_A and --lambda_B", copied),
    "outputs collapse to one picture":
        ("a smaller --lr, --gan_mode lsgan, another --seed, more varied images", collapsed),
    "bright and dark are inverted":
        ("another --seed, a larger --lambda_identity (with pairs --lambda_L1)", inverted),
    "the discriminator has won": ("a smaller --ndf, --gan_mode lsgan, more training images",
                                  lambda health: bool(losses := health.discriminator()) and fmean(losses) < 0.02),
    "the discriminator does not learn":
        ("a larger --ndf, --netD n_layers --n_layers_D 4, or a larger --lr",
         lambda health: bool(losses := health.discriminator()) and all(abs(value - 1) < 0.05 for value in losses)),
    "the cycle term dominates": ("smaller --lambda_A and --lambda_B", dominates("cycle_", 30)),
    "the identity term dominates": ("a smaller --lambda_identity", dominates("idt_", 30)),
    "the L1 term dominates": ("a smaller --lambda_L1", dominates("G_L1", 300)),
    "the data repeats, the same images come again within an epoch":
        ("more images, or a --dataroot without copies",
         lambda health: len(health.files) >= 2 * WINDOW and fmean(health.files) > 1 / 3),
}
