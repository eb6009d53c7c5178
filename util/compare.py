"""One page about several runs: python -m util.compare RUN RUN ... --output comparison.

Options that differ, curves over each other, the metrics of test.py, and the same test images side by side.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dominate import tags

from util.cli import OneLineParser, run
from util.errors import UsageError
from util.files import inside, read_json
from util.html import HTML, Column, Row, chart, is_translation, picture_table
from util.metrics.report import read_figures, table
from util.notices import say, tell
from util.run_files import PICTURES, RECORD
from util.sinks.log_file import read_curves
from util.types import natural, positive

NOT_COMPARED = {"name", "checkpoints_dir", "continue_train"}


def main(argv: Sequence[str]) -> int:
    """Write the page."""
    parser = OneLineParser(prog="python -m util.compare", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="names of runs")
    parser.add_argument("--checkpoints_dir", default="./checkpoints", help="folder of the runs")
    parser.add_argument("--results_dir", default="./results/", help="folder of what test.py wrote")
    parser.add_argument("--phase", default="test", help="which results")
    parser.add_argument("--epoch", default="latest", help="results of which checkpoint: latest, best or an epoch")
    parser.add_argument("--images", type=natural, default=20, help="test images to show; 0 shows none")
    parser.add_argument("--display_winsize", type=positive, default=256, help="width of the pictures")
    parser.add_argument("--output", default="./comparison", help="folder of the page")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    opt = parser.parse_args(argv)
    records = {}
    for name in dict.fromkeys(opt.runs):
        record = inside(opt.checkpoints_dir, name, "name of a run,") / RECORD
        records[name] = read_json(record, lambda content: dict(content["options"]), "the run can't be compared")
        if not records[name]:
            there = sorted(path.parent.name for path in Path(opt.checkpoints_dir).glob(f"*/{RECORD}"))
            raise UsageError(f"no recorded run called '{name}' in {opt.checkpoints_dir}; there are: "
                             f"{', '.join(there) or 'none'}")
    results = {name: inside(Path(opt.results_dir) / name, f"{opt.phase}_{opt.epoch}", "--phase and --epoch")
               for name in records}
    page = HTML(opt.output, f"Comparison of {', '.join(records)}")
    for name, folder in results.items():
        for text, place in (("training", Path(opt.checkpoints_dir) / name / "web"), ("results", folder)):
            if (place / "index.html").exists():
                page.add_link(f"{text} of {name}", place / "index.html")
    page.add_header("Options that differ")
    page.add(differing(records))
    if figures := {name: found for name, folder in results.items() if (found := read_figures(folder))}:
        page.add_header("Metrics")
        page.add(table(figures))
    page.add_header("Curves")
    page.add_charts(curves({name: Path(opt.checkpoints_dir) / name for name in records}))
    shown = add_pictures(page, results, opt.images, opt.display_winsize)
    page.save()
    tell(f"{len(records)} runs, {shown} images side by side: {page.web_dir / 'index.html'}")
    return 0


def differing(records: dict[str, dict[str, Any]]) -> tags.table:
    """A row for each option whose value is not the same in all runs."""
    made = tags.table(tags.tr(tags.th(""), *(tags.th(name) for name in records)), cls="values")
    for key in dict.fromkeys(key for record in records.values() for key in record):
        values = [str(record.get(key, "")) for record in records.values()]
        if len(set(map(as_number, values))) > 1 and key not in NOT_COMPARED:
            made.add(tags.tr(tags.th(f"--{key}"), *(tags.td(value) for value in values)))
    return made


def as_number(word: str) -> float | str:
    """0.0 and 0 are one value."""
    try:
        return float(word)
    except ValueError:
        return word


def curves(folders: dict[str, Path]) -> Iterator[tags.figure]:
    """A chart of each name, with a curve of each run that has it."""
    runs = {name: read_curves(folder).series for name, folder in folders.items()}
    names = dict.fromkeys(name for series in runs.values() for name in series)
    return (chart(name, {run: series[name] for run, series in runs.items() if name in series}) for name in names)


def add_pictures(page: HTML, results: dict[str, Path], limit: int, width: int) -> int:
    """The first images that all runs have results of, copied beside the page; returns how many."""
    there = {name: read_pictures(folder) for name, folder in results.items()}
    missing = [str(results[name]) for name, images in there.items() if not images]
    if limit and missing:
        say(f"no pictures are compared: nothing in {', '.join(missing)}; run test.py for each run first")
    first = next(iter(there.values()))
    common = [image for image in first if all(image in images for images in there.values())][:limit]
    rows = [Row(image, {label: (copied(page, results, name, file),) * 2 for label, (name, file) in
                        pictures_of(image, there).items()}) for image in common]
    if rows:
        page.add_header("The same images")
        page.add_tools(width, rows=True)
        page.add(picture_table([Column(label, label) for label in rows[0].pictures], [], rows))
    return len(common)


def pictures_of(image: str, there: dict[str, dict[str, dict[str, str]]]) -> dict[str, tuple[str, str]]:
    """Label -> (run, file): the input, then each run's translations, then the truth."""
    first = next(iter(there))
    real = {label: (first, file) for label, file in there[first][image].items() if label.startswith("real")}
    made = {f"{name}: {label}": (name, file) for name, images in there.items()
            for label, file in images[image].items() if is_translation(label)}
    return {**dict(list(real.items())[:1]), **made, **dict(list(real.items())[1:])}


def copied(page: HTML, results: dict[str, Path], name: str, file: str) -> str:
    """Copy a picture of a run beside the page; returns its path below `images`."""
    source = inside(results[name] / "images", file, f"{PICTURES} of {name}: picture")
    target = inside(page.img_dir, f"{name}/{file}", "picture")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return f"{name}/{file}"


def read_pictures(folder: Path) -> dict[str, dict[str, str]]:
    """Image -> visual -> picture below `images`, as test.py has left them in a folder, empty without any."""
    def shown(images: dict) -> dict[str, dict[str, str]]:
        return {image: {str(label): str(files[0]) for label, files in visuals.items()}
                for image, visuals in images.items()}

    return read_json(folder / PICTURES, shown, "test.py writes it again")


if __name__ == "__main__":
    run(main)
