"""The README's figures: how long the paired demo takes, and how near its test photographs come to the truth.

    python benchmarks/demo.py            train, translate and score in a temporary folder
    python benchmarks/demo.py --score    score what the README's command left here; exit code 1 unless it learned
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def run() -> None:
    """Train and translate as the README does; prints the seconds each takes."""
    for command in (["train.py", "--config", f"{ROOT}/docs/demo_pix2pix.yaml"],
                    ["test.py", "--name", "demo", "--dataroot", "demo", "--preprocess", "none"]):
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL)
        print(f"{command[0]}: {time.perf_counter() - start:.0f} s on {os.cpu_count()} cores")


def score() -> bool:
    """Print the mean absolute difference to each photograph, of 255, before and after; whether it fell by half."""
    learned = True
    for truth in sorted(Path("datasets/demo/paired/B/test").glob("*.png")):
        images = [np.asarray(Image.open(path)).astype(float) for path in (truth, *(
            Path("results/demo/test_latest/images") / f"{truth.stem}_{label}.png" for label in ("real", "fake")))]
        before, after = (np.abs(image - images[0]).mean() for image in images[1:])
        print(f"{truth.stem}: {before:.1f} away from the photograph as film, {after:.1f} translated")
        learned &= after < before / 2
    return learned


if __name__ == "__main__":
    if "--score" not in sys.argv:
        os.chdir(tempfile.mkdtemp())
        run()
    sys.exit(not score())
