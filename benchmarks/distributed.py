"""Two processes of one thread each, against one process of two threads, with the same images a step.

    python benchmarks/distributed.py                 # CycleGAN at 128x128; --steps 30

Each is a training of its own, in turn; what counts is the time between the log lines.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ("--model cycle_gan --dataroot images --load_size 142 --crop_size 128 --n_epochs 1 --n_epochs_decay 0 "
           "--print_freq 8 --display_id 0 --no_html --device cpu --compile off --num_threads 1 --seed 1").split()
LAUNCHERS = {
    "one process": ([sys.executable], 4, 2),
    "two processes": ([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"], 2, 1),
}


def images_per_second(folder: Path, name: str, amp: str) -> float:
    """The median over the later log lines of a training."""
    launcher, batch, threads = LAUNCHERS[name]
    run = f"{name}_{amp}".replace(" ", "_")
    argv = [*launcher, str(ROOT / "train.py"), *OPTIONS, "--batch_size", str(batch), "--name", run, "--amp", amp]
    subprocess.run(argv, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    lines = (folder / "checkpoints" / run / "loss_log.jsonl").read_text().splitlines()
    return 1 / statistics.median(json.loads(line)["time"] for line in lines[2:])


def main() -> None:
    """Print both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    opt = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        for domain in "AB":
            (folder / f"images/train{domain}").mkdir(parents=True)
            for i in range(4 * opt.steps):
                coarse = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
                coarse.resize((142, 142), Image.BICUBIC).save(folder / f"images/train{domain}/{i}.jpg")
        for amp in ("off", "auto"):
            speeds = {kind: images_per_second(folder, kind, amp) for kind in LAUNCHERS}
            print(f"CycleGAN 128x128, 4 images a step, --amp {amp}: "
                  + ", ".join(f"{kind} {speed:.2f} images a second" for kind, speed in speeds.items())
                  + f", ratio {speeds['two processes'] / speeds['one process']:.2f}")


if __name__ == "__main__":
    main()
