"""The log of a run: on the terminal, in loss_log.txt for people and old scripts, in loss_log.jsonl for programs."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from util.files import atomic
from util.notices import tell
from util.progress import Progress
from util.sinks import Sink

LOG_LINE = re.compile(r"\(epoch: (\d+), iters: (\d+), .*\) ")


class LogFile(Sink):
    """Appends line by line from a point of the training; lines of later points are dropped.

    A line that can't be written, as on a full disk, waits for the next one.
    """

    def __init__(self, folder: str | Path, start: Progress):
        self.text, self.jsonl = Path(folder) / "loss_log.txt", Path(folder) / "loss_log.jsonl"
        _keep_until(start, self.text, _position)
        _keep_until(start, self.jsonl, lambda line: (point := parse(line)) and (point["epoch"], point["iters"]))
        header = f"================ Training Loss ({time.strftime('%c')}) ================\n"
        self._waiting = {self.text: header, self.jsonl: ""}

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        self._waiting[self.text] += f"{log_line(at, values)}\n"
        self._add(at, {"time": round(at.time, 6), "data": round(at.data, 6), "waiting": round(at.waiting(), 3),
                       "learning_rate": at.learning_rate, "losses": values})

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        self._add(at, {"losses": {}, "metrics": figures, "best": best})

    def note(self, at: Progress, text: str) -> None:
        self._add(at, {"losses": {}, "note": text})

    def _add(self, at: Progress, point: dict[str, Any]) -> None:
        self._waiting[self.jsonl] += json.dumps({**at.counters(), **point}) + "\n"
        self._flush()

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        for path in self._waiting:
            self._append(path)

    def _append(self, path: Path) -> None:
        content = self._waiting[path].encode()
        with open(path, "ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(content) < len(content):
                    raise OSError(f"no space left for {path}")
            except OSError:
                file.truncate(end)
                raise
        self._waiting[path] = ""


class Console(Sink):
    """Losses in the progress bar, or line by line if the output is no terminal, where the bar is off."""

    def __init__(self, bar: tqdm):
        self.bar = bar

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        if self.bar.disable:
            tell(log_line(at, values))
        else:
            self.bar.set_postfix_str(" ".join(f"{name} {value:.3f}" for name, value in values.items()))


def log_line(at: Progress, values: dict[str, float]) -> str:
    """The established format of loss_log.txt."""
    losses = "".join(f"{name}: {value:.3f} " for name, value in values.items())
    return f"(epoch: {at.epoch}, iters: {at.iters}, time: {at.time:.3f}, data: {at.data:.3f}) {losses}"


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The points of loss_log.jsonl in order, without torn lines."""
    path = Path(folder) / "loss_log.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [point for point in map(parse, lines) if point]


def parse(line: str) -> dict[str, Any] | None:
    """A point of loss_log.jsonl, None for a torn line."""
    try:
        point = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(point, dict) or not {"epoch", "iters", "losses"} <= point.keys():
        return None
    values = [point["epoch"], point["iters"], point.get("learning_rate", 0), *_values(point["losses"]),
              *_values(point.get("metrics", {}))]
    numbers = all(isinstance(value, float) or (isinstance(value, int) and abs(value) < 2 ** 63) for value in values)
    return point if numbers and isinstance(point.get("note", ""), str) else None


def _values(table: Any) -> list[Any]:
    return list(table.values()) if isinstance(table, dict) else [None]


def _position(line: str) -> tuple[int, int] | None:
    if not line.startswith("("):
        return 0, 0
    match = LOG_LINE.match(line)
    return match and (int(match[1]), int(match[2]))


def _keep_until(start: Progress, path: Path, position: Callable[[str], tuple[int, int] | None]) -> None:
    """Drop the lines of a log that are torn, or past this point of the training."""
    if not path.exists():
        return
    content = path.read_text(encoding="utf-8", errors="replace")
    whole = content.split("\n")[:-1]  # without what follows the last line end
    kept = "".join(f"{line}\n" for line in whole if (at := position(line)) and at <= (start.epoch, start.iters))
    if kept != content:
        with atomic(path) as file:
            file.write(kept)


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
