"""Collect the values of metrics, one batch after another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, combinations
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from util.distributed import gathered
from util.errors import UsageError, with_place
from util.memory import ran_out
from util.metrics import Metric, find_metrics
from util.metrics.pretrained import check_given, is_there, load
from util.notices import notice

CHEAP = ("l1", "psnr", "ssim", "colours", "swd")
PRETRAINED = ("lpips", "fid", "kid", "lpips_diversity")
OF_SAMPLES = ("diversity",)
RESAMPLES, SET_RESAMPLES = 1000, 20


class Figure(NamedTuple):
    """A metric over n images, and its 95 % interval over resampled images (Efron 1979)."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        interval = f" [{self.low:.4g}, {self.high:.4g}]" if self.n > 1 else ""
        return f"{self.value:.4g}{interval}, n = {self.n}"


def choose(names: Sequence[str], weights: str | None) -> list[Metric]:
    """The metrics of these names; `auto` means those that need no download.

    Raises UsageError for weights that do not exist, or belong to no network.
    """
    if weights:
        check_given(weights)
    chosen: list[str] = []
    for name in names:
        if name != "auto":
            chosen.append(name)
            continue
        ready = [metric.name for metric in find_metrics(PRETRAINED) if is_there(metric.needs, weights)]
        chosen += [*CHEAP, *OF_SAMPLES, *ready]
    return find_metrics(chosen)


class Scores:
    """Add batches of images, then read `figures` and `rows`.

    Metrics whose pretrained network is unavailable are left out, with one line; `networks` are given ones.
    """

    def __init__(self, metrics: Sequence[Metric], device: torch.device, weights: str | None = None,
                 networks: dict[str, Callable] | None = None):
        self.networks, self._wanted = dict(networks or {}), len(metrics)
        for name in {metric.needs for metric in metrics if metric.needs} - self.networks.keys():
            try:
                self.networks[name] = load(name, weights, device)
            except UsageError as error:
                left_out = ", ".join(metric.name for metric in metrics if metric.needs == name)
                notice(f"metric {name}", f"{left_out}: left out, {error}")
        self.metrics = [metric for metric in metrics if not metric.needs or metric.needs in self.networks]
        self.device = device
        self._kept: dict[str, Tensor] = {}             # "fake_B/fid" -> features of the real images, kept by `clear`
        self._references: dict[str, list[tuple[str, Tensor]]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget the outputs, not the real images, which are the same in the next validation."""
        self._kept, self._references = self.references(), {}
        self._features: dict[str, list[tuple[str, Tensor]]] = {}
        self.rows: dict[str, dict[str, float]] = {}    # image -> "fake_B/l1" -> value
        self.failed: dict[str, str] = {}               # "l1" -> why

    def add(self, name: str, images: Sequence[str], output: Tensor, truth: Tensor | None = None) -> None:
        """Add outputs (N, C, H, W) in [0, 1] called `name`, made from `images`, and their truths."""
        if truth is not None and truth.shape != output.shape:
            notice(f"size {name}", f"{name} is {describe(output)} and its truth {describe(truth)}: they are no pair "
                                   f"for metrics")
            truth = None
        if truth is not None:
            self._add_values(name, images, [(output, truth)], of_samples=False)
        if truth is None or name.startswith("fake_"):
            self._add_features(self._features, name, images, output)

    def add_samples(self, name: str, images: Sequence[str], outputs: Sequence[Tensor]) -> None:
        """Add several outputs (N, C, H, W) in [0, 1] of the same images; the mean over pairs of them counts."""
        self._add_values(name, images, list(combinations(outputs, 2)), of_samples=True)

    def _add_values(self, name: str, images: Sequence[str], pairs: Sequence[tuple[Tensor, Tensor]],
                    of_samples: bool) -> None:
        for metric in (m for m in self.working() if m.features is None and m.of_samples == of_samples):
            with self._or_left_out(metric):
                values = torch.stack([torch.as_tensor(self._apply(metric, metric.function, *pair)) for pair in pairs])
                if values.shape[1:] != (len(images),):
                    raise UsageError(f"it must return (N,) values, one for each of {len(images)} images, not "
                                     f"{tuple(values.shape[1:])}")
                for image, value in zip(images, values.double().mean(0).tolist(), strict=True):
                    self.rows.setdefault(image, {})[f"{name}/{metric.name}"] = value

    def add_reference(self, name: str, images: Sequence[str], real: Tensor) -> None:
        """Real images (N, C, H, W) in [0, 1] of the domain that outputs called `name` should belong to."""
        self._add_features(self._references, name, images, real)

    def _add_features(self, kept: dict[str, list[tuple[str, Tensor]]], name: str, images: Sequence[str],
                      pictures: Tensor) -> None:
        for metric in self.working():
            key = f"{name}/{metric.name}"
            if metric.features is not None and not (kept is self._references and key in self._kept):
                with self._or_left_out(metric):
                    features = self._apply(metric, metric.features, pictures).cpu()
                    kept.setdefault(key, []).extend(zip(images, features, strict=True))

    def working(self) -> list[Metric]:
        """The metrics that are not left out."""
        return [metric for metric in self.metrics if metric.name not in self.failed]

    def incomplete(self) -> bool:
        """Whether a requested metric is left out."""
        return len(self.working()) < self._wanted

    @contextmanager
    def _or_left_out(self, metric: Metric) -> Iterator[None]:
        """A metric that fails is left out until `clear`: it ends no training and keeps no image from being written."""
        try:
            yield
        except Exception as error:
            if ran_out(error):
                raise
            self.failed[metric.name] = str(error) if isinstance(error, UsageError) else with_place(error)

    def _apply(self, metric: Metric, function: Callable, *images: Tensor) -> Tensor:
        if not metric.needs:
            return function(*images)
        with torch.no_grad():
            return function(self.networks[metric.needs], *(x.float().to(self.device) for x in images))

    def gather(self) -> None:
        """Collect the values of all processes in the main one."""
        parts = gathered((self.failed, self.rows, self._features, self._references))
        if parts:
            failed, rows, *kept = zip(*parts, strict=True)
            self.failed = {name: reason for part in failed for name, reason in part.items()}
            self.rows = {image: row for part in rows for image, row in part.items()}
            self._features, self._references = (
                {key: [x for part in table for x in part.get(key, [])] for key in dict.fromkeys(chain(*table))}
                for table in kept)

    def references(self) -> dict[str, Tensor]:
        """"fake_B/fid" -> the features of the real images."""
        added = {key: in_order(features) for key, features in self._references.items()
                 if key.split("/")[1] not in self.failed}
        return self._kept | added

    def figures(self) -> dict[str, Figure]:
        """"fake_B/l1" -> its figure over all images; a metric that failed has none, also not for an image."""
        rows = [self.rows[image] for image in sorted(self.rows)]  # whatever process has seen which first
        keys = dict.fromkeys(key for row in rows for key in row)
        found = {key: _mean([row[key] for row in rows if key in row]) for key in keys}
        metrics = {metric.name: metric for metric in self.working()}
        references = self.references()
        for key in (key for key in self._features if key in references and key.split("/")[1] in metrics):
            metric, output, reference = metrics[key.split("/")[1]], in_order(self._features[key]), references[key]
            if min(len(output), len(reference)) < 2:
                notice("few images", f"{key} needs two images of each kind at least; it is left out")
                continue
            with self._or_left_out(metric):
                found[key] = _distance(metric.function, output, reference)
        for name, reason in self.failed.items():
            notice(f"metric {name}", f"metric {name} is left out: {reason}")
        for table in (found, *rows):
            for key in [key for key in table if key.split("/")[1] in self.failed]:
                del table[key]
        return found


def describe(images: Tensor) -> str:
    """The size of (N, C, H, W) in words."""
    return f"{images.shape[3]}x{images.shape[2]} of {images.shape[1]} channels"


def in_order(features: list[tuple[str, Tensor]]) -> Tensor:
    """(N, ...) of images in the order of their names, in any process."""
    return torch.stack([row for _, row in sorted(features, key=itemgetter(0))])


def _mean(values: list[float]) -> Figure:
    array = np.array(values)
    mean = float(array.mean())
    if len(array) < 2 or not np.ptp(array) > 0 or not np.isfinite(mean):
        return Figure(mean, mean, mean, len(array))
    from scipy.stats import bootstrap  # whose import takes half a second

    interval = bootstrap((array,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100,
                         rng=np.random.default_rng(0)).confidence_interval
    return Figure(mean, float(interval.low), float(interval.high), len(array))


def _distance(function: Callable, output: Tensor, reference: Tensor) -> Figure:
    """The interval is the value plus and minus 1.96 standard deviations over resampled sets.

    Repeated images move a set away, so the quantiles of the resampled values need not contain the value itself.
    """
    draw = torch.Generator().manual_seed(0)
    value = float(function(output, reference))
    resampled = [float(function(output[torch.randint(len(output), (len(output),), generator=draw)], reference))
                 for _ in range(SET_RESAMPLES)]
    margin = 1.96 * float(np.std(resampled))
    lowest = min(0.0, value, *resampled)  # most distances are not negative
    return Figure(value, max(value - margin, lowest), value + margin, len(output))
