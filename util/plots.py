"""Curves as SVG, drawn into a page without a server or a script."""

import math
from collections.abc import Sequence
from itertools import cycle

from dominate import svg, tags

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
