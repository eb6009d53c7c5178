"""The page of test.py: a table of pictures and scores for each direction."""

import os
import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dominate import tags

from models.engine.validation import follow
from util.errors import UsageError, one_line
from util.html import HTML, Column, Picture, Row, Score, directions, head_of, is_translation, picture_table
from util.metrics import find_metrics
from util.metrics.report import table, write_metrics
from util.metrics.scores import Scores
from util.notices import notice, say, tell
from util.run_files import checkpoint_tag, run_folder
from util.sinks.page import add_result_page


class Result(NamedTuple):
    """What was written of an image."""

    files: dict[str, Picture]  # label -> (picture to show, exact file)
    sources: list[str]         # files of the input, and of its partner if there is one
    domains: dict[str, str]    # label -> A or B


def write_page(opt: Namespace, page: HTML, results: dict[str, Result], scores: Scores | None, paired: bool) -> None:
    """Write metrics and the page, and link it to the training page of the run and back."""
    training = run_folder(opt.checkpoints_dir, opt.name) / "web" / "index.html"
    if training.exists():
        page.add_link("training page", training)
    average = ", the moving average of its weights" if opt.ema else ""
    tag = checkpoint_tag(opt.epoch, opt.load_iter)
    page.add(tags.p(f"Checkpoint {tag}{average}; {time.strftime('%Y-%m-%d %H:%M')}.", cls="faint"))
    if scores:
        add_figures(opt, page, results, scores)
    page.add_tools(opt.display_winsize, rows=True)
    labels = dict.fromkeys(label for result in results.values() for label in result.files)
    for part in directions(labels):
        add_direction(page, part, results, scores.rows if scores else {}, labels if paired else ())
    page.save()
    try:
        results_page = page.web_dir / "index.html"
        text = f"results: {page.web_dir.name}"
        add_result_page(training.parents[1], text, results_page, opt.display_winsize, opt.name)
    except (OSError, UsageError) as error:
        notice("back", f"the training page has no link to the results: {one_line(error)}")


def add_figures(opt: Namespace, page: HTML, results: dict[str, Result], scores: Scores) -> None:
    """Write and show the metrics of all images together."""
    figures = scores.figures()
    if scores.working() and not (scores.rows or scores.references()):
        say(f"no metric: --model {opt.model} sees no true images here; use a model of pairs or of both domains, or "
            f"python -m util.metrics OUTPUTS TRUTHS")
    write_metrics(page.web_dir, figures, {name: scores.rows[name] for name in results if name in scores.rows},
                  name=opt.name, phase=opt.phase, checkpoint=checkpoint_tag(opt.epoch, opt.load_iter), average=opt.ema)
    page.add(table({opt.name: figures}))
    page.add(tags.p("In brackets: 95 % intervals; n: number of images.", cls="faint"))
    for key, figure in figures.items():
        tell(f"{key}: {figure}")


def add_direction(page: HTML, part: list[str], results: dict[str, Result], values: dict[str, dict[str, float]],
                  truths: Iterable[str]) -> None:
    """The table of the images that went one way; `truths` are the labels of all pictures if they are pairs."""
    main = next(filter(is_translation, part), part[-1])
    truth = main.replace("fake", "real", 1)
    if truth in truths and truth not in part:  # it is the input of the other direction
        part = [label for other in part for label in ((other, truth) if other == main else (other,))]
    shown = {name: result for name, result in results.items() if main in result.files}
    first = next(iter(shown.values()))
    source, target = first.domains.get(part[0], "A"), first.domains.get(main, "B")
    own = part[0] == next(iter(first.files))  # else the partner is the input
    files = {name: result.sources[0 if own else -1] for name, result in shown.items()}
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files.values()])
    way = f"{source} to {target}: " if source != target else ""
    page.add_header(f"{way}{len(shown)} images of {os.path.relpath(folder)}")
    columns = [Column(label, head_of(label, part), f"…_{label}.png") for label in part]
    rows = [Row(name if own else Path(files[name]).stem, result.files, values.get(name, {}), "" if own else name)
            for name, result in shown.items()]
    page.add(picture_table(columns, scores_of(part, rows), rows))


def scores_of(part: list[str], rows: list[Row]) -> list[Score]:
    """The columns of values; the one that `best` follows opens the page sorted."""
    keys = dict.fromkeys(key for row in rows for key in row.scores if key.split("/")[0] in part)
    metrics = {key: find_metrics([key.split("/")[-1]])[0] for key in keys}
    wishes = ("auto", *(metric.name for metric in metrics.values()))
    found = next(filter(None, (follow(dict.fromkeys(keys, 0.0), wish) for wish in wishes)), None)
    followed = [key for key in keys if found and key.endswith(f"/{found.name}")]
    followed = [*filter(is_translation, followed), *followed][:1]
    return [Score(key, metric.name if is_translation(key) else key.replace("/", " "), metric.meaning,
                  metric.higher_is_better, key in followed) for key, metric in metrics.items()]
