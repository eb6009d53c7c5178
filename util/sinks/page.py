"""web/index.html: the same images through time, the losses as curves, and how the run is doing."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dominate import tags

from util.errors import UsageError
from util.files import atomic, read_json
from util.html import HTML, address, chart, directions, head_of, is_translation, picture
from util.images import save_image
from util.metrics.report import described
from util.progress import Progress
from util.run_files import PAGE_STATE, RESULT_PAGES
from util.sinks import Sink
from util.sinks.log_file import Curves, read_curves

NOTES = 20         # of the newest are listed
BEAT = 30.0        # seconds between signs of life
PATIENCE = 180     # seconds without one after which a run counts as dead
PICTURE = re.compile(r"epoch(\d+)_(.+)\.png")
SAMPLE = re.compile(r"sample(\d+)_(.+)")  # the name of a picture of one of the images that are shown at every save


class Page(Sink):
    """Rebuilt from the files on disk, so that it continues that of an earlier run."""

    def __init__(self, folder: str | Path, name: str, width: int, epochs: int = 0, images: int = 0):
        """`epochs` and `images` are how many the run will have seen in the end, if that is known."""
        self.web, self.name, self.width, self.epochs, self.in_all = Path(folder) / "web", name, width, epochs, images
        self.begun: tuple[float, float] | None = None  # moment in seconds, and epochs then, of the first log line
        found = read_or_empty(self.web / PAGE_STATE, checked)
        self.labels: list[str] = found.get("labels", [])
        self.state: dict[str, Any] = found.get("state", {})
        self._built, self._took, self._beaten = 0.0, 0.0, 0.0  # seconds

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        self.state = {"kind": "running", "text": self._progress(at)}
        if time.monotonic() - self._built > max(BEAT, 50 * self._took):  # a long log takes time to read
            self.build()

    def _progress(self, at: Progress) -> str:
        """How far the training is, and how long it will take."""
        if not (self.epochs and self.in_all):
            return f"Training: epoch {at.epoch}, {at.total_iters} images seen"
        done, now = at.epoch - 1 + at.iters * self.epochs / self.in_all, time.monotonic()
        moment, before = self.begun = self.begun or (now, done)
        minutes = (now - moment) / 60 * (self.epochs - done) / (done - before) if done > before else 0
        left = f", about {minutes / 60:.1f} hours left" if minutes > 90 else f", about {minutes:.0f} minutes left"
        return f"Training: epoch {at.epoch} of {self.epochs}, {done / self.epochs:.0%}{left if minutes else ''}"

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        pictures = {label.replace("/", "_"): array for label, array in pictures.items()}  # as names of files
        self.labels = list(pictures)
        for label, array in pictures.items():
            save_image(array, self.web / "images" / (f"{label}.png" if is_constant(label) else
                                                       f"epoch{at.epoch:03d}_{label}.png"))
        self.build()

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        self.build()

    def ended(self, at: Progress, text: str, well: bool) -> None:
        done = at.epoch if at.iters else at.epoch - 1
        self.state = {"kind": "over" if well else "bad", "text": f"{text} Epoch {done}, {at.total_iters} images seen."}
        self.build()

    def beat(self) -> None:
        """Note on the page that the run is alive."""
        page = self.web / "index.html"
        if self.state.get("kind") == "running" and self._built and time.monotonic() - self._beaten >= BEAT:
            self._beaten = time.monotonic()
            content = page.read_text(encoding="utf-8")
            with atomic(page, lasting=False) as file:
                file.write(re.sub(r'data-written="\d+"', f'data-written="{int(time.time())}"', content, count=1))

    def close(self) -> None:
        self.build()

    def build(self) -> None:
        """Write the page."""
        start = time.monotonic()
        with atomic(self.web / PAGE_STATE, lasting=False) as file:
            json.dump({"labels": self.labels, "state": self.state}, file)
        page, curves = HTML(self.web, f"Training of {self.name}"), read_curves(self.web.parent)
        for text, place in read_or_empty(self.web / RESULT_PAGES, links).items():
            page.add_link(text, place)
        if (self.web.parent / "train_opt.txt").exists():
            page.add_link("options", self.web.parent / "train_opt.txt")
        self._add_state(page)
        self._add_pictures(page, curves)
        page.add_header("Curves")
        if curves.best is not None:
            page.add(tags.p(f"The green line marks epoch {curves.best:.3g}, the best checkpoint by validation "
                            f"(test.py --epoch best).", cls="faint"))
        page.add_charts(chart(name, {"": points}, curves.best, curves.notes, *told_of(name))
                        for name, points in curves.series.items())
        if curves.notes:
            page.add_header("Health")
        for epoch, text in curves.notes[:-NOTES - 1:-1]:
            page.add(tags.p(f"epoch {epoch:.3g}: {text}", cls="note"))
        page.save()
        self._built = self._beaten = time.monotonic()
        self._took = self._built - start

    def _add_state(self, page: HTML) -> None:
        if self.state:
            kind, alive = self.state["kind"], {}
            if kind == "running":
                alive = {"data_written": str(int(time.time())), "data_patience": str(PATIENCE),
                         "data_remedy": f"python train.py --continue_train --name {self.name} resumes it."}
            page.add(tags.p(self.state["text"], cls=f"state {kind}", **alive))

    def _add_pictures(self, page: HTML, curves: Curves) -> None:
        """The images shown at every save with their strips, then those of the last step; a scrubber for all."""
        epochs = self._saved(page.img_dir)
        every = sorted(set().union(*epochs.values())) if epochs else []
        if not every:
            return
        page.add_tools(self.width)
        page.add(tags.p("real: an image of the data; fake: its translation; rec: the translation translated back; idt: "
                        "an image that should come out unchanged", cls="faint"))
        scrubber = tags.input_(type="range", cls="scrubber", min="0", max=str(len(every) - 1),
                               data_all=json.dumps(every), data_notes=json.dumps(curves.notes))
        page.add(tags.div(tags.label("epoch", scrubber, tags.output(cls="epoch")), cls="tools"))
        ordered = dict.fromkeys([*self.labels, *sorted(epochs)])
        constant = sorted(path.stem for path in page.img_dir.glob("sample*.png"))
        for number in sorted({int(SAMPLE.fullmatch(label)[1]) for label in ordered if SAMPLE.fullmatch(label)}):
            page.add(tags.h2(f"Image {number} over time"))
            own = [label for label in (*ordered, *constant) if label.startswith(f"sample{number}_")]
            for part in directions(dict.fromkeys(label.removeprefix(f"sample{number}_") for label in own)):
                self._add_row(page, {f"sample{number}_{label}": head_of(label, part) for label in part}, epochs)
                for label in filter(is_translation, part):
                    page.add(tags.div(cls="strip", data_of=f"sample{number}_{label}"))
        page.add_header("The last step of that epoch")
        for part in directions(label for label in ordered if not SAMPLE.fullmatch(label)):
            self._add_row(page, {label: head_of(label, part) for label in part}, epochs)

    def _add_row(self, page: HTML, labels: dict[str, str], epochs: dict[str, list[int]]) -> None:
        """Pictures in a row, from labels and what they are."""
        row = tags.div(cls="row")
        for label, text in labels.items():
            if label in epochs:
                last = f"epoch{max(epochs[label]):03d}_{label}.png"
                shown = picture((last, last), text, id=label, data_what=text, data_epochs=json.dumps(epochs[label]),
                                data_file=address(f"epochEPOCH_{label}.png"))
            elif (page.img_dir / f"{label}.png").exists():
                shown = picture((f"{label}.png", f"{label}.png"), text)
            else:
                continue
            name = SAMPLE.sub(r"\2", label)
            row.add(tags.figure(shown, tags.figcaption(text if text == name else f"{text}, {name}")))
        page.add(row)

    def _saved(self, folder: Path) -> dict[str, list[int]]:
        """Label -> the epochs that have a picture, in order."""
        saved: dict[str, list[int]] = {}
        for match in filter(None, (PICTURE.fullmatch(path.name) for path in sorted(folder.iterdir()))):
            saved.setdefault(match[2], []).append(int(match[1]))
        return {label: sorted(epochs) for label, epochs in saved.items()}


def told_of(name: str) -> tuple[str, str]:
    """What a metric means, and where better values are; empty for a loss."""
    better, meaning = described(name) if "/" in name else ("", "")
    return meaning, better


def is_constant(label: str) -> bool:
    """Whether a picture is the same at every save: a real one of an image that is always shown."""
    match = SAMPLE.fullmatch(label)
    return bool(match and match[2].startswith("real"))


def read_or_empty(path: Path, parse: Callable[[Any], dict]) -> dict[str, Any]:
    """A file of this page; empty if it is missing or damaged, as nothing is lost with it."""
    try:
        return read_json(path, parse, "")
    except UsageError:
        return {}


def checked(content: dict) -> dict[str, Any]:
    """What a page has written about itself."""
    state = {key: str(content["state"][key]) for key in ("kind", "text") if content["state"]}
    return {"labels": [str(label) for label in content["labels"]], "state": state}


def links(content: dict) -> dict[str, str]:
    """Text -> page of results."""
    return {str(text): str(place) for text, place in content.items()}


def add_result_page(folder: Path, text: str, page: Path, width: int, name: str) -> None:
    """Link a page of results from the training page of a run, if it has one."""
    if (folder / "web" / "index.html").exists():
        found = read_or_empty(folder / "web" / RESULT_PAGES, links)
        with atomic(folder / "web" / RESULT_PAGES) as file:
            json.dump({**found, text: str(page.resolve())}, file, indent=1)
        Page(folder, name, width).build()
