"""Pages of pictures and curves that open from disk: one style and one script, in util/pages, written into each page."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import dominate
from dominate import tags

from util.files import atomic
from util.frames import is_video_file

PARTS = Path(__file__).parent / "pages"
HEADS = {"real": "input", "fake": "translation", "rec": "translated back", "idt": "identity",
         "hidden": "with hidden parts", "hinted": "with hints", "bicubic": "bicubic"}
POINTS = 300  # of a curve; more would not be seen
Curve = tuple[Sequence[float], Sequence[float]]  # xs, ys
Picture = tuple[str, str]                        # the picture to show and the file it stands for, below `images`


class HTML:
    """`<web_dir>/index.html` and `<web_dir>/images`; everything written is escaped."""

    def __init__(self, web_dir: str | Path, title: str, images: bool = True):
        """`images`: whether to make that folder."""
        self.web_dir = Path(web_dir)
        self.img_dir = self.web_dir / "images"
        if images:
            self.img_dir.mkdir(parents=True, exist_ok=True)
        self.doc = dominate.document(title=title)
        with self.doc.head:
            tags.meta(charset="utf-8")
            tags.meta(name="viewport", content="width=device-width, initial-scale=1")
            tags.style(dominate.util.raw((PARTS / "style.css").read_text(encoding="utf-8")))
        self._head = self.doc.add(tags.header(tags.h1(title)))

    def add(self, element: tags.html_tag) -> None:
        """Any element of dominate."""
        self.doc.add(element)

    def add_link(self, text: str, page: str | Path) -> None:
        """A link beside the title to another page."""
        self._head.add(tags.a(text, href=link_to(page, self.web_dir)))

    def add_header(self, text: str) -> None:
        """A heading."""
        self.doc.add(tags.h2(text))

    def add_tools(self, width: int, rows: bool = False, compare: bool = True) -> None:
        """Controls for the width of pictures and, for tables of rows, a filter; `compare`: whether a click compares."""
        bar = self.doc.add(tags.div(cls="tools"))
        if rows:
            bar.add(tags.label("filter", tags.input_(type="search", cls="filter", placeholder="part of a name")))
            bar.add(tags.span(cls="count faint"))
        size = tags.input_(type="range", cls="size", min=64, max=1024, step=16, value=width)
        bar.add(tags.label("size", size))
        if compare:
            bar.add(tags.span("click a picture to compare it with its input", cls="faint"))
        self.doc.body["style"] = f"--size: {width}px"

    def add_charts(self, charts: Iterable[tags.figure]) -> None:
        """Charts beside each other, and a control for their smoothing."""
        smoothing = tags.input_(type="range", cls="smoothing", min="0", max="0.98", step="0.02")
        self.doc.add(tags.label("smoothing ", smoothing))
        self.doc.add(tags.div(*charts, cls="charts"))

    def add_images(self, ims: list[str], txts: list[str], links: list[str], width: int = 400) -> None:
        """A row of pictures, by their paths below `images`, each with a caption and a file it links to."""
        row = self.doc.add(tags.div(cls="row", style=f"--size: {width}px"))
        for shown, text, target in zip(ims, txts, links, strict=True):
            row.add(tags.figure(picture((shown, target), text), tags.figcaption(text)))

    def save(self) -> None:
        """Replace the page on disk."""
        self.doc.add(tags.script(dominate.util.raw((PARTS / "script.js").read_text(encoding="utf-8"))))
        with atomic(self.web_dir / "index.html") as file:  # not indented: most of a large page would be blanks
            file.write(self.doc.render(pretty=False).encode("utf-8", "replace").decode("utf-8"))  # names may be odd


def link_to(page: str | Path, folder: str | Path) -> str:
    """A file's address as seen from a page in a folder."""
    return quote(os.path.relpath(page, folder), errors="surrogateescape")


def address(file: str) -> str:
    """A file below `images` as a page names it."""
    return f"images/{quote(file, errors='surrogateescape')}"


def picture(files: Picture, label: str, **more: Any) -> tags.a:
    """A picture that the viewer opens."""
    image = tags.img(src=address(files[0]), loading="lazy", alt=label)
    return tags.a(image, href=address(files[1]), cls="picture", data_label=label, **more)


def film(files: Mapping[str, str | Path], folder: str | Path) -> tags.div:
    """What -> file of videos or animations, side by side and at the same moment, on a page in a folder."""
    row = tags.div(cls="row")
    for text, file in files.items():
        place = link_to(file, folder)
        if is_video_file(str(file)):
            shown = tags.video(src=place, controls=True, loop=True, preload="metadata", muted=text != next(iter(files)))
        else:
            shown = tags.a(tags.img(src=place, alt=text), href=place, cls="picture", data_label=text)
        row.add(tags.figure(shown, tags.figcaption(text)))
    return row


# Tables of pictures, a row for each image.

class Column(NamedTuple):
    """A column of pictures."""

    label: str       # of the pictures in a row
    head: str        # what they are
    files: str = ""  # what they are called


class Score(NamedTuple):
    """A column of values that rows can be sorted by."""

    label: str                # of the values in a row
    head: str
    meaning: str = ""
    higher_is_better: bool = False
    followed: bool = False    # sorted by if the page is opened as index.html#best


class Row(NamedTuple):
    """An image."""

    name: str
    pictures: dict[str, Picture]
    scores: dict[str, float] = {}
    note: str = ""


def picture_table(columns: Sequence[Column], scores: Sequence[Score], rows: Iterable[Row]) -> tags.table:
    """A row of pictures and scores for each image; a head sorts by its scores."""
    grid = f"10em repeat({len(columns)}, calc(var(--column) + 8px)) {f'repeat({len(scores)}, 6em)' if scores else ''}"
    table = tags.table(cls="pictures", style=f"--shown: {len(columns)}; --scored: {len(scores)}; --grid: {grid}")
    head = tags.tr(tags.th(tags.button("image"), data_better="name"),
                   *(tags.th(column.head, tags.small(column.files)) for column in columns))
    for score in scores:
        more = {"data_followed": "yes"} if score.followed else {}
        name = tags.button(f"{score.head} {arrow(score.higher_is_better)}", title=score.meaning)
        head.add(tags.th(name, data_better="high" if score.higher_is_better else "low", **more))
    table.add(tags.thead(head))
    body = table.add(tags.tbody())
    for order, row in enumerate(rows):
        cells = [tags.th(row.name, *([tags.small(tags.br(), row.note)] if row.note else []))]
        for column in columns:
            files = row.pictures.get(column.label)
            cells.append(tags.td(*([picture(files, column.head)] if files else []), data_label=column.head))
        for score in scores:
            value = row.scores.get(score.label, math.nan)
            known = math.isfinite(value)
            cells.append(tags.td(f"{value:.4g}" if known else "", data_value=str(value) if known else "",
                                 data_label=score.head))
        body.add(tags.tr(*cells, data_name=f"{row.name} {row.note}".strip(), data_order=str(order)))
    return table


def arrow(higher_is_better: bool) -> str:
    """Where better values are."""
    return "↑" if higher_is_better else "↓"


def directions(labels: Iterable[str]) -> list[list[str]]:
    """The labels of a model's pictures, divided so that each part has one input and its translation.

    A part begins with a real picture; one without a translation belongs to the part before it, as a truth does.
    """
    parts: list[list[str]] = []
    for label in labels:
        if label.startswith("real") or not parts:
            parts.append([])
        parts[-1].append(label)
    joined: list[list[str]] = []
    for part in parts:
        if joined and not (any(map(is_translation, part)) and any(map(is_translation, joined[-1]))):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def is_translation(label: str) -> bool:
    """Whether pictures of this label are translations."""
    return label.startswith("fake")


def head_of(label: str, part: Sequence[str]) -> str:
    """What a picture is among those of its part."""
    kind = label.partition("_")[0]
    if kind == "fake" and sum(map(is_translation, part)) > 1:
        return label.partition("_")[2].replace("_", " ")
    return "truth" if kind == "real" and label != part[0] else HEADS.get(kind, label)


# Curves.

def chart(name: str, curves: dict[str, Curve], best: float | None = None, notes: Sequence[tuple[float, str]] = (),
          meaning: str = "", better: str = "") -> tags.figure:
    """Curves over each other, drawn by the page: a line at `best`, a mark at each (epoch, sentence) of `notes`.

    `better` is an arrow.
    """
    drawn = {label: points for label, (xs, ys) in curves.items()
             if (points := _thin([(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]))}
    lines = [{"label": label, "x": [round(x, 4) for x, _ in points], "y": [y for _, y in points]}
             for label, points in drawn.items()]
    if not lines:
        return tags.figure(tags.figcaption(f"{name}: no finite value"))
    data = json.dumps({"curves": lines, "best": best, "notes": notes})
    return tags.figure(cls="chart", data_name=f"{name} {better}".strip(), data_meaning=meaning, data_curves=data)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of equal runs of points, so that at most POINTS are left."""
    run = math.ceil(len(points) / POINTS) or 1
    groups = [points[i:i + run] for i in range(0, len(points), run)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
