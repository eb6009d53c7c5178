"""Scores as files and as a table of a page."""

import csv
import json
from pathlib import Path
from typing import Any

from dominate import tags

from util.errors import UsageError
from util.files import atomic, read_json
from util.html import arrow
from util.metrics import find_metrics
from util.metrics.scores import Figure

JSON, CSV = "metrics.json", "metrics.csv"


def write_metrics(folder: str | Path, figures: dict[str, Figure], rows: dict[str, dict[str, float]],
                  **facts: Any) -> None:
    """`metrics.json`: facts, figures and values per image; `metrics.csv`: a line per image, and the totals."""
    with atomic(Path(folder) / JSON) as file:
        total = {key: figure._asdict() for key, figure in figures.items()}
        json.dump({**facts, "figures": total, "images": rows}, file, indent=1)
    columns = list(figures)
    with atomic(Path(folder) / CSV) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", *columns])
        for image, row in rows.items():
            writer.writerow([image, *(row.get(key, "") for key in columns)])
        writer.writerow(["total", *(figures[key].value for key in columns)])


def remove_metrics(folder: str | Path) -> None:
    """Remove the files of an earlier test."""
    for name in (JSON, CSV):
        (Path(folder) / name).unlink(missing_ok=True)


def read_figures(folder: str | Path) -> dict[str, Figure]:
    """The figures of a folder of results, empty without any; raises UsageError for a damaged file."""
    def figures(content: dict) -> dict[str, Figure]:
        found = {key: Figure(**figure) for key, figure in content["figures"].items()}
        if not all(isinstance(value, (int, float)) for figure in found.values() for value in figure):
            raise TypeError("a figure is no number")
        return found

    return read_json(Path(folder) / JSON, figures, "test.py --metrics writes it again")


def table(runs: dict[str, dict[str, Figure]]) -> tags.table:
    """A row for each figure and a column for each run."""
    keys = dict.fromkeys(key for figures in runs.values() for key in figures)
    made = tags.table(tags.tr(tags.th(""), *(tags.th(run) for run in runs)), cls="values")
    for key in keys:
        better, meaning = described(key)
        head = tags.th(tags.span(key, title=meaning) if meaning else key, f" {better}")
        made.add(tags.tr(head, *(tags.td(str(figures.get(key, ""))) for figures in runs.values())))
    return made


def described(key: str) -> tuple[str, str]:
    """Where better values of "fake_B/l1" are, and what they mean; empty for a metric that is not here."""
    try:
        metric, = find_metrics([key.split("/")[-1]])
    except UsageError:
        return "", ""
    return arrow(metric.higher_is_better), metric.meaning
