"""A page of pictures that opens from disk."""

from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import tags

from util.files import atomic

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
h1 { font-size: 1.3em } h2 { font-size: 1.05em; margin: 1.4em 0 .3em }
.row { display: flex; flex-wrap: wrap; gap: 12px } figure { margin: 0 }
figcaption { color: #666; padding-top: 2px } img { display: block; image-rendering: auto; background: #eee }
.chart { border: 1px solid #ddd } .chart text { font: 11px system-ui, sans-serif; fill: #555 }
.chart polyline { fill: none; stroke: #1667b7; stroke-width: 1.3 }
"""


class HTML:
    """`<web_dir>/index.html` and `<web_dir>/images`; everything written is escaped."""

    def __init__(self, web_dir: str | Path, title: str):
        self.web_dir, self.title = Path(web_dir), title
        self.img_dir = self.web_dir / "images"
        self.img_dir.mkdir(parents=True, exist_ok=True)
        self.doc = dominate.document(title=title)
        with self.doc.head:
            tags.meta(charset="utf-8")
            tags.style(dominate.util.raw(STYLE))
        self.doc.add(tags.h1(title))

    def add(self, element: tags.html_tag) -> None:
        """Any element of dominate."""
        self.doc.add(element)

    def add_header(self, text: str) -> None:
        """A heading."""
        self.doc.add(tags.h2(text))

    def add_images(self, ims: list[str], txts: list[str], links: list[str], width: int = 400) -> None:
        """A row of pictures, by their paths below `images`, each with a caption and a file it links to."""
        row = self.doc.add(tags.div(cls="row"))
        for image, text, link in zip(ims, txts, links, strict=True):
            source, target = (f"images/{quote(file, errors='surrogateescape')}" for file in (image, link))
            picture = tags.img(src=source, width=width, loading="lazy", alt=text)
            row.add(tags.figure(tags.a(picture, href=target), tags.figcaption(text)))

    def save(self) -> None:
        """Write the page in place of the last one."""
        with atomic(self.web_dir / "index.html") as file:
            file.write(self.doc.render())
