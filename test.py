"""Translate images with a trained run: python test.py --model test --name RUN --dataroot FOLDER."""

import json
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing

from data import create_dataset
from data.transforms import trained_size
from models import create_model
from models.engine.result_page import Result, write_page
from models.engine.results import natural, remove_older, results_folder, translate
from options.test_options import TestOptions
from util.cli import run
from util.distributed import gathered, is_main, joined
from util.files import atomic
from util.html import HTML
from util.memory import explained, keep_freed_memory
from util.metrics.report import remove_metrics
from util.metrics.scores import Scores, choose
from util.notices import fresh, say, tell
from util.run_files import PICTURES, checkpoint_tag


def parse(argv: Sequence[str]) -> Namespace:
    """The options of a command line; raises UsageError."""
    return TestOptions().parse(argv)


def test(opt: Namespace) -> int:
    """Translate, write the images and a page; returns 1 if images or metrics had to be left out, else 0."""
    opt.serial_batches = opt.no_flip = True  # for unaligned datasets, and those of the reference
    with fresh(), closing(create_dataset(opt)) as loader:
        model = create_model(opt)
        model._engine.planned_images, model._engine.planned_size = len(loader), trained_size(opt)
        model._engine.paired = bool(loader.dataset.paired)
        model.setup(opt)
        if opt.eval:
            model.eval()
        if size := model._engine.planned_size:
            tell(f"images are resized to {size[0]}x{size[1]} (--preprocess {opt.preprocess}); --preprocess none keeps "
                 f"their size")
        tag = checkpoint_tag(opt.epoch, opt.load_iter)
        page = HTML(results_folder(opt), f"{opt.name}: {opt.phase}, checkpoint {tag}")
        wanted = choose(opt.metrics, opt.metric_weights)
        scores = Scores(wanted, opt.device, opt.metric_weights) if wanted else None
        results = translate(opt, loader, model, page.img_dir, scores)
        if scores:
            scores.gather()
        results = {name: result for part in gathered(results) for name, result in part.items()}
        errors = {path: error for part in gathered(loader.errors) for path, error in part.items()}
        return finish(opt, page, results, errors, scores, bool(loader.dataset.paired)) if is_main() else 0


def finish(opt: Namespace, page: HTML, results: dict[str, Result], errors: dict[str, Exception],
           scores: Scores | None, paired: bool) -> int:
    """Write the page and report; returns the exit code."""
    results = dict(sorted(results.items(), key=lambda result: natural(result[0])))
    if not (scores and results):
        remove_metrics(page.web_dir)
    if results:
        remove_older(page.web_dir, results)
        with atomic(page.web_dir / PICTURES) as file:
            json.dump({name: result.files for name, result in results.items()}, file, indent=1)
        write_page(opt, page, results, scores, paired)
    for error in errors.values():
        say(f"skipped {error}")
    tell(f"{len(results)} images translated{f', {len(errors)} skipped' if errors else ''}"
         + (f": {page.web_dir / 'index.html'}" if results else ""))
    return int(bool(errors or (scores and scores.incomplete())))


def main(argv: Sequence[str]) -> int:
    """Translate as the command line says."""
    with explained(("--batch_size 1", "a smaller --crop_size or --load_size with another --preprocess than none",
                    "--device cpu")):
        opt = parse(argv)
        if opt.device.type == "cpu":
            keep_freed_memory()
        with joined(opt.device):
            return test(opt)


if __name__ == "__main__":
    run(main)
