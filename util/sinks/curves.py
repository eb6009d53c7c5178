"""A run's log over the epochs: losses, learning rate, metrics, the best checkpoint, and notes."""

from pathlib import Path
from typing import NamedTuple

from util.sinks.log_file import read_log


class Curves(NamedTuple):
    """Name -> (epochs, values); the epoch of the best checkpoint, None without one; (epoch, sentence) of notes."""

    series: dict[str, tuple[list[float], list[float]]]
    best: float | None
    notes: list[tuple[float, str]]


def read_curves(folder: str | Path) -> Curves:
    """From loss_log.jsonl of a run's folder."""
    points = read_log(folder)
    images = max((point["iters"] for point in points), default=1) or 1
    series: dict[str, tuple[list[float], list[float]]] = {}
    best, notes = None, []
    for point in points:
        epoch = point["epoch"] - 1 + point["iters"] / images
        values = {**point["losses"], **point.get("metrics", {})}
        if "learning_rate" in point:
            values["learning rate"] = point["learning_rate"]
        for name, value in values.items():
            xs, ys = series.setdefault(name, ([], []))
            xs.append(epoch)
            ys.append(value)
        if point.get("best"):
            best = epoch
        if "note" in point:
            notes.append((epoch, point["note"]))
    metrics = {name for point in points for name in point.get("metrics", {})}
    order = sorted(series, key=lambda name: (name in metrics, name == "learning rate"))
    return Curves({name: series[name] for name in order}, best, notes)
