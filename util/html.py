"""A page of pictures and curves that opens from disk, without a server or a script."""

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import svg, tags

from util.files import atomic

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
h1 { font-size: 1.3em } h2 { font-size: 1.05em; margin: 1.4em 0 .3em }
.row { display: flex; flex-wrap: wrap; gap: 12px } figure { margin: 0 }
figcaption { color: #666; padding-top: 2px } img { display: block; background: #eee }
.chart { border: 1px solid #ddd } .chart text { font: 11px system-ui, sans-serif; fill: #555 }
.chart polyline { fill: none; stroke-width: 1.3 } .note { margin: .2em 0; color: #a33 }
table { border-collapse: collapse; margin: .8em 0 }
td, th { border: 1px solid #ddd; padding: 3px 9px; text-align: left }
"""


SORT = """
function sort() {
  const rows = [...document.querySelectorAll("section")], by = location.hash.slice(1), sign = by == "worst" ? -1 : 1;
  const cost = row => row.dataset.cost == "" ? Infinity : sign * row.dataset.cost;
  const key = row => by == "best" || by == "worst" ? cost(row) : +row.dataset.order;
  rows.sort((a, b) => key(a) - key(b) || 0).forEach(row => row.parentNode.append(row));
}
addEventListener("hashchange", sort); addEventListener("load", sort);
"""


class HTML:
    """`<web_dir>/index.html` and `<web_dir>/images`; everything written is escaped."""

    def __init__(self, web_dir: str | Path, title: str):
        self.web_dir = Path(web_dir)
        self.img_dir = self.web_dir / "images"
        self.img_dir.mkdir(parents=True, exist_ok=True)
        self.doc = dominate.document(title=title)
        with self.doc.head:
            tags.meta(charset="utf-8")
            tags.style(dominate.util.raw(STYLE))
        self.doc.add(tags.h1(title))
        self._into = self.doc

    def add(self, element: tags.html_tag) -> None:
        """Any element of dominate."""
        self._into.add(element)

    def sortable(self, costs: dict[str, float]) -> Iterator[str]:
        """Yields each name; what is added then is sorted by its cost when the reader asks for the best or worst first.

        Items without a finite cost come last. index.html#best and index.html#worst open the page sorted.
        """
        links = (tags.a(text, href=f"#{by}") for by, text in (("name", "by name"), ("best", "best first"),
                                                              ("worst", "worst first")))
        self.doc.add(tags.p(*links, cls="row"))
        for order, (name, cost) in enumerate(costs.items()):
            known = str(cost) if math.isfinite(cost) else ""
            self._into = self.doc.add(tags.section(data_order=str(order), data_cost=known))  # a number 0 is left out
            yield name
        self._into = self.doc
        self.doc.add(tags.script(dominate.util.raw(SORT)))

    def add_header(self, text: str) -> None:
        """A heading."""
        self._into.add(tags.h2(text))

    def add_images(self, ims: list[str], txts: list[str], links: list[str], width: int = 400) -> None:
        """A row of pictures, by their paths below `images`, each with a caption and a file it links to."""
        row = self._into.add(tags.div(cls="row"))
        for image, text, link in zip(ims, txts, links, strict=True):
            source, target = (f"images/{quote(file, errors='surrogateescape')}" for file in (image, link))
            picture = tags.img(src=source, width=width, loading="lazy", alt=text)
            row.add(tags.figure(tags.a(picture, href=target), tags.figcaption(text)))

    def save(self) -> None:
        """Replace the page on disk."""
        with atomic(self.web_dir / "index.html") as file:
            file.write(self.doc.render().encode("utf-8", "replace").decode("utf-8"))  # names may be odd


# Curves, as SVG.

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 14, 26  # margins, for the labels
COLOURS = ("#1667b7", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be185d")
POINTS = 300  # more would not be seen
Curve = tuple[Sequence[float], Sequence[float]]  # xs, ys


def chart(name: str, curves: dict[str, Curve], mark: float | None = None) -> tags.figure:
    """Curves over each other: their range at the left, their last values in the caption, a dashed line at `mark`."""
    drawn = {label: points for label, (xs, ys) in curves.items()
             if (points := _thin([(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]))}
    figure = tags.figure(cls="curve")
    drawing = figure.add(svg.svg(width=WIDTH, height=HEIGHT, viewBox=f"0 0 {WIDTH} {HEIGHT}", cls="chart"))
    if not drawn:
        return figure
    xs, ys = zip(*(point for points in drawn.values() for point in points), strict=True)
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        return (LEFT + (x - left) / ((right - left) or 1) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (y - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM))

    if mark is not None and left <= mark <= right:
        x = place(mark, low)[0]
        drawing.add(svg.line(x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, stroke="#999", stroke_dasharray="4 3"))
    for (_, points), colour in zip(drawn.items(), cycle(COLOURS), strict=False):
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        drawing.add(svg.polyline(points=line, stroke=colour))
        x, y = place(*points[-1])
        drawing.add(svg.circle(cx=x, cy=y, r=2.5, fill=colour))
    digits = next((digits for digits in range(3, 7) if f"{low:.{digits}g}" != f"{high:.{digits}g}"), 3)
    for text, x, y in ((f"{high:.{digits}g}", 4, TOP + 4), (f"{low:.{digits}g}", 4, HEIGHT - BOTTOM),
                       (f"{left:.3g}", LEFT, HEIGHT - 8), (f"epoch {right:.3g}", WIDTH - 70, HEIGHT - 8)):
        drawing.add(svg.text(text, x=x, y=y))
    caption = figure.add(tags.figcaption(f"{name}: "))
    for (label, points), colour in zip(drawn.items(), cycle(COLOURS), strict=False):
        style = f"color: {colour}" if len(drawn) > 1 else ""
        caption.add(tags.span(f"{label} {points[-1][1]:.4g} ".lstrip(), style=style))
    return figure


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of equal runs of points, so that at most POINTS are left."""
    run = math.ceil(len(points) / POINTS) or 1
    groups = [points[i:i + run] for i in range(0, len(points), run)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
