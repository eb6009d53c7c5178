"""Translate images with a trained run: python test.py --model test --name RUN --dataroot FOLDER."""

import json
import math
import os
import re
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from data import create_dataset
from data.image_folder import is_image_file
from data.loading.loader import Loader
from data.transforms import trained_size
from models import BaseModel, create_model
from models.engine.translation import translated
from models.engine.validation import add_translations, follow
from options.test_options import TestOptions
from util.cli import run
from util.distributed import gathered, is_main, joined, world_size
from util.errors import UsageError
from util.files import atomic, inside
from util.html import HTML
from util.images import ValueRange, save_exact, save_image, stretched, tensor2im
from util.memory import explained, keep_freed_memory
from util.metrics.report import remove_metrics, table, write_metrics
from util.metrics.scores import Scores, choose
from util.notices import say, tell
from util.run_files import PICTURES, checkpoint_tag

Row = dict[str, tuple[str, str]]  # label -> (picture to show, exact file)


def test(opt) -> int:
    """Translate, write the images and a page; returns 1 when images or metrics had to be left out, else 0."""
    opt.serial_batches = opt.no_flip = True  # for unaligned ones, and those of the reference
    with closing(create_dataset(opt)) as loader:
        model = create_model(opt)
        model.planned_images, model.planned_size = len(loader), trained_size(opt)
        model.setup(opt)
        if opt.eval:
            model.eval()
        if size := model.planned_size:
            tell(f"images become {size[0]}x{size[1]} (--preprocess {opt.preprocess}); --preprocess none keeps their "
                 f"size")
        page = HTML(results_folder(opt), f"{opt.name}: {opt.phase}, checkpoint {checkpoint_tag(opt)}")
        model.paired = loader.dataset.paired
        wanted = choose(opt.metrics, opt.metric_weights)
        scores = Scores(wanted, opt.device, opt.metric_weights) if wanted else None
        rows = translate(opt, loader, model, page.img_dir, scores)
    if scores:
        scores.gather()
    rows = {name: files for part in gathered(rows) for name, files in part.items()}
    errors = {path: error for part in gathered(loader.errors) for path, error in part.items()}
    if not is_main():
        return 0
    rows = dict(sorted(rows.items(), key=lambda row: natural(row[0])))
    if scores:
        add_scored(opt, page, rows, scores)
    else:
        remove_metrics(page.web_dir)
        for name, files in rows.items():
            add_row(opt, page, name, files)
    if rows:
        with atomic(page.web_dir / PICTURES) as file:
            json.dump(rows, file, indent=1)
        page.save()
    for error in errors.values():
        say(f"skipped {error}")
    tell(f"{len(rows)} images translated{f', {len(errors)} skipped' if errors else ''}: "
         f"{page.web_dir / 'index.html'}")
    return int(bool(errors or (scores and scores.incomplete())))


def add_row(opt, page: HTML, heading: str, files: Row) -> None:
    """The pictures of an image."""
    page.add_header(heading)
    shown, exact = zip(*files.values(), strict=True)
    page.add_images(list(shown), list(files), list(exact), opt.display_winsize)


def add_scored(opt, page: HTML, rows: dict[str, Row], scores: Scores) -> None:
    """Write the metrics, show them, and let the page be sorted by the one that is followed."""
    figures = scores.figures()
    if scores.working() and not scores.has_truths():
        say(f"no metric: --model {opt.model} has no true images here; a model of pairs or of both domains has them, or "
            f"python -m util.metrics OUTPUTS TRUTHS")
    write_metrics(page.web_dir, figures, {name: scores.rows[name] for name in rows if name in scores.rows},
                  name=opt.name, phase=opt.phase, checkpoint=checkpoint_tag(opt), average=opt.ema)
    page.add(table({opt.name: figures}))
    for key, figure in figures.items():
        tell(f"{key}: {figure}")
    for name in page.sortable({name: cost_of(scores.rows.get(name, {})) for name in rows}):
        values = (f"{key} {value:.4g}" for key, value in scores.rows.get(name, {}).items())
        add_row(opt, page, " ".join([name, *values]), rows[name])


def cost_of(row: dict[str, float]) -> float:
    """By what images are sorted, smaller where it is better: what `best` follows, else the first metric there is."""
    wishes = ("auto", *(key.split("/")[1] for key in row))
    found = next(filter(None, (follow(row, wish) for wish in wishes)), None)
    return math.inf if found is None else -found.value if found.higher_is_better else found.value


def translate(opt, loader: Loader, model: BaseModel, folder: Path, scores: Scores | None = None) -> dict[str, Row]:
    """Translate every image while earlier ones are written; returns result name -> its files."""
    rows: dict[str, Row] = {}
    writing: deque[Future[dict[str, Row]]] = deque()
    writers = os.cpu_count() or 1
    weights_stay_cast = torch.autocast(model.device.type, enabled=False)  # by the outermost autocast, till it ends
    with weights_stay_cast, ThreadPoolExecutor(writers) as pool, tqdm(total=len(loader), unit="img",
                                                                      disable=None if is_main() else True) as bar:
        for tested, batch in translated(model, loader):
            names, paths = result_names(opt, tested, batch, loader.dataset.roots), tested.get_image_paths()
            visuals = {label: value.detach().cpu() if torch.is_tensor(value) else value
                       for label, value in tested.get_current_visuals().items()}
            if scores:
                add_translations(scores, tested, names)
            domains = {label: tested.visual_domain(label) for label in visuals}
            writing.append(pool.submit(write_batch, opt, folder, names, paths, visuals, domains))
            if len(writing) > 2 * writers:
                rows.update(writing.popleft().result())
            bar.update(len(paths) * world_size())
        for written in writing:
            rows.update(written.result())
    return rows


def natural(name: str) -> list[str | int]:
    """For sorting: 2 before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def results_folder(opt) -> Path:
    """`<results_dir>/<name>/<phase>_<epoch>`; raises UsageError when that leads elsewhere."""
    tag = f"_iter{opt.load_iter}" if opt.load_iter > 0 else ""
    inside(opt.results_dir, opt.name, "--name")
    return inside(Path(opt.results_dir) / opt.name, f"{opt.phase}_{opt.epoch}{tag}", "--phase and --epoch")


def write_batch(opt, folder: Path, names: list[str], paths: list[str], visuals: dict[str, Any],
                domains: dict[str, str]) -> dict[str, Row]:
    """Write every visual of every image of a batch, at the depth and range of its domain."""
    rows: dict[str, Row] = {}
    for i, (name, path) in enumerate(zip(names, paths, strict=True)):
        rows[name] = {}
        for label, value in visuals.items():
            if not torch.is_tensor(value) and len(paths) > 1:
                raise UsageError(f"visual {label} of --model {opt.model} is one picture for a whole batch; use "
                                 f"--batch_size 1")
            values = ValueRange.of(opt, domains[label])
            value = value[i] if torch.is_tensor(value) else value
            rows[name][label] = write_visual(folder, f"{name}_{label}", value, values, path, opt.aspect_ratio)
    return rows


def write_visual(folder: Path, name: str, value: Any, values: ValueRange, source: str, ratio: float) -> tuple[str, str]:
    """Write `<name>.png`, and what PNG can't hold as .npy for an .npy source, else .tif.

    Returns (picture of 8 bits for the page, exact file), both below `folder`.
    """
    inside(folder, f"{name}.png", "result")
    if not torch.is_tensor(value):
        save_image(np.asarray(value).astype(np.uint8), folder / f"{name}.png", ratio)
        return f"{name}.png", f"{name}.png"
    value = stretched(value, ratio)
    array, from_npy = values.to_array(value), source.lower().endswith(".npy")
    if values.depth == "uint8" and array.shape[2] in (1, 3, 4):
        save_image(array, folder / f"{name}.png")
        return f"{name}.png", f"{name}.png"
    if values.depth == "uint16" and array.shape[2] == 1 and not from_npy:
        shown, exact = f"{name}_8bit.png", f"{name}.png"  # a browser shows 16 bits without regard to their range
        save_image(array, folder / exact)
    else:
        shown, exact = f"{name}.png", f"{name}{'.npy' if from_npy else '.tif'}"
        save_exact(array, folder / exact)
    save_image(tensor2im(value), folder / shown)
    return shown, exact


def result_names(opt, model: BaseModel, batch: dict, roots: list[str]) -> list[str]:
    """What the results of each image are called.

    Where the source domain has run out, images of the target keep their folder's name, apart from those of the source.
    """
    if batch.get("repeated") == model.domains()[0]:
        roots = [opt.dataroot]
    elif not roots:  # a dataset that lists its files itself
        roots = [f"{opt.dataroot}/{opt.phase}{domain}" for domain in ("", "A", "B")] + [opt.dataroot]
    return [result_name(path, roots) for path in model.get_image_paths()]


def result_name(path: str, roots: list[str]) -> str:
    """Where below the listed folder an image lies, without its ending unless a sibling shares the stem."""
    path = Path(path)
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    relative = path.relative_to(root)
    folder = path.parent  # which need not exist: a dataset may make its images
    shared = folder.is_dir() and image_stems(folder, folder.stat().st_mtime_ns)[path.stem] > 1
    return str(relative if shared else relative.with_suffix(""))


@lru_cache(maxsize=64)
def image_stems(folder: Path, changed: int) -> Counter[str]:
    """How many images of a folder, as it was when it last changed, have which stem."""
    return Counter(Path(name).stem for name in os.listdir(folder) if is_image_file(name))


def main(argv: Sequence[str]) -> int:
    """Translate what the command line says."""
    with explained(("--batch_size 1", "a smaller --crop_size or --load_size with another --preprocess than none",
                    "--device cpu")):
        opt = TestOptions().parse(argv)
        if opt.device.type == "cpu":
            keep_freed_memory()
        with joined(opt.device):
            return test(opt)


if __name__ == "__main__":
    run(main)
