"""Compare two folders of images: python -m util.metrics OUTPUTS TRUTHS.

Files of one name below the folders are pairs; without any, only metrics of sets are computed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.aligned_dataset import by_stem
from data.image_folder import list_images
from data.reading import read_image
from util.cli import OneLineParser, run
from util.device import pick_device
from util.errors import ImageError, UsageError
from util.files import inside, read_json
from util.images import ValueRange
from util.metrics.report import write_metrics
from util.metrics.scores import Scores, choose, describe
from util.notices import tell
from util.plugins import use_plugin_dir
from util.run_files import PICTURES
from util.types import words

SPANS = {"uint8": "0:255", "uint16": "0:65535"}


def stems_in(folder: str) -> dict[str, str]:
    """Path below the folder without its extension -> file; raises UsageError if two are equal, or there are none."""
    return {stem: path for (_, stem), path in by_stem([Path(folder)], list_images(folder)).items()}


def main(argv: Sequence[str]) -> int:
    """Print the figures, and write them to --output; returns 1 if a metric had to be left out, else 0."""
    parser = OneLineParser(prog="python -m util.metrics", description=__doc__.splitlines()[0])
    parser.add_argument("outputs", help="folder of images to score")
    parser.add_argument("truths", help="folder of the true ones, or of real images of their kind")
    parser.add_argument("--metrics", type=words, default="auto", help="with commas; auto: those that need no download")
    parser.add_argument("--metric_weights", default=None, help="file or folder of pretrained weights")
    parser.add_argument("--range", default="auto", help="LOW:HIGH of the files' values; auto: what 8 or 16 bits hold")
    parser.add_argument("--output", default=None, help="folder for metrics.json and metrics.csv")
    parser.add_argument("--plugin_dir", default=None, help="folder of your own *_metric.py files")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    opt = parser.parse_args(argv)
    if opt.output:
        Path(opt.output).mkdir(parents=True, exist_ok=True)
    use_plugin_dir(opt.plugin_dir, "util.metrics")
    scores = Scores(choose(opt.metrics, opt.metric_weights), pick_device(opt.device, None)[1], opt.metric_weights)
    outputs = translations_of(Path(opt.outputs)) or stems_in(opt.outputs)
    truths = stems_in(opt.truths)
    compare(scores, outputs, truths, opt.range)
    figures = scores.figures()
    if not figures and scores.failed:
        raise UsageError("; ".join(f"metric {name} fails: {reason}" for name, reason in scores.failed.items()))
    if not scores.metrics:
        raise UsageError(f"--metrics {','.join(opt.metrics)}: none is left")  # the reasons were printed
    if not figures:
        raise UsageError(f"--metrics {','.join(opt.metrics)}: nothing to say of {len(outputs)} images against "
                         f"{len(truths)}, {len(outputs.keys() & truths)} of them pairs by name; those of sets are swd, "
                         f"colours, fid and kid")
    tell(f"{len(outputs)} images of {opt.outputs} against {len(truths)} of {opt.truths}, "
         f"{len(outputs.keys() & truths)} of them pairs by name")
    for key, figure in figures.items():
        tell(f"{key.split('/')[1]}: {figure}")
    if opt.output:
        write_metrics(opt.output, figures, scores.rows, outputs=opt.outputs, truths=opt.truths)
    return int(scores.incomplete())


def translations_of(folder: Path) -> dict[str, str]:
    """Image -> file of its only translation, if this is a folder that test.py has written; else empty."""
    def exact(images: dict) -> dict[str, str]:
        found = {name: [str(files[1]) for label, files in row.items() if label.startswith("fake")]
                 for name, row in images.items()}
        return {name: str(inside(folder, files[0], PICTURES)) for name, files in found.items() if len(files) == 1}

    return read_json(folder.parent / PICTURES, exact, "test.py writes it again") if folder.name == "images" else {}


def compare(scores: Scores, outputs: dict[str, str], truths: dict[str, str], limits: str) -> None:
    """Add all images to the scores; raises UsageError if a pair has two sizes."""
    channels = max(read_image(path, None).shape[2] for path in (*outputs.values(), *truths.values()))
    channels = 3 if channels in (2, 4) else channels  # without their transparency
    for stem, path in outputs.items():
        image = read(path, channels, limits)
        truth = read(truths[stem], channels, limits) if stem in truths else None
        if truth is not None and truth.shape != image.shape:
            raise UsageError(f"{path} is {describe(image)} and its partner {truths[stem]} is {describe(truth)}; a pair "
                             f"has one size")
        scores.add("fake_B", [stem], image, truth)
    for stem, path in truths.items():
        scores.add_reference("fake_B", [stem], read(path, channels, limits))


def read(path: str, channels: int, limits: str) -> torch.Tensor:
    """(1, C, H, W) in [0, 1] in double precision; raises ImageError if it can't have so many channels."""
    array = read_image(path, channels)
    if not np.isfinite(array).all():
        raise ImageError(path, "has pixels without a value (NaN or infinite)")
    depth = str(array.dtype)
    if limits == "auto" and depth not in SPANS:
        raise UsageError(f"{path} holds {depth}: give --range LOW:HIGH, the values that stand for black and white")
    values = ValueRange.parse(depth, SPANS[depth] if limits == "auto" else limits)
    return values.to_unit(array)[None]


if __name__ == "__main__":
    run(main)
