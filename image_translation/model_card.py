"""The model card of an exported folder: what it is, how to use it, pictures, metrics, training."""

import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from image_translation.hub import plain
from models.engine.results import results_folder
from options.record import read_record
from util.compare import read_pictures
from util.files import inside, read_json
from util.html import directions, is_translation
from util.metrics.report import JSON, described, read_figures
from util.notices import notice

TOLD = ("model", "dataset_mode", "netG", "norm", "ngf", "netD", "gan_mode", "lambda_L1", "lambda_A", "lambda_B",
        "lambda_identity", "preprocess", "load_size", "crop_size", "batch_size", "n_epochs", "n_epochs_decay", "lr",
        "ema", "seed")  # options of the training that the card lists
PICTURES = 4


def card(opt: Namespace, run_options: Namespace, facts: dict[str, str], target: Path) -> Iterator[str]:
    """The lines of the model card: https://huggingface.co/docs/hub/model-cards."""
    record = read_record(run_options.checkpoints_dir, run_options.name).get("options", {})
    results = results_folder(Namespace(**{**vars(run_options), "phase": "test", "results_dir": opt.results_dir}))
    tested = read_json(results / JSON, dict, "test.py --metrics writes it again").get("average") == run_options.ema
    average = ", the moving average of its weights" if run_options.ema else ""
    yield from ("---", "library_name: image-translation", "pipeline_tag: image-to-image",
                f"license: {opt.licence or 'unknown'}", "---", "", f"# {run_options.name}", "",
                f"A generator for image-to-image translation ({run_options.direction}), trained with image-translation"
                f"{' as ' + record['model'] if record else ''}. Checkpoint: {facts['epoch']}{average}.", "")
    yield from ("## Use", "", "```python", "from image_translation import load", "",
                'picture = load("hub:USER/NAME")("photo.jpg")', "```", "")
    if pictures := list(copied_pictures(results, target)) if tested else []:
        yield from ("## Pictures", "", *pictures, "")
    if figures := {key: figure for key, figure in read_figures(results).items() if is_translation(key) and tested}:
        yield from ("## Metrics", "", f"Of the images of {results.name}, with 95 % intervals.", "",
                    "| metric | | better | meaning |", "|---|---|---|---|")
        for key, figure in figures.items():
            better, meaning = described(key)
            yield f"| {key} | {figure} | {better} | {meaning} |"
        yield ""
    if not (pictures and figures):
        choice = f" --epoch {run_options.epoch}{' --ema' if run_options.ema else ''}"
        notice("card", f"the model card has no metrics or pictures, as {results} has none of this checkpoint; test.py"
                       f"{choice} --metrics auto makes them")
    if not opt.licence:
        notice("licence", "the model card says that the licence is unknown; --licence names one")
    yield from ("## Input", "", f"{run_options.input_nc} channels of {facts['depth_in']} in {facts['range_in']}, any "
                f"size; trained at {plain(run_options.crop_size)} pixels.", "")
    if record:
        yield from ("## Training", "", f"Data: {Path(str(record.get('dataroot', 'unknown'))).name}.", "",
                    "| option | |", "|---|---|")
        yield from (f"| --{name} | {record[name]} |" for name in TOLD if name in record)


def copied_pictures(results: Path, target: Path) -> Iterator[str]:
    """Copy some results into the folder; yields the lines of a table of them."""
    rows = list(read_pictures(results).items())
    rows = [rows[i * len(rows) // PICTURES] for i in range(PICTURES)] if len(rows) > PICTURES else rows
    if not rows:
        return
    labels = directions(rows[0][1])[0]
    yield f"| {' | '.join(labels)} |"
    yield f"|{'---|' * len(labels)}"
    (target / "images").mkdir(exist_ok=True)
    for number, (_, files) in enumerate(rows):
        cells = []
        for label in filter(files.__contains__, labels):
            source = inside(results / "images", files[label], "picture")
            shutil.copyfile(source, target / "images" / f"{number}_{label}.png")
            cells.append(f"![{label}](images/{number}_{label}.png)")
        yield f"| {' | '.join(cells)} |"
