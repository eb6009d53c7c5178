"""loss_log.txt for people and old scripts, loss_log.jsonl for programs."""

import json
import time
from pathlib import Path
from typing import Any

from util.progress import Progress
from util.sinks import Sink


class LogFile(Sink):
    """Appends line by line."""

    def __init__(self, folder: str | Path):
        self.text, self.jsonl = Path(folder) / "loss_log.txt", Path(folder) / "loss_log.jsonl"
        self._append(self.text, f"================ Training Loss ({time.strftime('%c')}) ================")

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        self._append(self.text, log_line(at, values))
        point = {**at.counters(), "time": round(at.time, 6), "data": round(at.data, 6)}
        self._append(self.jsonl, json.dumps({**point, "losses": values}))

    @staticmethod
    def _append(path: Path, line: str) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def log_line(at: Progress, values: dict[str, float]) -> str:
    """The established format of loss_log.txt."""
    losses = "".join(f"{name}: {value:.3f} " for name, value in values.items())
    return f"(epoch: {at.epoch}, iters: {at.iters}, time: {at.time:.3f}, data: {at.data:.3f}) {losses}"


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The points of loss_log.jsonl in order, without a truncated last line.

    A run that was resumed from an earlier point, or started again, replaces what its log has from there on.
    """
    path = Path(folder) / "loss_log.jsonl"
    points = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            point = json.loads(line)
        except ValueError:
            continue
        while points and points[-1]["total_iters"] >= point["total_iters"]:
            points.pop()
        points.append(point)
    return points
