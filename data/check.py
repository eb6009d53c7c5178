"""Read every image of a data root, report problems, suggest settings: python -m data.check DATAROOT."""

import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.film import with_frames
from data.image_folder import list_images
from data.loading.order import EpochOrder
from data.loading.workers import Workers, reads
from data.reading import Reading, read_pixels
from util.cli import OneLineParser, run
from util.device import cores
from util.errors import ImageError
from util.frames import stem_of
from util.images import open_picture
from util.notices import tell
from util.types import natural, positive

TIMEOUT = 60  # seconds for one file
SUSPECTS = (-9999.0, -32768.0, 65535.0, float(np.finfo(np.float32).min))
PHASE = re.compile(r"(train|val|test)(A|B)?")


@dataclass(frozen=True)
class Facts:
    """What one file holds."""

    path: str
    size: tuple[int, int]  # (width, height)
    channels: int
    depth: str
    mode: str              # as Pillow calls it, else depth and channels
    low: float
    high: float
    digest: str            # of the pixels
    nodata: int = 0        # pixels without data
    suspect: float | None = None  # a value that looks as if it meant no data


def examine(path: str) -> Facts:
    """Read one file; raises ImageError."""
    array, holes, _ = read_pixels(path, None, Reading())
    values = array if holes is None else array[~holes]
    if not values.size:
        raise ImageError(path, "has no pixel with data")
    digest = hashlib.blake2b(repr((array.shape, array.dtype)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array))
    height, width, channels = array.shape
    try:
        with open_picture(path) as image:
            mode = image.mode
    except Exception:  # only other libraries read it
        mode = f"{array.dtype} with {channels} channels"
    return Facts(path, (width, height), channels, str(array.dtype), mode, float(values.min()), float(values.max()),
                 digest.hexdigest(), array.size - values.size, suspect(values))


def suspect(values: np.ndarray) -> float | None:
    """A common nodata value that is further from all other values than their whole span; None without one."""
    for value in SUSPECTS if values.dtype != np.uint8 else ():
        others = values[values != value].astype(np.float64)
        if 0 < others.size < values.size and np.abs(others - value).min() > np.ptp(others) > 0:
            return value
    return None


class _Files(torch.utils.data.Dataset):
    """One sample per file: its facts, or why it can't be read."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __getitem__(self, key: tuple[int, int]) -> Facts | ImageError:
        path = self.paths[key[1]]
        try:
            reads(path)
            return examine(path)
        except ImageError as error:
            return error
        finally:
            reads("")


def _one(facts: list[Facts | ImageError]) -> tuple[Facts | ImageError, int]:
    return facts[0], 1


def examine_all(paths: list[str], workers: int) -> tuple[list[Facts], list[ImageError]]:
    """Read all files with a progress bar; workers that die or hang on one are restarted."""
    read = Workers(_Files(paths), EpochOrder(len(paths), shuffle=False, seed=0), workers, TIMEOUT, collate_fn=_one)
    with closing(read):
        found = list(tqdm(read, total=len(paths), unit="img", disable=None))
    return [f for f in found if isinstance(f, Facts)], [f for f in found if isinstance(f, ImageError)]


class Survey:
    """The files of a data root by phase (train, val, test or '') and domain (A, B, or '' for strips and singles)."""

    def __init__(self, root: str, facts: Iterable[Facts]):
        self.root = Path(root)
        self.groups: dict[tuple[str, str], list[Facts]] = {}
        for fact in facts:
            self.groups.setdefault(self.group(fact.path), []).append(fact)
        self.domains = {d: [f for (_, domain), files in self.groups.items() if domain == d for f in files]
                        for d in sorted({domain for _, domain in self.groups})}
        self.layout = self._layout()

    def group(self, path: str) -> tuple[str, str]:
        """(phase, domain) from the first folders: trainA, A/train, train."""
        first, second = [*Path(path).relative_to(self.root).parts[:-1], "", ""][:2]
        if match := PHASE.fullmatch(first):
            return match[1], match[2] or ""
        return (second, first) if first in ("A", "B") and PHASE.fullmatch(second) else ("", "")

    def stem(self, path: str) -> str:
        """What two partners share: the path below their domain's folder, without the extension."""
        parts = Path(stem_of(Path(path).relative_to(self.root))).parts
        return "/".join(parts[2 if parts[0] in ("A", "B") else 1:])

    def _layout(self) -> str:
        """The dataset that reads this: `aligned`, `unaligned`, `colorization`; `single` if there are no phases."""
        if {"A", "B"} <= self.domains.keys():
            stems = [{self.stem(f.path) for f in self.domains[d]} for d in "AB"]
            return "aligned" if 2 * len(stems[0] & stems[1]) > min(map(len, stems)) else "unaligned"
        if not any(phase for phase, _ in self.groups):
            return "single"
        images = self.domains.get("", [])
        strips = [f for f in images if abs(f.size[0] / f.size[1] - 2) < 0.2]
        return "aligned" if 2 * len(strips) > len(images) or not images else "colorization"

    def lacking(self) -> str:
        """What training would lack, or an empty string."""
        there = {domain for phase, domain in self.groups if phase == "train"}
        if self.layout == "single" or "" in there or {"A", "B"} <= there:
            return ""
        return f"nothing to train on: {self.root} has no train/, and not both trainA/ and trainB/"

    def findings(self) -> dict[str, list[str]]:
        """Kind of problem -> one line per file."""
        found = {
            "of one value only, which normalisation turns into noise": [
                f.path for files in self.groups.values() for f in files if f.low == f.high],
            "with pixels without data, which become the lowest value": [
                f"{f.path}: {f.nodata} values" for files in self.groups.values() for f in files if f.nodata],
            "with a value that looks like no data (--nodata VALUE leaves it out)": [
                f"{f.path}: {f.suspect:g}" for files in self.groups.values() for f in files if f.suspect is not None],
            "of another kind than most of their domain": list(self._odd_modes()),
            "without a partner of the same name in the other domain": list(self._unmatched()),
            "of the same stem as another, so that their partner is unclear": list(self._same_stem()),
            "of another size than their partner": list(self._unequal()),
            "of odd width, where a strip has two halves": [
                f"{f.path}: {f.size[0]} pixels" for f in self.domains.get("", []) if self.layout == "aligned"
                and f.size[0] % 2],
            "of a name too long for a result": [
                f.path for files in self.groups.values() for f in files
                if len(os.fsencode(f"{Path(f.path).name}_fake_B.png")) > 255],
            "the same in training and in testing": list(self._leaked()),
        }
        return {kind: lines for kind, lines in found.items() if lines}

    def _odd_modes(self) -> Iterable[str]:
        for files in self.domains.values():
            usual = Counter(f.mode for f in files).most_common(1)[0][0]
            yield from (f"{f.path}: {f.mode}, most are {usual}" for f in files if f.mode != usual)

    def _pairs(self) -> Iterable[tuple[dict[str, Facts], dict[str, Facts]]]:
        """Stem -> file of A and of B, for each phase of pairs in two folders."""
        if self.layout == "aligned" and "A" in self.domains:
            for phase in sorted({phase for phase, domain in self.groups if domain}):
                yield tuple({self.stem(f.path): f for f in self.groups.get((phase, d), [])} for d in "AB")

    def _unmatched(self) -> Iterable[str]:
        for a, b in self._pairs():
            yield from (f.path for here, there in ((a, b), (b, a)) for stem, f in here.items() if stem not in there)

    def _same_stem(self) -> Iterable[str]:
        if self.layout == "aligned":
            for (_, domain), files in self.groups.items():
                first: dict[str, str] = {}
                for f in files if domain else []:
                    if first.setdefault(self.stem(f.path), f.path) != f.path:
                        yield f"{f.path} and {first[self.stem(f.path)]}"

    def _unequal(self) -> Iterable[str]:
        for a, b in self._pairs():
            for one, other in ((a[s], b[s]) for s in a if s in b and a[s].size != b[s].size):
                yield ", ".join(f"{f.path}: {f.size[0]}x{f.size[1]}" for f in (one, other))

    def _leaked(self) -> Iterable[str]:
        trained = {f.digest: f.path for (phase, _), files in self.groups.items() if phase == "train" for f in files}
        for (phase, _), files in self.groups.items():
            if phase in ("val", "test"):
                yield from (f"{f.path} is {trained[f.digest]}" for f in files if f.digest in trained)

    def describe(self) -> Iterable[str]:
        """How many files of which kind there are, one line per phase and domain."""
        for (phase, domain), files in sorted(self.groups.items()):
            sizes, kinds = (Counter(values).most_common(1)[0][0] for values in
                            ([f.size for f in files], [f"{f.depth}, {f.channels} channels" for f in files]))
            other = len({f.size for f in files}) - 1
            yield (f"{phase + domain or 'images'}: {len(files)}, {kinds}, {sizes[0]}x{sizes[1]}"
                   + (f" and {other} other sizes" if other else ""))

    def settings(self) -> list[str]:
        """A command line that fits: arguments of train.py, or of test.py for single images."""
        if self.layout == "single":
            return ["test.py", "--dataroot", str(self.root), "--name", "RUN"]
        broken = any(self._unmatched()) or any(self._same_stem())  # pairs that pix2pix would refuse
        of_pairs = "cycle_gan" if broken else "pix2pix"
        model = {"aligned": of_pairs, "unaligned": "cycle_gan"}.get(self.layout, self.layout)
        words = ["train.py", "--model", model, "--dataroot", str(self.root), "--name", "RUN"]
        if model == "colorization":
            return words
        channels = [self._channels(domain) for domain in ("AB" if "A" in self.domains else ("", ""))]
        for name, count in zip(("--input_nc", "--output_nc"), channels, strict=True):
            words += [name, str(count)] if count != 3 else []
        if model == "cycle_gan" and channels[0] != channels[1]:
            words += ["--lambda_identity", "0"]
        suspects = Counter(f.suspect for files in self.groups.values() for f in files if f.suspect is not None)
        words += [f"--nodata={suspects.most_common(1)[0][0]:g}"] if suspects else []
        return words + self._size(model)

    def _channels(self, domain: str) -> int:
        channels = Counter(f.channels for f in self.domains[domain]).most_common(1)[0][0]
        return 3 if channels == 4 and self.domains[domain][0].depth == "uint8" else channels  # without alpha

    def _size(self, model: str) -> list[str]:
        """The largest size that networks are made for and most images have; aspect ratios are kept."""
        halves = 1 if "A" in self.domains else 2
        sizes = sorted((f.size[0] / halves, f.size[1]) for files in self.domains.values() for f in files)
        shorter, ratios = sorted(map(min, sizes)), sorted(max(s) / min(s) for s in sizes)
        crop = next((c for c in (256, 128) if shorter[len(shorter) // 4] >= c), 64)
        words = ["--preprocess", "scale_width_and_crop"] if ratios[len(ratios) // 2] > 1.25 else []
        if crop < 256:
            words += ["--load_size", str(round(crop * 286 / 256)), "--crop_size", str(crop)]
            words += ["--netG", f"unet_{crop}"] if model == "pix2pix" else []
        return words


def main(argv: Sequence[str]) -> int:
    """Check a folder; returns 1 if something is wrong with it."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("dataroot", help="a data root as train.py takes it, or any folder of images")
    parser.add_argument("--num_threads", type=natural, default=cores(), help="processes that read")
    parser.add_argument("--frame_step", type=positive, default=10, help="check every Nth frame of videos")
    parser.add_argument("--show", type=natural, default=20, help="files to list of each kind of problem; 0 lists all")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    opt = parser.parse_args(argv)
    paths = list(with_frames(list_images(opt.dataroot, videos=True), opt.frame_step))
    facts, errors = examine_all(paths, opt.num_threads)
    survey = Survey(opt.dataroot, facts)
    findings = {**({"that can't be read": [str(error) for error in errors]} if errors else {}), **survey.findings()}
    for line in report(survey, findings, opt.show or None):
        tell(line)
    return int(bool(findings or survey.lacking()))


def report(survey: Survey, findings: dict[str, list[str]], show: int | None) -> Iterable[str]:
    """What there is, what is wrong with it, and a command line that fits."""
    yield from survey.describe()
    for kind, lines in findings.items():
        yield from ("", f"{len(lines)} images {kind}:", *(f"  {line}" for line in lines[:show]))
        if len(lines) > len(lines[:show]):
            yield f"  and {len(lines) - len(lines[:show])} more; --show 0 lists all"
    yield ""
    if not findings:
        yield "no problem found"
    if survey.layout == "colorization":
        yield "these are no pairs as pix2pix needs them: strips {A|B} twice as wide as high, or trainA/ and trainB/"
    if survey.layout == "single" and PHASE.fullmatch(survey.root.resolve().name):
        yield f"to train, check the folder above: {survey.root.resolve().parent}"
    if survey.lacking():
        yield survey.lacking()
    elif survey.domains:
        if any("partner" in kind for kind in findings):
            yield "for pix2pix each image needs one partner; without pairs:"
        yield f"python {shlex.join(survey.settings())}"


if __name__ == "__main__":
    run(main)
