"""Translate images and videos; names, folders, formats stay: image-translation translate RUN PHOTOS --out FOLDER."""

import errno
import glob
import json
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data.image_folder import contents, is_image_file, list_images
from data.loading.loader import grouped
from image_translation.files import ANY, HOLDS, places, suffix_for, write
from image_translation.film import FORMATS, is_film, suffix_for_film, translate_film
from image_translation.images import Item, Translation
from image_translation.runs import add_options
from image_translation.translator import LESS_MEMORY, Translator, from_options
from models.engine.validation import values_of
from util.cli import OneLineParser, run
from util.device import cores
from util.errors import ImageError, UsageError, one_line
from util.files import atomic, read_json, remove_unfinished
from util.frames import is_video_file
from util.html import HTML, film
from util.memory import explained
from util.notices import Bar, say, tell
from util.types import positive, tile

RECORD = ".image-translation.json"  # in the folder of translations: what made them
LARGE = 2 ** 22                     # pixels above which only one image is read ahead


def parse(argv: Sequence[str]) -> Namespace:
    """The options of a command line; raises UsageError."""
    parser = OneLineParser(prog="image-translation translate", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add_options(parser)
    add("inputs", nargs="+", metavar="INPUT", help="files, folders (with all below them) and patterns")
    add("--out", required=True, metavar="FOLDER", help="where translations go, under the names of the originals")
    add("--to", default=None, metavar="FORMAT", help="write all as png, jpg, tif, npy, ... instead of their own format")
    add("--overwrite", action="store_true", help="translate again, and replace files that this command did not write")
    add("--size", choices=("kept", "trained"), default="kept", help="trained: resize images as for the training")
    add("--tile", type=tile, default="auto", help="side of the tiles of large images; auto: if they do not fit into "
                                                  "memory; off: never")
    add("--batch_size", type=positive, default=8, help="images of one size translated at once")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Translate as the command line says; returns 1 if images were left out, else 0."""
    opt = parse(argv)
    out = Path(opt.out)
    with explained(LESS_MEMORY):
        originals = list(listed(opt.inputs, out))
        translator = from_options(opt, size=opt.size, tile=opt.tile, batch_size=opt.batch_size)
        films = {original for original, _ in originals if is_film(original)}
        jobs, since = plan(opt, translator, originals, films, out)
        every = {original: target for original, target in jobs.items() if original in films}
        finished = {} if opt.overwrite else {original: target for original, target in jobs.items()
                                             if is_done(original, target, since)}
        jobs = {original: target for original, target in jobs.items() if original not in finished}
        errors = translate(translator, {original: jobs[original] for original in jobs if original not in films})
        incomplete = translate_films(translator, {original: jobs[original] for original in jobs if original in films},
                                     errors)
    if page := {original: target for original, target in every.items() if target.exists()}:
        write_page(out, page, f"Translations by {opt.run}")
    for error in (*errors, *incomplete):
        say(f"{'incomplete' if error in incomplete else 'skipped'} {error}")
    there = f", {len(finished)} already there" if finished else ""
    left_out = f", {len(errors)} skipped" if errors else ""
    kind = "images" if not films else "file" if len(jobs) - len(errors) == 1 else "files"
    place = out / "index.html" if page else out
    tell(f"{len(jobs) - len(errors)} {kind} translated{there}{left_out}: {place}")
    return int(bool(errors or incomplete))


def listed(inputs: Iterable[str], out: Path) -> Iterator[tuple[str, str]]:
    """(file, path below the folder or pattern that it was found with); nothing inside `out`.

    Raises UsageError for what matches no image.
    """
    for word in inputs:
        if Path(word).is_dir():
            root, files = Path(word), list_images(word, videos=True)
        else:
            found = [word] if Path(word).is_file() else sorted(glob.glob(word, recursive=True))
            files = [file for file in found if file == word or is_image_file(file) or is_video_file(file)]
            fixed = word.split("*")[0].split("?")[0].split("[")[0] if not Path(word).is_file() else word
            root = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
        inner = [file for file in files if not Path(file).resolve().is_relative_to(out.resolve())]
        if files and not inner:
            raise UsageError(f"{word} is in --out {out}, where translations would overwrite it; name another folder")
        if not inner:
            there = f"; {contents(root)}" if root != Path() else ""
            raise UsageError(f"{word}: no such file or folder, and no image matches it as a pattern{there}")
        yield from ((file, str(Path(file).relative_to(root))) for file in inner)


def plan(opt: Namespace, translator: Translator, originals: list[tuple[str, str]], films: set[str],
         out: Path) -> tuple[dict[str, Path], float]:
    """Original -> translation, and since when this run has written into `out`.

    Raises UsageError if a file that it has not written would be overwritten.
    """
    depth = values_of(translator.opt, translator.target_domain).depth
    to = f".{opt.to.removeprefix('.').lower()}" if opt.to else None
    if to and to not in (known := {*FORMATS, *HOLDS, *ANY}):
        raise UsageError(f"--to {opt.to} is not written; known: {', '.join(sorted(known))}")
    only_films = films and to not in (*HOLDS, *ANY)  # images keep theirs beside videos that become webm
    named = []
    for original, below in originals:
        suffix = (suffix_for_film(original, to) if original in films else
                  suffix_for(Path(original).suffix, None if only_films else to, depth, translator.channels))
        named.append((original, str(Path(below).with_suffix(suffix))))
    jobs = places(named, out)
    sources = {Path(original).resolve() for original in jobs}
    for target in jobs.values():
        if target.resolve() in sources:
            raise UsageError(f"--out {out} would overwrite {target}, which is to be translated; name another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a folder")
    made_by = {"weights": translator.identity(), "size": opt.size, "options": translator.choices}
    found = made_before(out, opt.overwrite)
    if found.get("made_by", made_by) != made_by:
        if not opt.overwrite:
            raise UsageError(f"{out} holds translations by another run or with other options; name another folder, or "
                             f"--overwrite them")
        found = {}
    written = [*jobs.values(), *([out / "index.html"] if films else [])]
    if not found and not opt.overwrite and (there := next(filter(Path.exists, written), None)):
        raise UsageError(f"{there} exists, and was not written by this command; name another --out, or --overwrite it")
    since = found.get("since", time.time())
    with atomic(out / RECORD) as file:
        json.dump({"made_by": made_by, "since": since}, file, indent=1)
    for folder in {target.parent for target in jobs.values()}:
        remove_unfinished(folder)  # of a killed process
    return jobs, since


def made_before(out: Path, overwrite: bool) -> dict[str, Any]:
    """What made the translations in a folder, and since when; empty if nothing did, or if that is to be replaced."""
    def checked(record: dict) -> dict[str, Any]:
        return {"made_by": dict(record["made_by"]), "since": float(record["since"])}

    try:
        return read_json(out / RECORD, checked, "--overwrite replaces it")
    except UsageError:
        if overwrite:
            return {}
        raise


def is_done(original: str, target: Path, since: float) -> bool:
    """Whether a translation is there, newer than its original, and by this run."""
    oldest = max(Path(original).stat().st_mtime, since - 0.05)  # a file's time comes from a coarser clock
    return target.exists() and target.stat().st_mtime >= oldest


def translate(translator: Translator, jobs: dict[str, Path]) -> list[ImageError]:
    """Read, translate and write at the same time; returns the images that could not be read or written."""
    errors: list[ImageError] = []
    threads, batch_size, keep_profile = cores(), translator.opt.batch_size, translator.opt.keep_profile
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers, Bar(
            total=len(jobs), unit="img", disable=None) as bar:
        try:
            items = read_ahead(readers, translator.dataset.prepare, jobs, 2 * batch_size + threads, errors, bar)
            for group in grouped(items, batch_size, 4 * batch_size, lambda item: item.sample):
                for item, made in zip(group, translator.translate(group), strict=True):
                    writing.append(writers.submit(save, made, item, jobs[item.name], keep_profile))
                while writing and (len(writing) > 2 * threads * len(group) or writing[0].done()):
                    finish(writing.popleft(), errors, bar)
            while writing:
                finish(writing.popleft(), errors, bar)
        except BaseException:
            for future in writing:
                future.cancel()
            readers.shutdown(wait=False, cancel_futures=True)
            raise
    return errors


def translate_films(translator: Translator, jobs: dict[str, Path], errors: list[ImageError]) -> list[ImageError]:
    """Translate one video after the other; returns those of which something is left out."""
    incomplete = []
    for original, target in jobs.items():
        try:
            if problem := translate_film(translator, original, target):
                incomplete.append(ImageError(original, problem))
        except ImageError as error:
            errors.append(error)
        except (ValueError, EOFError) as error:  # of an encoder
            errors.append(ImageError(original, f"its translation can't be written: {one_line(error)}"))
    return incomplete


def write_page(out: Path, films: dict[str, Path], title: str) -> None:
    """A page that plays each video beside its translation."""
    page = HTML(out, title, images=False)
    page.add_tools(480, compare=False)
    for original, target in films.items():
        page.add_header(str(target.relative_to(out)))
        page.add(film({"original": original, "translation": target}, out))
    page.save()


def read_ahead(pool: ThreadPoolExecutor, read: Callable[[str], Item], files: Iterable[str], most: int,
               errors: list[ImageError], bar: Any) -> Iterator[Item]:
    """Images read in threads, in order; few at once if they are large."""
    reading: deque[Future[Item]] = deque()
    rest = iter(files)
    limit = 2
    while True:
        while len(reading) < limit and (file := next(rest, None)) is not None:
            reading.append(pool.submit(read, file))
        if not reading:
            return
        try:
            item = reading.popleft().result()
        except ImageError as error:
            errors.append(error)
            bar.update()
            continue
        limit = 1 if item.positions > LARGE else most
        yield item


def save(made: Translation, item: Item, target: Path, keep_profile: bool) -> None:
    """Write one translation; raises ImageError if only this one can't be written, OSError if the disk is full."""
    try:
        write(made.to_array(), item.name, target, made.holes[1] if made.holes else None, keep_profile)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise ImageError(item.name, f"its translation can't be written: {one_line(error)}") from error


def finish(future: "Future[None]", errors: list[ImageError], bar: Any) -> None:
    """Wait for one file."""
    try:
        future.result()
    except ImageError as error:
        errors.append(error)
    bar.update()


if __name__ == "__main__":
    run(main)
