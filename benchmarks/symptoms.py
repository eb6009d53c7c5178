"""Trainings that go wrong on purpose, and their pictures for docs/first_own_data.md; about ten minutes on two cores.

    python benchmarks/symptoms.py [copies collapse inverted checkerboard] [--out docs/images]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SIDE, ROWS = 128, 3
SHAPES = ("--model cycle_gan --dataroot demo --netG resnet_3blocks --ngf 16 --ndf 16 --load_size 64 --crop_size 64 "
          "--batch_size 2 --n_epochs_decay 0 --display_id 0 --no_html --val_freq 0 --device cpu").split()


def train(name: str, *argv: str) -> None:
    """Train and translate the test images, in the working folder."""
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run([sys.executable, ROOT / "train.py", "--name", name, *argv], **quiet)
    data = "datasets/demo/paired" if "datasets/demo/paired" in argv else "demo"
    subprocess.run([sys.executable, ROOT / "test.py", "--name", name, "--model", argv[1], "--dataroot", data,
                    "--device", "cpu", "--preprocess", "none"], **quiet)


def results(name: str, labels: tuple[str, ...]) -> list[list[Image.Image]]:
    """The first results of a run, in rows."""
    folder = Path("results", name, "test_latest", "images")
    stems = sorted(path.name.removesuffix(f"_{labels[0]}.png") for path in folder.glob(f"*_{labels[0]}.png"))[:ROWS]
    return [[Image.open(folder / f"{stem}_{label}.png").convert("RGB") for label in labels] for stem in stems]


def save(rows: list[list[Image.Image]], path: Path) -> None:
    """One picture of all, the rows beside each other."""
    size = SIDE + 6
    sheet = Image.new("RGB", (len(rows) * (len(rows[0]) * size + 14), size), "white")
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            sheet.paste(ImageOps.fit(image, (SIDE, SIDE), Image.NEAREST), (i * (len(row) * size + 14) + j * size, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def colours_kept(row: list[Image.Image]) -> float:
    """The cosine between the colours of the first two pictures, relative to grey."""
    a, b = (np.asarray(image.resize((16, 16), Image.BOX), dtype=float) for image in row[:2])
    a, b = a - a.mean(2, keepdims=True), b - b.mean(2, keepdims=True)
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def copies() -> list[list[Image.Image]]:
    """Identity and cycle terms that outweigh a small discriminator."""
    train("copies", *SHAPES, "--n_epochs", "1", "--max_dataset_size", "1")  # makes the images
    film = ["--dataroot", "datasets/demo/paired", "--preprocess", "crop", "--n_epochs", "25", "--lr", "0.0005"]
    train("copies", *SHAPES, *film, "--lambda_identity", "2", "--lambda_A", "100", "--lambda_B", "100", "--ndf", "2")
    return results("copies", ("real_A", "fake_B"))


def collapse() -> list[list[Image.Image]]:
    """No cycle term, and a learning rate that is far too high."""
    train("collapse", *SHAPES, "--n_epochs", "6", "--lambda_identity", "0", "--lambda_A", "0", "--lambda_B", "0",
          "--lr", "0.005", "--seed", "1")
    return results("collapse", ("real_A", "fake_B"))


def inverted() -> list[list[Image.Image]]:
    """No identity loss: of some seeds, the one that keeps the colours least."""
    found = {}
    for seed in map(str, range(1, 6)):
        train(f"seed{seed}", *SHAPES, "--n_epochs", "6", "--lambda_identity", "0", "--seed", seed)
        rows = results(f"seed{seed}", ("real_A", "fake_B"))
        found[seed] = np.mean([colours_kept(row) for row in rows]), rows
        print(f"seed {seed}: cosine of colours {found[seed][0]:.2f}", flush=True)
    return min(found.values(), key=lambda one: one[0])[1]


def checkerboard() -> list[list[Image.Image]]:
    """The first epoch of a decoder of transposed convolutions."""
    train("checkerboard", *SHAPES, "--n_epochs", "1", "--lambda_identity", "0.5", "--seed", "3")
    return results("checkerboard", ("real_A", "fake_B"))


def main() -> None:
    """Make the pictures."""
    known = {"copies": copies, "collapse": collapse, "inverted": inverted, "checkerboard": checkerboard}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("symptoms", nargs="*", metavar="SYMPTOM", help=", ".join(known))
    parser.add_argument("--out", default=str(ROOT / "docs" / "images"))
    opt = parser.parse_args()
    out = Path(opt.out).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in opt.symptoms or known:
            save(known[name](), out / f"{name}.png")
            print(out / f"{name}.png", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
