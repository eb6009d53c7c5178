"""Seconds a step and peak memory of train.py by model and image size, batch 1, default networks.

    python benchmarks/sizes.py 64 128 256                 # --device cuda: 128 256 512 1024; --models pix2pix,cycle_gan
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LINES = 5  # of the log; the time between the last four is measured


def main() -> None:
    """Print a row for each model and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", type=int)
    parser.add_argument("--models", default="pix2pix,cycle_gan")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=4, help="between two lines of the log; on a GPU, 200")
    opt = parser.parse_args()
    print("| model | size | seconds a step | memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in opt.models.split(","):
            for size in opt.sizes:
                print(row(Path(folder), model, size, opt.device, opt.steps), flush=True)


def row(folder: Path, model: str, size: int, device: str, steps: int) -> str:
    """A line of the table."""
    draw = np.random.default_rng(0)
    data = folder / f"data_{size}"
    for i in range(LINES * steps):
        for domain in "AB":
            (data / f"train{domain}").mkdir(parents=True, exist_ok=True)
            coarse = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((size, size), Image.BICUBIC).save(data / f"train{domain}" / f"{i}.png")
    net = ["--netG", f"unet_{min(size, 256)}"] if model == "pix2pix" else []
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", "--model", model, "--dataroot", data, "--name", f"{model}_{size}",
         "--load_size", str(size), "--crop_size", str(size), "--n_epochs", "1", "--n_epochs_decay", "0",
         "--print_freq", str(steps), "--val_freq", "0", "--display_id", "0", "--no_html", "--device", device, *net],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    logged, memory, line = [], "", ""
    for line in process.stdout:
        logged += [time.perf_counter()] if line.startswith("(epoch") else []  # the losses were waited for
        memory = line.partition("memory: peak ")[2].strip() or memory
    if process.wait():
        return f"| {model} | {size} | {line.strip()} | |"
    seconds = (logged[-1] - logged[0]) / (len(logged) - 1) / steps
    return f"| {model} | {size} | {seconds:.4f} | {memory} |"


if __name__ == "__main__":
    main()
