"""Unpaired models on data whose truth is known, at one budget: quality with intervals, seconds a step, memory.

    python benchmarks/zoo.py shapes digits                          # data that anyone has; --models cut,santa --seeds 3
    python benchmarks/zoo.py facades --facades FOLDER               # strips {photo|labels}; no pair is ever seen
    python benchmarks/zoo.py shapes --device cuda --minutes 10      # as far as ten minutes reach; the next call goes on
    python benchmarks/zoo.py --table                                # print what zoo.json holds

Each model is trained twice as long as one budget and the other say: for the same number of images through generators,
and for the same seconds. The rate is constant and the weights are averaged (--ema), so that one training gives both.
What is done is kept in zoo.json and ./zoo, and is not done again.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import t as student

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.demo import true_shape
from data.demo import make_unpaired

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("zoo")
# Model -> its options, and how many images pass through generators in a step (an encoder counts as half).
RESNET = "--norm instance --pool_size 50"
MODELS = {
    "cycle_gan": (f"--model cycle_gan --lambda_identity 0 {RESNET}", 4),
    "cycle_gan multiscale": (f"--model cycle_gan --lambda_identity 0 --netD multiscale --n_layers_D 2 {RESNET}", 4),
    "cut": ("--model cut --netD basic", 3),
    "fastcut": ("--model cut --CUT_mode FastCUT --netD basic", 2),
    "dcl_gan": ("--model dcl_gan --netD basic", 5),
    "santa": ("--model santa --netG santa_6blocks", 3),
    "discogan": ("--model discogan", 4),
    "dualgan": ("--model dualgan", 4),
}
EXTRA = {("digits", "discogan"): "--netD n_layers --n_layers_D 2"}  # its own discriminator takes images from 64x64 on
OWN_NETWORK = ("santa", "discogan", "dualgan")


class Data:
    """A folder with trainA ... testB, how to train on it, and the truth of each test image."""

    def __init__(self, name: str, options: str, netG: str, unet: str, passes: int, seconds: float):
        self.name, self.options, self.netG, self.unet = name, options.split(), netG, unet
        self.passes, self.seconds = passes, seconds
        self.batch = int(self.options[self.options.index("--batch_size") + 1]) if "--batch_size" in self.options else 1
        self.root = FOLDER / "data" / name

    def prepare(self, opt: argparse.Namespace) -> None:
        """Make the images, once."""
        if not (self.root / "complete").exists():
            MAKE[self.name](self.root, opt)
            (self.root / "complete").touch()

    def words(self, model: str) -> list[str]:
        """The options of a model on this data."""
        net = ["--netG", self.unet] if model == "dualgan" else [] if model in OWN_NETWORK else ["--netG", self.netG]
        return [*self.options, *MODELS[model][0].split(), *net, *EXTRA.get((self.name, model), "").split()]

    def score(self, images: Path) -> dict[str, float]:
        """What is known of the translations in a folder."""
        return SCORE[self.name](self.root, images)


def make_facades(root: Path, opt: argparse.Namespace) -> None:
    """Photographs of one half of the strips, labels of the other; the test set has both."""
    for phase in ("train", "val", "test"):
        strips = sorted((opt.facades / phase).glob("*.jpg"), key=lambda path: int(path.stem))
        for i, path in enumerate(strips):
            strip = Image.open(path).convert("RGB")
            middle = strip.width // 2
            for domain, box in (("A", (0, 0, middle, strip.height)), ("B", (middle, 0, strip.width, strip.height))):
                if phase == "test" or i % 2 == "AB".index(domain):
                    (root / f"{phase}{domain}").mkdir(parents=True, exist_ok=True)
                    strip.crop(box).save(root / f"{phase}{domain}" / f"{path.stem}.png")


def make_shapes(root: Path, opt: argparse.Namespace) -> None:
    """Plain shapes and striped ones, as in the demo."""
    make_unpaired(root)


def make_digits(root: Path, opt: argparse.Namespace) -> None:
    """Digits of scikit-learn in six colours on black, and others, whose colours are inverted."""
    from sklearn.datasets import load_digits

    draw = random.Random(0)
    colours = [(230, 60, 60), (60, 200, 80), (70, 100, 240), (230, 200, 60), (200, 80, 210), (70, 200, 210)]
    for i, digit in enumerate(load_digits().images):
        ink = np.asarray(Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize((32, 32), Image.BICUBIC)) / 255
        image = np.rint(ink[:, :, None] * np.array(draw.choice(colours))).astype(np.uint8)
        phase = "train" if i < 1200 else "val" if i < 1300 else "test"
        domain = "AB"[i % 2]
        (root / f"{phase}{domain}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if domain == "A" else 255 - image).save(root / f"{phase}{domain}" / f"{i:04d}.png")


def score_facades(root: Path, images: Path) -> dict[str, float]:
    """Pixels of the right one of 12 label colours."""
    palette = np.array([(0, 48, 255), (0, 0, 224), (0, 128, 255), (255, 80, 0), (192, 255, 64), (176, 0, 0),
                        (0, 208, 255), (32, 255, 224), (255, 160, 0), (112, 255, 144), (255, 240, 0), (255, 0, 0)])

    def classes(image: Image.Image) -> np.ndarray:
        return ((np.asarray(image, float)[:, :, None] - palette) ** 2).sum(3).argmin(2)

    right = []
    for truth in sorted((root / "testB").glob("*.png")):
        found = Image.open(images / f"{truth.stem}_fake_B.png").convert("RGB")
        right.append((classes(found) == classes(Image.open(truth).resize(found.size, Image.NEAREST))).mean())
    return {"pixel accuracy": float(np.mean(right))}


def by_truth(truth: Callable[[Path, str], Image.Image]) -> Callable[[Path, Path], dict[str, float]]:
    """A score: the mean absolute difference to the truth, of 255, in the direction A to B."""
    def score(root: Path, images: Path) -> dict[str, float]:
        differences = [np.abs(np.asarray(Image.open(path).convert("RGB"), float)
                              - np.asarray(truth(root, path.stem.removesuffix("_fake_B")), float)).mean()
                       for path in sorted(images.glob("*_fake_B.png"))]
        return {"L1 of 255": float(np.mean(differences))}
    return score


def digit_inverted(root: Path, stem: str) -> Image.Image:
    """The truth of a digit of A."""
    return Image.fromarray(255 - np.asarray(Image.open(root / "testA" / f"{stem}.png")))


MAKE = {"facades": make_facades, "shapes": make_shapes, "digits": make_digits}
SCORE = {"facades": score_facades, "shapes": by_truth(lambda root, stem: true_shape("A", int(stem))),
         "digits": by_truth(digit_inverted)}
HIGHER = {"pixel accuracy"}
DATA = {
    "facades": Data("facades", "--ngf 32 --ndf 32 --load_size 143 --crop_size 128", "resnet_6blocks", "unet_128", 16000,
                    1000),
    "shapes": Data("shapes", "--ngf 16 --ndf 16 --load_size 64 --crop_size 64", "resnet_4blocks", "unet_64", 2400, 40),
    "digits": Data("digits", "--ngf 16 --ndf 16 --load_size 32 --crop_size 32 --no_flip --batch_size 4",
                   "resnet_4blocks", "unet_32", 9600, 40),
}


class OutOfTime(Exception):
    """The minutes are over."""


class Zoo:
    """The results so far, and what adds to them."""

    def __init__(self, opt: argparse.Namespace):
        self.opt, self.file = opt, Path(opt.results)
        self.end = time.monotonic() + 60 * opt.minutes
        self.results = json.loads(self.file.read_text()) if self.file.exists() else {}

    def save(self) -> None:
        """Write all results beside the file and rename."""
        beside = self.file.with_suffix(".tmp")
        beside.write_text(json.dumps(self.results, indent=1))
        os.replace(beside, self.file)

    def run(self, *words: object) -> str:
        """The output of a script; it is asked to stop when the minutes are over, and then saves what it has."""
        with subprocess.Popen([sys.executable, *map(str, words), "--device", self.opt.device], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                text, _ = process.communicate(timeout=max(1.0, self.end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                process.communicate()
                raise OutOfTime from None
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, words))} failed:\n{text[-2000:]}")
        return text

    def train(self, data: Data, model: str, seed: int, epochs: int) -> None:
        """Train for this many epochs, or on to them."""
        name = name_of(data, model, seed)
        again = ["--continue_train"] if (FOLDER / "runs" / name / "latest_state.pth").exists() else []
        self.run(ROOT / "train.py", "--dataroot", data.root, "--name", name, "--checkpoints_dir", FOLDER / "runs",
                 *data.words(model), "--n_epochs", epochs, "--n_epochs_decay", 0, "--lr", 0.0005 if model != "dualgan"
                 else 0.0001, "--ema", 0.999, "--seed", seed, "--num_threads", 1, "--display_id", 0, "--no_html",
                 "--val_freq", max(1, epochs // 5), "--print_freq", 50, *again)

    def measure(self, data: Data, model: str) -> dict[str, float]:
        """Seconds a step, memory in GiB and millions of parameters, from a short run of its own."""
        images = 120 * data.batch
        text = self.run(ROOT / "train.py", "--dataroot", data.root, "--name", "timing", "--checkpoints_dir",
                        FOLDER / "timing", *data.words(model), "--n_epochs", -(-images // len_of(data)), "--no_html",
                        "--n_epochs_decay", 0, "--max_dataset_size", images, "--val_freq", 0, "--display_id", 0,
                        "--print_freq", images // 4, "--seed", 1, "--num_threads", 1, "--ema", 0.999)
        log = (FOLDER / "timing" / "timing" / "loss_log.txt").read_text()
        times = [float(value) for value in re.findall(r"time: (\d+\.\d+)", log)][1:]
        peak = re.findall(r"memory: peak (\d+\.\d+) GiB", text)
        sizes = re.findall(r"network \w+: (\d+\.\d+) M", text)
        return {"seconds a step": statistics.median(times) * data.batch, "GiB": float(peak[-1]),
                "M parameters": sum(map(float, sizes))}

    def piece(self, data: Data, model: str, seed: int) -> None:
        """Bring one training up to both budgets, and score it at each."""
        facts = self.results.setdefault(f"{data.name} {model}", {})
        if "seconds a step" not in facts:
            facts.update(self.measure(data, model))
            self.save()
        steps = {"passes": data.passes / MODELS[model][1] / data.batch,
                 "seconds": data.seconds / facts["seconds a step"]}
        for budget, count in sorted(steps.items(), key=lambda item: item[1]):
            done = facts.setdefault(f"by {budget}", {})
            if str(seed) not in done:
                self.train(data, model, seed, max(1, round(count * data.batch / len_of(data))))
                done[str(seed)] = {tag: self.test(data, model, seed, tag) for tag in ("latest", "best")}
                self.save()
                print(f"{data.name} {model}, seed {seed}, by {budget}: {done[str(seed)]}", flush=True)

    def test(self, data: Data, model: str, seed: int, tag: str) -> dict[str, float]:
        """The scores of a checkpoint."""
        name = name_of(data, model, seed)
        self.run(ROOT / "test.py", "--model", "test", "--name", name, "--checkpoints_dir", FOLDER / "runs", "--ema",
                 "--dataroot", data.root / "testA" if (data.root / "testA").exists() else data.root / "A" / "test",
                 "--results_dir", FOLDER / "results", "--epoch", tag, "--preprocess",
                 "resize_and_crop" if data.name == "facades" else "none")
        images = FOLDER / "results" / name / f"test_{tag}" / "images"
        for path in images.glob("*_fake.png"):
            path.rename(path.with_name(path.name.replace("_fake.png", "_fake_B.png")))
        return data.score(images)

    def table(self) -> None:
        """Print the mean and the 95 % interval of the seeds."""
        for key, facts in self.results.items():
            print(f"{key:30} {facts.get('seconds a step', 0):.4f} s a step, {facts.get('GiB', 0):.2f} GiB, "
                  f"{facts.get('M parameters', 0):.2f} M")
            for budget in ("passes", "seconds"):
                for tag in ("latest", "best"):
                    scores = [score[tag] for score in facts.get(f"by {budget}", {}).values()]
                    for name in scores[0] if scores else ():
                        print(f"    same {budget:8} {tag:7} {name}: {interval([score[name] for score in scores])}")


def interval(values: list[float]) -> str:
    """Mean +- half the 95 % interval of the mean."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.4g} (one seed)"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.4g} +- {half:.2g}"


def name_of(data: Data, model: str, seed: int) -> str:
    """The run's."""
    return f"{data.name}_{model.replace(' ', '_')}_{seed}"


def len_of(data: Data) -> int:
    """Images an epoch."""
    folders = [data.root / "trainA", data.root / "trainB", data.root / "A" / "train", data.root / "B" / "train"]
    return max(len(list(folder.glob("*"))) for folder in folders if folder.exists())


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help=", ".join(DATA))
    parser.add_argument("--facades", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=1e4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", default="zoo.json")
    parser.add_argument("--table", action="store_true")
    opt = parser.parse_args()
    zoo = Zoo(opt)
    try:
        for seed in range(1, opt.seeds + 1):
            for name in opt.data:
                DATA[name].prepare(opt)
                for model in opt.models.split(","):
                    zoo.piece(DATA[name], model, seed)
    except OutOfTime:
        print("the minutes are over; the same command goes on")
    zoo.table()


if __name__ == "__main__":
    main()
