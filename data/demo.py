"""`--dataroot demo`: two small generated datasets, whose translation can be checked by eye.

paired/    colour negative film (A) -> photograph (B), from the photographs that ship with scikit-image; the photographs
           of train, val and test are different ones
unpaired/  plain shapes (A) <-> striped shapes (B), drawn; no shape occurs in both domains
"""

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from util.files import atomic
from util.images import save_image
from util.notices import tell

ROOT = Path("datasets/demo")
TILE = 128
PHOTOGRAPHS = {
    "train": ("astronaut.png", "coffee.png", "motorcycle_left.png", "ihc.png", "hubble_deep_field.jpg"),
    "val": ("retina.jpg",),
    "test": ("chelsea.png", "rocket.jpg"),
}
SHAPES = {"train": 120, "val": 12, "test": 24}


def prepare(opt, trained_mode: str | None) -> str:
    """Make both sets in ./datasets/demo unless they exist; returns the data root for the dataset of `opt`.

    One-sided testing reads the set that the run was trained with, `trained_mode`.
    """
    if not (ROOT / "complete").exists():
        tell(f"making the demo images in {ROOT}")
        make_paired(ROOT / "paired")
        make_unpaired(ROOT / "unpaired")
        with atomic(ROOT / "complete") as file:
            file.write("The demo is made again if this file is missing.\n")
    single = opt.dataset_mode == "single"
    root = ROOT / ("unpaired" if (trained_mode if single else opt.dataset_mode) == "unaligned" else "paired")
    if single:
        root = root / ("A" if opt.direction == "AtoB" else "B") / opt.phase
    elif opt.dataset_mode not in ("aligned", "unaligned"):
        root = root / "B"  # datasets that take whole photographs
    return str(root)


def make_paired(root: Path) -> None:
    """Photographs and their colour negatives: tiles for training, whole ones for testing."""
    import skimage

    for phase, names in PHOTOGRAPHS.items():
        for name in names:
            with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
                scale = 3 * TILE / min(image.size)
                whole = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)),
                                                    Image.Resampling.LANCZOS)
            for i, photograph in enumerate(tiles(whole) if phase == "train" else [whole]):
                file = f"{Path(name).stem}_{i:02d}.png" if phase == "train" else f"{Path(name).stem}.png"
                save_image(np.asarray(photograph), root / "B" / phase / file)
                save_image(negative(photograph, seed=file), root / "A" / phase / file)


def tiles(image: Image.Image) -> list[Image.Image]:
    """Squares of TILE pixels, side by side."""
    return [image.crop((x, y, x + TILE, y + TILE)) for y in range(0, image.height - TILE + 1, TILE)
            for x in range(0, image.width - TILE + 1, TILE)]


def negative(photograph: Image.Image, seed: str) -> np.ndarray:
    """A colour negative (H, W, 3): inverted densities with a contrast per layer, an orange mask, and grain."""
    light = np.asarray(photograph, dtype=np.float64) / 255
    density = (1 - light) ** np.array([0.8, 1.0, 1.3])
    film = density * np.array([0.55, 0.45, 0.35]) + np.array([0.42, 0.25, 0.12])
    grain = np.random.default_rng(list(seed.encode())).normal(0, 0.012, film.shape)
    return np.rint(np.clip(film + grain, 0, 1) * 255).astype(np.uint8)


def make_unpaired(root: Path) -> None:
    """Shapes on grey; those of B are striped."""
    for phase, count in SHAPES.items():
        for domain in "AB":
            for i in range(count):
                draw = random.Random(f"{phase}{domain}{i}")
                save_image(np.asarray(shapes(draw, striped=domain == "B")), root / domain / phase / f"{i:03d}.png")


def shapes(draw: random.Random, striped: bool, size: int = 64) -> Image.Image:
    """Two or three discs and boxes in strong colours, (size, size); stripes are diagonal and white."""
    big = size * 4  # drawn large and made smaller, for smooth edges
    grey = draw.randrange(190, 225)
    image = Image.new("RGB", (big, big), (grey, grey, grey))
    stripes = Image.new("L", (big, big), 0)
    for offset in range(-big, 2 * big, 36):
        ImageDraw.Draw(stripes).line((offset, 0, offset + big, big), fill=255, width=12)
    for _ in range(draw.randint(2, 3)):
        width = draw.randrange(big // 4, big // 2)
        x, y = draw.randrange(0, big - width), draw.randrange(0, big - width)
        mask = Image.new("L", (big, big), 0)
        pen = ImageDraw.Draw(mask)
        (pen.ellipse if draw.random() < 0.5 else pen.rectangle)((x, y, x + width, y + width), fill=255)
        colour = draw.choice([(200, 40, 40), (40, 130, 60), (40, 70, 190), (150, 50, 160), (210, 120, 20)])
        image.paste(colour, mask=mask)
        if striped:
            image.paste((250, 250, 250), mask=Image.composite(stripes, Image.new("L", stripes.size, 0), mask))
    return image.resize((size, size), Image.Resampling.LANCZOS)
