"""A page of pictures that opens from disk."""

import math
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import tags

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
            file.write(self.doc.render())
