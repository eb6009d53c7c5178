"""What test.py writes: names and files."""

import errno
import os
import re
from argparse import Namespace
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.base_model import BaseModel
from models.engine.result_page import Result
from models.engine.samples import samples_of
from models.engine.validation import translated, values_of
from util.device import cores
from util.distributed import is_main, world_size
from util.errors import ImageError, UsageError, one_line
from util.files import inside, read_json
from util.frames import frame_of
from util.html import Picture
from util.images import ValueRange, is_image_file, save_exact, save_image, stretched, tensor2im
from util.metrics.scores import Scores
from util.notices import Bar, notice
from util.run_files import PICTURES


def translate(opt, loader: Any, model: BaseModel, folder: Path, scores: Scores | None = None) -> dict[str, Result]:
    """Translate every image while earlier ones are being written; returns result name -> what was written."""
    results: dict[str, Result] = {}
    naming = ResultNames(opt, loader.dataset.roots)
    writing: deque[Future[dict[str, Result]]] = deque()
    writers = cores()
    weights_stay_cast = torch.autocast(model.device.type, enabled=False)  # by the outermost autocast, until it ends
    with weights_stay_cast, ThreadPoolExecutor(writers) as pool, Bar(total=len(loader), unit="img",
                                                                     disable=None if is_main() else True) as bar:
        for batch in translated(model, loader):
            names, paths = naming.of_batch(model, batch), model.get_image_paths()
            partners = next((batch[key] for key in ("A_paths", "B_paths") if batch.get(key, paths) != paths), None)
            visuals, domains = samples_of(model, opt.n_samples, names, scores)
            writing.append(pool.submit(write_batch, opt, folder, names, paths, partners, visuals, domains, loader))
            if len(writing) > 2 * writers:
                results.update(writing.popleft().result())
            bar.update(len(paths) * world_size())
        for written in writing:
            results.update(written.result())
    return results


def remove_older(folder: Path, results: dict[str, Result]) -> None:
    """Remove pictures that an earlier test listed and this one has not written; none outside the folder."""
    def listed(images: dict) -> dict[str, Path]:
        return {str(file): inside(folder / "images", str(file), PICTURES)
                for row in images.values() for files in row.values() for file in files}

    kept = {file for result in results.values() for files in result.files.values() for file in files}
    try:
        for file, path in read_json(folder / PICTURES, listed, "pictures of an earlier test stay").items():
            if file not in kept:
                path.unlink(missing_ok=True)
    except (UsageError, OSError) as error:
        notice("older", one_line(error))


def natural(name: str) -> list[str | int]:
    """A sort key: 2 before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def results_folder(opt) -> Path:
    """`<results_dir>/<name>/<phase>_<epoch>`, with the direction for the second generator of a cycle.

    Raises UsageError if that leads elsewhere.
    """
    tag = f"_iter{opt.load_iter}" if opt.load_iter > 0 else ""
    tag += f"_{opt.direction}" if getattr(opt, "model_suffix", "") == "_B" else ""  # the other generator of a cycle
    inside(opt.results_dir, opt.name, "--name")
    return inside(Path(opt.results_dir) / opt.name, f"{opt.phase}_{opt.epoch}{tag}", "--phase and --epoch")


def write_batch(opt, folder: Path, names: list[str], paths: list[str], partners: list[str] | None,
                visuals: dict[str, Any], domains: dict[str, str], loader: Any) -> dict[str, Result]:
    """Write every visual of every image of a batch, at the depth and range of its domain, keeping missing data.

    An image whose results can't be written is one of the loader's errors; a full disk ends the test.
    """
    results: dict[str, Result] = {}
    deep = opt.nodata is not None or any(values_of(opt, domain).depth != "uint8" for domain in domains.values())
    for i, (name, path) in enumerate(zip(names, paths, strict=True)):
        holes = loader.dataset.no_data(path) if deep else None
        row: dict[str, Picture] = {}
        try:
            for label, value in visuals.items():
                if not torch.is_tensor(value) and len(paths) > 1:
                    raise UsageError(f"visual {label} of --model {opt.model} is one picture for a whole batch; use "
                                     f"--batch_size 1")
                values = values_of(opt, domains[label])
                value = value[i] if torch.is_tensor(value) else value
                row[label] = write_visual(folder, f"{name}_{label}", value, values, path, opt.aspect_ratio, holes)
            results[name] = Result(row, [path, *(partners[i:i + 1] if partners else [])], domains)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            loader.errors[path] = ImageError(path, f"its result can't be written: {one_line(error)}")
    return results


def write_visual(folder: Path, name: str, value: Any, values: ValueRange, source: str, ratio: float,
                 holes: tuple[np.ndarray, float] | None = None) -> tuple[str, str]:
    """Write `<name>.png`, and values that PNG can't hold as .npy for an .npy source, else as .tif.

    `holes` are pixels (H, W) without data, and the value that says so. Returns (8-bit picture for the page, exact
    file), both below `folder`.
    """
    inside(folder, f"{name}.png", "result")
    if not torch.is_tensor(value):
        save_image(np.asarray(value).astype(np.uint8), folder / f"{name}.png", ratio)
        return f"{name}.png", f"{name}.png"
    value = stretched(value, ratio)
    array, from_npy, nodata = values.to_array(value), source.lower().endswith(".npy"), None
    if holes and holes[0].shape == array.shape[:2] and values.holds(holes[1]):
        array[holes[0]] = nodata = holes[1]
    if values.depth == "uint8" and array.shape[2] in (1, 3, 4):
        save_image(array, folder / f"{name}.png")
        return f"{name}.png", f"{name}.png"
    if values.depth == "uint16" and array.shape[2] == 1 and not from_npy:
        shown, exact = f"{name}_8bit.png", f"{name}.png"  # a browser would ignore the range of 16 bits
        save_image(array, folder / exact)
    else:
        shown, exact = f"{name}.png", f"{name}{'.npy' if from_npy else '.tif'}"
        save_exact(array, folder / exact, nodata)
    save_image(tensor2im(value), folder / shown)
    return shown, exact


class ResultNames:
    """What the results of an image are called: its place below the listed folder, so that results mirror the input."""

    def __init__(self, opt: Namespace, roots: list[str]):
        self.opt, self.roots = opt, roots
        self._stems: dict[Path, Counter[str]] = {}
        self._taken: dict[str, Path] = {}

    def of_batch(self, model: BaseModel, batch: dict[str, Any]) -> list[str]:
        """A name for each image.

        If the source domain has run out, images of the target keep their folder's name, to tell them from the source's.
        """
        opt, roots = self.opt, self.roots
        if batch.get("repeated") == model.domains()[0]:
            roots = [opt.dataroot]
        elif not roots:  # a dataset that lists its files itself
            roots = [f"{opt.dataroot}/{opt.phase}{domain}" for domain in ("", "A", "B")] + [opt.dataroot]
        return [self.of(path, roots) for path in model.get_image_paths()]

    def of(self, path: str, roots: list[str]) -> str:
        """The path below its root, without the extension unless a sibling has the same stem or is called like it.

        If two roots have an image of that name, the second one's begins with its root.
        """
        path = Path(path)
        root = Path(next((root for root in roots if path.is_relative_to(root)), path.parent))
        relative = path.relative_to(root)
        frame = frame_of(str(relative))
        file = Path(frame.file) if frame else relative
        name = str(file if self._stems_of(path.parent)[file.stem] > 1 else file.with_suffix(""))
        name += f"_{frame.number:05d}" if frame else ""
        return name if self._taken.setdefault(name, path) == path else f"{root.name}/{name}"

    def _stems_of(self, folder: Path) -> Counter[str]:
        """How many images of a folder, which need not exist, have which stem or are called like it."""
        if folder not in self._stems:
            files = os.listdir(folder) if folder.is_dir() else []
            images = [name for name in files if is_image_file(name)]
            self._stems[folder] = Counter([*(Path(name).stem for name in images), *images])
        return self._stems[folder]
