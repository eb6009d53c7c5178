"""How good translations of facades are, photo to label map at 128x128, several seeds each, scored per pixel.

    python benchmarks/quality.py pix2pix FACADES --scorer SCRIPT       # or cycle_gan; --seeds 3 --rows recommended

FACADES holds train, val and test strips {photo|labels}; CycleGAN gets their halves as two folders. SCRIPT takes
the folder of translations (`<stem>_fake_B.png`) and prints one JSON line of scores. A training that is there goes
on, or is scored again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.zoo_data import halves

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = "--ngf 32 --ndf 32 --load_size 143 --crop_size 128 --num_threads 1 --display_id 0 --no_html".split()
REFERENCE = {"pix2pix": {"pixel_accuracy": 0.464, "class_accuracy": 0.246, "mean_iou": 0.159},
             "cycle_gan": {"pixel_accuracy": 0.226, "class_accuracy": 0.097, "mean_iou": 0.056}}
MODEL = {"pix2pix": "--model pix2pix --netG unet_128 --n_epochs 10 --n_epochs_decay 10 --compile off".split(),
         "cycle_gan": "--model cycle_gan --netG resnet_6blocks --norm instance --n_epochs 5 --n_epochs_decay 5".split()}
# What is trained: the reference's options, of which the average takes nothing away; and what we recommend.
SAME = "--ema 0.999 --val_freq 0".split()
RECOMMENDED = {"pix2pix": ("--ema 0.999 --lr 0.0005 --netG resnet_9blocks --ngf 16 --no_dropout --netD pixel --ndf 16 "
                           "--load_size 128 --n_epochs 14 --n_epochs_decay 14 --val_freq 7").split(),
               "cycle_gan": ("--ema 0.999 --lr 0.0005 --lambda_identity 0 --lambda_A 2 --diffaugment color --ngf 16 "
                             "--n_epochs 13 --n_epochs_decay 13 --val_freq 5").split()}
# What is scored: a training, and how it is tested.
ROWS = {"same options": ("same", ""), "and --ema": ("same", "--ema"), "recommended": ("recommended", "--ema"),
        "and --epoch best": ("recommended", "--ema --epoch best")}


def run(*words: object) -> str:
    """The output of a command; its errors go to the terminal."""
    return subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout


def unpaired(facades: Path) -> Path:
    """A folder with trainA, trainB, ...: the halves of the strips."""
    folder = Path("facades_unpaired")
    for path in sorted(facades.glob("*/*.jpg")):
        for domain, image in halves(path):
            target = folder / f"{path.parent.name}{domain}" / f"{path.stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                image.save(target)
    return folder


def checkpoints(opt: argparse.Namespace, training: str, seed: int) -> Path:
    """Where a training is kept."""
    return Path("checkpoints", f"quality_{opt.model}_{training}_{seed}")


def train(opt: argparse.Namespace, dataroot: Path, training: str, seed: int) -> None:
    """Train, or go on with a training that is there."""
    folder = checkpoints(opt, training, seed)
    options = SAME if training == "same" else RECOMMENDED[opt.model]
    again = ["--continue_train"] if (folder / "latest_state.pth").exists() else []
    run(ROOT / "train.py", "--dataroot", dataroot, "--name", folder.name, *MODEL[opt.model], *OPTIONS, *options,
        "--seed", seed, *again)


def score(opt: argparse.Namespace, dataroot: Path, training: str, test: str, seed: int) -> dict[str, float]:
    """Train, translate the test images and score them."""
    train(opt, dataroot, training, seed)
    name, words = checkpoints(opt, training, seed).name, test.split()
    run(ROOT / "test.py", "--model", opt.model, "--dataroot", dataroot, "--name", name, *words)
    tag = words[words.index("--epoch") + 1] if "--epoch" in words else "latest"
    return json.loads(run(opt.scorer, f"results/{name}/test_{tag}/images", "--truth", opt.facades / "test"))


def main() -> None:
    """Print a table: each seed, their mean and standard deviation, beside the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODEL)
    parser.add_argument("facades", type=Path)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", help=f"some of: {', '.join(ROWS)}")
    opt = parser.parse_args()
    dataroot = unpaired(opt.facades) if opt.model == "cycle_gan" else opt.facades
    reference = REFERENCE[opt.model]
    print(f"{opt.model}, {os.cpu_count()} cores; reference: {reference}")
    for row, (training, test) in ROWS.items():
        if opt.rows and row not in opt.rows.split(","):
            continue
        scores = [score(opt, dataroot, training, test, seed) for seed in range(1, opt.seeds + 1)]
        for name, known in reference.items():
            values = [result[name] for result in scores]
            mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"{row:24} {name:16} {'  '.join(f'{v:.4f}' for v in values)}  mean {mean:.4f} +- {deviation:.4f}  "
                  f"against the reference {mean - known:+.4f}")


if __name__ == "__main__":
    main()
