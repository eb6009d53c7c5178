"""How many training pairs a second one core prepares: decoded every time, as the reference does it, and from the cache.

    python benchmarks/loading.py FOLDER_OF_STRIPS        # or without a folder: strips of 512x256 that it makes
    python benchmarks/loading.py --listing 1000000       # how long listing so many files takes
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import create_dataset
from data.image_folder import make_dataset
from options.train_options import TrainOptions

LOAD, CROP, ROUNDS, MOST = 286, 256, 5, 200


def usual(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode, halve, resize, crop and normalise with Pillow and torchvision, step by step."""
    strip = Image.open(path).convert("RGB")
    half = strip.width // 2
    x, y = np.random.randint(0, LOAD - CROP + 1, 2)
    steps = transforms.Compose([
        transforms.Resize([LOAD, LOAD], transforms.InterpolationMode.BICUBIC),
        transforms.Lambda(lambda image: image.crop((x, y, x + CROP, y + CROP))),
        transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])
    boxes = (0, 0, half, strip.height), (half, 0, strip.width, strip.height)
    first, second = (steps(strip.crop(box)) for box in boxes)
    return first, second


def make_strips(folder: Path, count: int = MOST) -> None:
    """Smooth random strips of 512x256, as JPEG."""
    rng = np.random.default_rng(0)
    for i in range(count):
        image = Image.fromarray(rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)).resize((512, 256), Image.BICUBIC)
        image.save(folder / f"{i}.jpg", quality=90)


def pairs(root: str) -> None:
    """Print milliseconds a pair: the usual way, ours without and with the cache, in turn, in one process."""
    torch.set_num_threads(1)
    argv = ["--model", "pix2pix", "--dataroot", root, "--num_threads", "0", "--device", "cpu", "--seed", "1"]
    plain, cached = (create_dataset(TrainOptions().parse([*argv, "--cache", kind])) for kind in ("off", "ram"))
    paths = [path for path, _ in plain.dataset.pairs][:MOST]
    samples = {"usual": lambda i: usual(paths[i]), "decoded": lambda i: plain.workers.samples[1, i],
               "cached": lambda i: cached.workers.samples[1, i]}
    seconds = {name: [] for name in samples}
    for turn in range(ROUNDS + 1):
        for name, sample in samples.items():
            start = time.perf_counter()
            for i in range(len(paths)):
                sample(i)
            if turn:  # the first fills the cache
                seconds[name].append((time.perf_counter() - start) / len(paths))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:8} {value * 1e3:6.3f} ms a pair, {1 / value:6.0f} pairs a second and core, "
              f"{medians['usual'] / value:5.1f} times the usual way")
    moved = 2 * CROP * CROP * 3 * (1 + 4)
    copy = torch.empty(moved, dtype=torch.uint8)
    start = time.perf_counter()
    for _ in range(100):
        copy.clone()
    print(f"the limit of the cached way is moving {moved / 1e6:.1f} MB: {(time.perf_counter() - start) * 10:.3f} ms")


def listing(count: int) -> None:
    """Print the time and memory of listing so many files in a thousand folders."""
    with tempfile.TemporaryDirectory() as root:
        for i in range(1000):
            folder = Path(root) / f"{i:03d}"
            folder.mkdir()
            for j in range(count // 1000):
                (folder / f"photograph_{j:06d}.jpg").touch()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        paths = make_dataset(root)
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{len(paths)} files listed in {seconds:.1f} s, {grown:.0f} MiB")


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="data root with a train folder of strips")
    parser.add_argument("--listing", type=int, help="files to list instead")
    opt = parser.parse_args()
    if opt.listing:
        listing(opt.listing)
    elif opt.folder:
        pairs(opt.folder)
    else:
        with tempfile.TemporaryDirectory() as root:
            (Path(root) / "train").mkdir()
            make_strips(Path(root) / "train")
            pairs(root)


if __name__ == "__main__":
    main()
