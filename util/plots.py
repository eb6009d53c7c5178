"""Curves as SVG, drawn into a page without a server or a script."""

import math
from collections.abc import Sequence

from dominate import svg, tags

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 14, 26  # margins, for the labels
POINTS = 300  # more would not be seen


def chart(name: str, xs: Sequence[float], ys: Sequence[float]) -> tags.figure:
    """One curve with its own scale, its range at the left and its last value in the caption."""
    points = _thin([(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)])
    figure = tags.figure(cls="curve")
    drawing = figure.add(svg.svg(width=WIDTH, height=HEIGHT, viewBox=f"0 0 {WIDTH} {HEIGHT}", cls="chart"))
    if points:
        left, right = points[0][0], points[-1][0]
        low, high = min(y for _, y in points), max(y for _, y in points)
        position = [(LEFT + (x - left) / ((right - left) or 1) * (WIDTH - LEFT - RIGHT),
                     HEIGHT - BOTTOM - (y - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)) for x, y in points]
        drawing.add(svg.circle(cx=position[-1][0], cy=position[-1][1], r=2.5, fill="#1667b7"))
        drawing.add(svg.polyline(points=" ".join(f"{x:.1f},{y:.1f}" for x, y in position)))
        for text, x, y in ((f"{high:.3g}", 4, TOP + 4), (f"{low:.3g}", 4, HEIGHT - BOTTOM),
                           (f"{left:.3g}", LEFT, HEIGHT - 8), (f"epoch {right:.3g}", WIDTH - 70, HEIGHT - 8)):
            drawing.add(svg.text(text, x=x, y=y))
        figure.add(tags.figcaption(f"{name}: {points[-1][1]:.4g}"))
    return figure


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of equal runs of points, so that at most POINTS are left."""
    run = math.ceil(len(points) / POINTS) or 1
    groups = [points[i:i + run] for i in range(0, len(points), run)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
