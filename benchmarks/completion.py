"""Masked digits completed by pix2pix and by a context-conditional GAN: the error in the hole of both, and one page.

    python benchmarks/completion.py            # --mask brush, --epochs 10; scikit-learn's digits, in ./completion

"Fill with the mean" puts the mean of the training images into the hole, pixel by pixel.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.zoo_data import enlarged_digits
from networks.holes import HOLES, hole
from util.compare import main as compare
from util.seed import derive

ROOT, FOLDER = Path(__file__).resolve().parent.parent, Path("completion")
OBJECTIVES = ("pix2pix", "ccgan")
SIDE, SEED = 32, 1


def run(*words: object) -> None:
    """A command that has to succeed."""
    subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def make_digits(root: Path) -> None:
    """A folder for each phase of the digits; the last 497 are for the test."""
    for i, (phase, image) in enumerate(enlarged_digits()):
        (root / phase).mkdir(parents=True, exist_ok=True)
        image.save(root / phase / f"{i:04d}.png")


def complete(root: Path, objective: str, mask: str, epochs: int) -> Path:
    """Train and test; returns the folder of the test images."""
    runs = ("--name", objective, "--checkpoints_dir", FOLDER / "checkpoints")
    run(ROOT / "train.py", "--model", "completion", "--objective", objective, "--mask", mask, "--dataroot",
        root / "train", *runs, "--netG", "unet_32", "--ngf", 32, "--ndf", 32, "--netD", "n_layers", "--n_layers_D", 2,
        "--input_nc", 1, "--output_nc", 1, "--load_size", SIDE, "--crop_size", SIDE, "--no_flip", "--batch_size", 16,
        "--n_epochs", epochs, "--n_epochs_decay", epochs, "--lr", 0.0005, "--ema", 0.99, "--seed", SEED,
        "--val_split", 0.05, "--num_threads", 1, "--display_id", 0)
    run(ROOT / "test.py", *runs, "--dataroot", root / "test", "--results_dir", FOLDER / "results", "--ema",
        "--metrics", "l1")
    return FOLDER / "results" / objective / "test_latest" / "images"


def error(images: Path, mask: str, mean: np.ndarray | None = None) -> float:
    """The mean absolute difference in the holes, of 255: of what was completed, or of the mean."""
    differences, size = 0.0, 0.0
    for path in sorted(images.glob("*_real_A.png")):
        name = path.name.removesuffix("_real_A.png")
        truth = np.asarray(Image.open(path)).astype(float)
        found = np.asarray(Image.open(images / f"{name}_fake_A.png")).astype(float) if mean is None else mean
        draw = torch.Generator().manual_seed(derive(SEED, f"{name}.png"))  # as the test has drawn it
        missing = hole(mask, lambda *size, draw=draw: torch.rand(size, generator=draw), torch.empty(1, 1, *truth.shape))
        differences += (np.abs(found - truth) * missing[0, 0].numpy()).sum()
        size += float(missing.sum())
    return differences / size


def main() -> None:
    """Train both, print their errors and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask", choices=list(HOLES), default="random_box")
    parser.add_argument("--epochs", type=int, default=10, help="with the full rate, and as many with a falling one")
    opt = parser.parse_args()
    root = FOLDER / "digits"
    make_digits(root)
    mean = np.mean([np.asarray(Image.open(path)) for path in (root / "train").glob("*.png")], axis=0)
    for objective in OBJECTIVES:
        start = time.perf_counter()
        images = complete(root, objective, opt.mask, opt.epochs)
        print(f"{objective}: {error(images, opt.mask):.1f} of 255 in the hole; {time.perf_counter() - start:.0f} s",
              flush=True)
    print(f"fill with the mean: {error(images, opt.mask, mean):.1f}")
    compare([*OBJECTIVES, "--checkpoints_dir", f"{FOLDER}/checkpoints", "--results_dir", f"{FOLDER}/results",
             "--output", f"{FOLDER}/comparison"])
    print(f"both side by side: {FOLDER / 'comparison' / 'index.html'}")


if __name__ == "__main__":
    main()
