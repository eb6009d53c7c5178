"""The README's figures and picture: how long the demo takes, and how near its test images come to the truth.

    python benchmarks/demo.py                  train, translate and score in a temporary folder
    python benchmarks/demo.py --score          score what the README's command left here; exit code 1 unless it learned
    python benchmarks/demo.py --picture FILE   train both demos and write the README's picture: six minutes
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.demo import shapes

ROOT = Path(__file__).resolve().parent.parent
WIDTH, GAP = 1060, 4
IMAGES = Path("results/demo/test_latest/images")
SHAPES = Path("results/demo_cycle/test_latest/images")


def run(model: str) -> None:
    """Train and translate as the README does; prints the seconds each takes."""
    name = "demo" if model == "pix2pix" else "demo_cycle"
    for command in (["train.py", "--config", f"{ROOT}/docs/demo_{model}.yaml"],
                    ["test.py", "--name", name, "--model", model, "--dataroot", "demo", "--preprocess", "none",
                     "--metrics", "auto"]):
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL)
        print(f"{command[0]}: {time.perf_counter() - start:.0f} s on {os.cpu_count()} cores")


def score() -> bool:
    """Print the mean absolute difference to each photograph, of 255, before and after; whether it fell by half."""
    learned = True
    for truth in sorted(IMAGES.glob("*_real_B.png")):
        stem = truth.name.removesuffix("_real_B.png")
        images = [np.asarray(Image.open(IMAGES / f"{stem}_{label}.png")).astype(float)
                  for label in ("real_B", "real_A", "fake_B")]
        before, after = (np.abs(image - images[0]).mean() for image in images[1:])
        print(f"{stem}: {before:.1f} away from the photograph as film, {after:.1f} translated")
        learned &= after < before / 2
    return learned


def true_shape(domain: str, index: int) -> Image.Image:
    """The test image of a domain with its stripes taken away or added."""
    return shapes(random.Random(f"test{domain}{index}"), striped=domain == "A")


def save_picture(path: str) -> None:
    """Film above, shapes below: input, translation, truth."""
    film = [Image.open(IMAGES / f"{name}_{label}.png") for name in ("chelsea", "rocket")
            for label in ("real_A", "fake_B", "real_B")]
    drawn = [image for domain, other in ("AB", "BA") for index in (1, 2)
             for image in (Image.open(SHAPES / f"{index:03d}_real_{domain}.png"),
                           Image.open(SHAPES / f"{index:03d}_fake_{other}.png"), true_shape(domain, index))]
    rows = []
    for images in (film, drawn):
        side = (WIDTH - GAP * (len(images) - 1) - 8 * GAP) // len(images)
        rows.append([image.convert("RGB").resize((side, round(side * image.height / image.width)), Image.LANCZOS)
                     for image in images])
    sheet = Image.new("RGB", (WIDTH, sum(row[0].height for row in rows) + GAP), "white")
    y = 0
    for row in rows:
        x = 0
        for i, image in enumerate(row):
            sheet.paste(image, (x, y))
            x += image.width + (3 * GAP if i % 3 == 2 else GAP)
        y += row[0].height + GAP
    sheet.save(path, optimize=True)


def main() -> int:
    """Do what the command line says."""
    picture = Path(sys.argv[2]).resolve() if "--picture" in sys.argv else None
    if "--score" not in sys.argv:
        os.chdir(tempfile.mkdtemp())
        run("pix2pix")
    if picture:
        run("cycle_gan")
        save_picture(str(picture))
    return int(not score())


if __name__ == "__main__":
    sys.exit(main())
