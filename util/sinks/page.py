"""web/index.html: the losses as curves and the pictures of the training, newest first."""

import re
from pathlib import Path

import numpy as np
from dominate import tags

from util.html import HTML, chart
from util.images import save_image
from util.progress import Progress
from util.sinks import Sink
from util.sinks.log_file import read_curves

NOTES = 20  # of the newest are shown
PICTURE = re.compile(r"epoch(\d+)_(.+)\.png")


class Page(Sink):
    """Rebuilt from the files on disk, so that it continues that of an earlier run."""

    def __init__(self, folder: str | Path, name: str, width: int):
        self.folder, self.name, self.width = Path(folder), name, width
        self.labels: list[str] = []

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        self.labels = list(pictures)
        for label, picture in pictures.items():
            save_image(picture, self.folder / "web" / "images" / f"epoch{at.epoch:03d}_{label}.png")
        self.build()

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        self.build()

    def close(self) -> None:
        self.build()

    def build(self) -> None:
        """Write the page."""
        page = HTML(self.folder / "web", f"Training of {self.name}")
        curves = read_curves(self.folder)
        for epoch, text in curves.notes[-NOTES:]:
            page.add(tags.p(f"epoch {epoch:.3g}: {text}", cls="note"))
        charts = (chart(name, {"": points}, curves.best) for name, points in curves.series.items())
        page.add(tags.div(*charts, cls="row"))
        if curves.best is not None:
            page.add(tags.p(f"The dashed line marks epoch {curves.best:.3g}, the best by validation "
                            f"(test.py --epoch best)."))
        for epoch, labels in sorted(self._saved(page.img_dir).items(), reverse=True):
            page.add_header(f"epoch {epoch}")
            files = [f"epoch{epoch:03d}_{label}.png" for label in labels]
            page.add_images(files, labels, files, self.width)
        page.save()

    def _saved(self, folder: Path) -> dict[int, list[str]]:
        epochs: dict[int, list[str]] = {}
        for match in filter(None, (PICTURE.fullmatch(path.name) for path in sorted(folder.iterdir()))):
            epochs.setdefault(int(match[1]), []).append(match[2])
        rank = {label: i for i, label in enumerate(self.labels)}
        return {epoch: sorted(labels, key=lambda label: rank.get(label, len(rank))) for epoch, labels in epochs.items()}
