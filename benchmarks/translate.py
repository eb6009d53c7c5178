"""How long test.py takes for a folder, against `--plain`: float32, one image after the other.

    python benchmarks/translate.py                   # 200 images of 256x256, resnet_9blocks; --images 200

Both are whole processes, started in turn: imports, loading, translating, writing, the page.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from networks import define_G

ROOT = Path(__file__).resolve().parent.parent


def translate(folder: Path, results: str, plain: bool) -> float:
    """Seconds of one process."""
    argv = [str(ROOT / "test.py"), *(("--plain", "--num_threads", "0") if plain else ()), "--name", "bench",
            "--dataroot", "images", "--preprocess", "none", "--results_dir", results]
    start = time.perf_counter()
    subprocess.run([sys.executable, *argv], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print both times, their ratio, and how far the pictures differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    opt = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "checkpoints/bench").mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(define_G(3, 3, 64, "resnet_9blocks", "instance").state_dict(),
                   folder / "checkpoints/bench/latest_net_G.pth")
        rng = np.random.default_rng(0)
        for i in range(opt.images):
            coarse = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            coarse.resize((256, 256), Image.BICUBIC).save(folder / "images" / f"{i}.jpg", quality=95)
        times = [[translate(folder, kind, kind == "plain") for kind in ("plain", "default")] for _ in range(opt.rounds)]
        plain, default = (min(column) for column in zip(*times, strict=True))
        print(f"{opt.images} images of 256x256, resnet_9blocks, {os.cpu_count()} cores: plain {plain:.1f} s, default "
              f"{default:.1f} s, {plain / default:.2f} times as fast")
        pairs = [(path, folder / "default" / path.relative_to(folder / "plain"))
                 for path in sorted((folder / "plain").rglob("*_fake.png"))]
        differences = [np.abs(np.asarray(Image.open(a), int) - np.asarray(Image.open(b), int)) for a, b in pairs]
        print(f"of 256 values, the pictures differ by {np.mean(differences):.2f} in the mean, "
              f"{np.max(differences)} at most")


if __name__ == "__main__":
    main()
