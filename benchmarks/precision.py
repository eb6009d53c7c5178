"""Whether bf16 costs quality: pix2pix, photo to label map on facades at 128x128, several seeds each, scored per pixel.

    python benchmarks/precision.py FACADES --scorer SCRIPT

FACADES holds train and test strips {photo|labels}. SCRIPT takes the folder of translations (`<stem>_fake_B.png`) and
prints one JSON line of scores; --epochs says how long to train. A run that is there already is only scored again.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

from quality import OPTIONS, ROOT, run


def score(opt: argparse.Namespace, amp: str, seed: int) -> dict[str, float]:
    """Train where that is still to be done, translate the test images and score them."""
    name = f"precision_{amp}_{seed}_{opt.epochs}"
    if not Path("checkpoints", name, f"{opt.epochs}_net_G.pth").exists():
        half = opt.epochs // 2
        run(ROOT / "train.py", "--model", "pix2pix", "--dataroot", opt.facades, "--name", name, *OPTIONS, "--amp", amp,
            "--seed", seed, "--n_epochs", half, "--n_epochs_decay", opt.epochs - half, "--netG", "unet_128",
            "--compile", "off", "--val_freq", 0)
    run(ROOT / "test.py", "--model", "pix2pix", "--dataroot", opt.facades, "--name", name, "--amp", amp)
    return json.loads(run(opt.scorer, f"results/{name}/test_latest/images", "--truth", opt.facades / "test"))


def main() -> None:
    """Print a table: each seed, mean and spread of both, and whether the difference is inside the spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facades", type=Path)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    opt = parser.parse_args()
    scores = {amp: [score(opt, amp, seed) for seed in range(1, opt.seeds + 1)] for amp in ("off", "bf16")}
    print(f"pix2pix, {opt.epochs} epochs, {os.cpu_count()} cores")
    print(f"{'':16} {'float32':>31} {'bf16':>31} {'difference':>11} {'spread':>8}")
    for name in [key for key in scores["off"][0] if key != "images"]:
        values = {amp: [result[name] for result in results] for amp, results in scores.items()}
        means = {amp: statistics.mean(column) for amp, column in values.items()}
        spread = max(max(column) - min(column) for column in values.values())
        columns = ["  ".join(f"{v:.4f}" for v in values[amp]) + f"  = {means[amp]:.4f}" for amp in values]
        print(f"{name:16} {columns[0]:>31} {columns[1]:>31} {means['bf16'] - means['off']:>+11.4f} {spread:>8.4f}")


if __name__ == "__main__":
    main()
