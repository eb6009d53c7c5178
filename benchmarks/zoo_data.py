"""Unpaired data whose truth is known: photographs of facades, coloured digits, plain shapes."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.demo import true_shape
from data.demo import make_unpaired

FOLDER = Path("zoo")
# The colours of the facades' labels.
PALETTE = np.array([(0, 48, 255), (0, 0, 224), (0, 128, 255), (255, 80, 0), (192, 255, 64), (176, 0, 0), (0, 208, 255),
                    (32, 255, 224), (255, 160, 0), (112, 255, 144), (255, 240, 0), (255, 0, 0)])
INKS = [(230, 60, 60), (60, 200, 80), (70, 100, 240), (230, 200, 60), (200, 80, 210), (70, 200, 210)]


@dataclass
class Data:
    """Two folders of images, how to train on them, and the truth of each test image of `source`.

    `make` fills a folder, given the facades' strips; `truth` is the right translation of a stem, with which `compare`
    compares what was found; `load` is test.py's --preprocess. A training is scored after `passes` images through
    generators and after `seconds`.
    """

    name: str
    measure: str
    options: str
    netG: str
    unet: str
    passes: int
    seconds: float
    make: Callable[[Path, Path | None], None]
    truth: Callable[[Path, str], Image.Image]
    compare: Callable[[np.ndarray, np.ndarray], float]
    source: str = "A"
    load: str = "none"
    batch: int = 1

    @property
    def root(self) -> Path:
        """The folder that holds trainA, trainB, ..."""
        return FOLDER / "data" / self.name

    @property
    def test_images(self) -> Path:
        """What is translated."""
        return self.folder("test", self.source)

    def folder(self, phase: str, domain: str) -> Path:
        """Where the images of a phase and domain lie."""
        flat = self.root / f"{phase}{domain}"
        return flat if flat.exists() else self.root / domain / phase

    def prepare(self, facades: Path | None) -> None:
        """Make the images, once."""
        if not (self.root / "complete").exists():
            self.make(self.root, facades)
            (self.root / "complete").touch()

    def epoch(self) -> int:
        """Images in an epoch."""
        return max(len(list(self.folder("train", domain).glob("*"))) for domain in "AB")

    def score(self, images: Path) -> dict[str, float]:
        """The mean over a folder of translations."""
        values = []
        for path in sorted(images.glob("*_fake.png")):
            found = Image.open(path).convert("RGB")
            truth = self.truth(self.root, path.stem.removesuffix("_fake")).convert("RGB")
            values.append(self.compare(np.asarray(found), np.asarray(truth.resize(found.size, Image.NEAREST))))
        return {self.measure: float(np.mean(values))}


def save(image: Image.Image, root: Path, phase: str, domain: str, name: str) -> None:
    """One image of a phase and domain."""
    (root / f"{phase}{domain}").mkdir(parents=True, exist_ok=True)
    image.save(root / f"{phase}{domain}" / f"{name}.png")


def halves(strip: Path) -> list[tuple[str, Image.Image]]:
    """The photograph, A, and the label map, B, of a strip {photo|labels}."""
    both = Image.open(strip).convert("RGB")
    middle = both.width // 2
    return [("A", both.crop((0, 0, middle, both.height))), ("B", both.crop((middle, 0, both.width, both.height)))]


def make_facades(root: Path, strips: Path | None) -> None:
    """Photographs of one half of the strips, labels of the other; the test set has both."""
    if strips is None:
        raise SystemExit("facades need --facades FOLDER, which holds train, val and test strips {photo|labels}")
    for phase in ("train", "val", "test"):
        for i, path in enumerate(sorted((strips / phase).glob("*.jpg"), key=lambda path: int(path.stem))):
            for domain, image in halves(path):
                if phase == "test" or i % 2 == "AB".index(domain):
                    save(image, root, phase, domain, path.stem)


def enlarged_digits() -> Iterator[tuple[str, Image.Image]]:
    """The phase and image, white on black and 32x32, of each of scikit-learn's 1797 digits."""
    from sklearn.datasets import load_digits

    for i, digit in enumerate(load_digits().images):
        image = Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((32, 32), Image.BICUBIC)
        yield "train" if i < 1200 else "val" if i < 1300 else "test", image


def make_digits(root: Path, strips: Path | None) -> None:
    """Digits of scikit-learn in six colours on black, and others, whose colours are inverted."""
    draw = random.Random(0)
    for i, (phase, digit) in enumerate(enlarged_digits()):
        image = np.rint(np.asarray(digit)[:, :, None] / 255 * np.array(draw.choice(INKS))).astype(np.uint8)
        save(Image.fromarray(image if i % 2 == 0 else 255 - image), root, phase, "AB"[i % 2], f"{i:04d}")


def right_colours(found: np.ndarray, truth: np.ndarray) -> float:
    """The part of the pixels that are nearest to the right one of the label colours."""
    classes = [((image[:, :, None].astype(float) - PALETTE) ** 2).sum(3).argmin(2) for image in (found, truth)]
    return float((classes[0] == classes[1]).mean())


def difference(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean absolute difference, of 255."""
    return float(np.abs(found.astype(float) - truth.astype(float)).mean())


FACADES = Data("facades", "pixel accuracy", "--ngf 16 --ndf 32 --load_size 143 --crop_size 128", "resnet_6blocks",
               "unet_128", 8000, 300, make_facades, lambda root, stem: Image.open(root / "testB" / f"{stem}.png"),
               right_colours, load="resize_and_crop")
# Stripes are removed, not added: a plain shape does not show where they belong.
SHAPES = Data("shapes", "L1 of 255", "--ngf 16 --ndf 16 --load_size 64 --crop_size 64 --direction BtoA",
              "resnet_4blocks", "unet_64", 7200, 120, lambda root, strips: make_unpaired(root),
              lambda root, stem: true_shape("B", int(stem)), difference, source="B")
DIGITS = Data("digits", "L1 of 255", "--ngf 16 --ndf 16 --load_size 32 --crop_size 32 --no_flip",
              "resnet_4blocks", "unet_32", 9600, 40, make_digits,
              lambda root, stem: Image.fromarray(255 - np.asarray(Image.open(root / "testA" / f"{stem}.png"))),
              difference, batch=4)
DATA = {data.name: data for data in (FACADES, SHAPES, DIGITS)}
