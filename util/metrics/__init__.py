"""Metrics are functions with a name. A file `<name>_metric.py` here or in --plugin_dir adds the metric `<name>`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from util.plugins import import_plugin, plugin_names
from util.registry import Registry

METRICS = Registry("metric")


class Metric(NamedTuple):
    """`function(output, truth)` gives (N,) values for pairs; with `features`, `function(features, features)` gives one.

    Images are (N, C, H, W) in [0, 1], rounded as their files are. `features` maps them to (N, ...). What `needs` a
    pretrained network has it as the first argument of `features`, or else of `function`. A metric `of_samples` compares
    two translations of one input.
    """

    name: str
    function: Callable
    higher_is_better: bool = False
    features: Callable | None = None
    needs: str = ""  # in util.metrics.pretrained.NETWORKS
    of_samples: bool = False

    @property
    def meaning(self) -> str:
        """What it says, in one line: the first of the docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]


def pair_metric(name: str, higher_is_better: bool = False, needs: str = "") -> Callable:
    """Register a function of outputs and truths, both (N, C, H, W) in [0, 1], that returns (N,) values."""
    return _registering(name, higher_is_better, None, needs)


def sample_metric(name: str, needs: str = "") -> Callable:
    """Register a function of two translations of one input, both (N, C, H, W) in [0, 1], that returns (N,) values."""
    return _registering(name, True, None, needs, of_samples=True)


def set_metric(name: str, features: Callable, higher_is_better: bool = False, needs: str = "") -> Callable:
    """Register a function of the features of two sets of images, (N, ...) and (M, ...), that returns one number."""
    return _registering(name, higher_is_better, features, needs)


def _registering(name: str, higher_is_better: bool, features: Callable | None, needs: str,
                 of_samples: bool = False) -> Callable:
    def decorate(function: Callable) -> Callable:
        METRICS.register(name)(Metric(name, function, higher_is_better, features, needs, of_samples))
        return function
    return decorate


def find_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, their files imported only now; raises UsageError for an unknown one."""
    if not names:
        return []
    from util.metrics import pair_metrics, set_metrics  # noqa: F401  they register

    for name in set(names) - set(METRICS):
        if name in plugin_names("util.metrics", "metric"):
            import_plugin(f"util.metrics.{name}_metric", name)
    return [METRICS[name][0] for name in dict.fromkeys(names)]
