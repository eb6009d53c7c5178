"""Paired models on five tasks at one budget of training seconds: errors, classes, diversity, memory.

    python benchmarks/pairs.py negatives holes x4                   # data that anyone has; --models "pix2pix;bridge"
    python benchmarks/pairs.py labels photos --facades FOLDER       # strips {photo|labels}, in both directions
    python benchmarks/pairs.py --table                              # print what pairs.json holds

What is done is kept in pairs.json and ./pairs, and is not done again. Diversity is that of four translations of each
of eight images. KID is of the features of a fixed random network: means and deviations of the layers of a convolutional
network whose weights are drawn with seed 0.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.completion import make_digits
from benchmarks.zoo import interval
from benchmarks.zoo_data import PALETTE, halves, right_colours, save
from data.demo import PHOTOGRAPHS, make_paired
from util.metrics.report import read_figures
from util.metrics.set_metrics import kid

ROOT, FOLDER = Path(__file__).resolve().parent.parent, Path("pairs")
METRICS = "l1", "psnr", "ssim"
ONCE = "--lr 0.0005 --ema 0.999 --num_threads 1 --display_id 0 --no_html --val_freq 0 --compile off".split()


@dataclass
class Task:
    """Data, what learns it and how its translations are scored besides by METRICS."""

    name: str
    what: str
    seconds: float                                    # of training
    options: str
    models: dict[str, str]
    make: Callable[[Path, Path | None], None]
    more: Callable[[Path, Path], dict[str, float]] = lambda images, root: {}
    output: str = "fake_B"
    root_of: dict[str, str] = field(default_factory=dict)  # model -> folder of its own below the data

    @property
    def crops(self) -> int:
        """Of an image, in an epoch."""
        found = re.findall(r"--crops (\d+)", self.options)
        return int(found[0]) if found else 1

    def root(self, model: str = "") -> Path:
        """The data root of a model."""
        return FOLDER / "data" / self.name / self.root_of.get(model, self.root_of.get("", ""))


def make_facades(root: Path, strips: Path | None) -> None:
    """Photographs, colours and indices of labels: photos/ and labels/ hold trainA, trainB, ..., of which A is input."""
    if strips is None:
        raise SystemExit("facades need --facades FOLDER, which holds train, val and test strips {photo|labels}")
    for phase in ("train", "val", "test"):
        for path in sorted((strips / phase).glob("*.jpg")):
            (_, photo), (_, labels) = halves(path)
            photo, labels = photo.resize((128, 128), Image.BICUBIC), labels.resize((128, 128), Image.NEAREST)
            index = ((np.asarray(labels)[:, :, None].astype(float) - PALETTE) ** 2).sum(3).argmin(2).astype(np.uint8)
            for folder, a, b in (("colours", photo, labels), ("photos", labels, photo),
                                 ("indices", Image.fromarray(index), photo)):
                save(a, root / folder, phase, "A", path.stem)
                save(b, root / folder, phase, "B", path.stem)


def make_photographs(root: Path, strips: Path | None) -> None:
    """The photographs of scikit-image: some for training, others for the test."""
    import skimage

    for phase, names in PHOTOGRAPHS.items():
        (root / phase).mkdir(parents=True, exist_ok=True)
        for name in names:
            image = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
            image.save(root / phase / f"{Path(name).stem}.png")


def classes(images: Path, root: Path) -> dict[str, float]:
    """The share of pixels that get the right class."""
    pairs = [(path, images / path.name.replace("fake", "real")) for path in sorted(images.glob("*_fake_B.png"))]
    return {"pixel accuracy": float(np.mean([right_colours(*(np.asarray(Image.open(path)) for path in pair))
                                            for pair in pairs]))}


def random_network() -> list[nn.Conv2d]:
    """Four convolutions that halve, whose weights are the same everywhere."""
    draw = torch.Generator().manual_seed(0)
    layers = [nn.Conv2d(before, after, 3, 2, 1) for before, after in ((3, 32), (32, 64), (64, 128), (128, 256))]
    for layer in layers:
        layer.weight.data.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=draw)
        nn.init.zeros_(layer.bias)
    return layers


@torch.no_grad()
def random_features(paths: list[Path]) -> Tensor:
    """(N, 960): the mean and deviation of each channel of a random network's layers."""
    x = torch.stack([torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in paths])
    x, found = x.permute(0, 3, 1, 2) / 127.5 - 1, []
    for layer in random_network():
        x = layer(x).relu()
        found += [x.mean((2, 3)), x.std((2, 3))]
    return torch.cat(found, 1)


def distance(images: Path, root: Path) -> dict[str, float]:
    """KID between what was made and the truth, whose features have mean 0 and deviation 1."""
    made, true = (random_features(sorted(images.glob(f"*_{label}.png"))) for label in ("fake_B", "real_B"))
    mean, scale = true.mean(0), true.std(0).clamp(min=1e-6)
    return {"KID": kid((made - mean) / scale, (true - mean) / scale)}


FACADES = "--load_size 143 --crop_size 128 --ngf 32 --ndf 32"
HD_LOSSES = "--netD multiscale --lambda_feature 10 --gan_mode lsgan"
PAIRED = {
    "pix2pix": "--model pix2pix --netG unet_128",
    "pix2pixHD": f"--model pix2pix --netG global --ngf 16 --norm instance --no_dropout --lambda_L1 0 {HD_LOSSES}",
    "bicycle_gan": "--model bicycle_gan --netG latent_unet_128 --nef 32",
    "bridge": "--model bridge --ngf 16",
}
TASKS = {task.name: task for task in (
    Task("labels", "facades, photograph to label map", 240, FACADES,
         {**PAIRED, "pix2pix, recipe": "--model pix2pix --netG resnet_9blocks --ngf 16 --ndf 16 --no_dropout "
                                       "--netD pixel --load_size 128"}, make_facades, classes,
         root_of={"": "colours"}),
    Task("photos", "facades, label map to photograph", 300, FACADES,
         {**PAIRED, "spade": "--model spade --label_nc 12 --ngf 8 --ndf 32",
          "pix2pix, HD losses": "--model pix2pix --netG unet_128 --netD multiscale --lambda_feature 10 "
                                "--gan_mode hinge --spectral_norm --lambda_L1 10"}, make_facades, distance,
         root_of={"": "photos", "spade": "indices"}),
    Task("negatives", "colour negatives to photographs", 60,
         "--preprocess crop --crop_size 64 --ngf 16 --ndf 16 --batch_size 4 --no_dropout --norm none "
         "--init_type xavier --init_gain 1",
         {"pix2pix": "--model pix2pix --netG resnet_6blocks --gan_mode lsgan",
          "pix2pix, HD losses": f"--model pix2pix --netG resnet_6blocks {HD_LOSSES}",
          "bicycle_gan": "--model bicycle_gan --netG latent_unet_64 --nef 16",
          "bridge": "--model bridge --ngf 8"}, lambda root, strips: make_paired(root)),
    Task("holes", "holes in digits", 120,
         "--netG unet_32 --ngf 32 --ndf 32 --netD n_layers --n_layers_D 2 --input_nc 1 --output_nc 1 --load_size 32 "
         "--crop_size 32 --no_flip --batch_size 16",
         {f"completion --objective {name}": f"--model completion --objective {name}" for name in ("pix2pix", "ccgan")},
         lambda root, strips: make_digits(root), output="fake_A"),
    Task("x4", "photographs, four times as large", 120, "--batch_size 8 --crops 40",
         {"srresnet": "--model super_resolution --netG srresnet_8blocks --ngf 32",
          "rrdb": "--model super_resolution --netG rrdb_3blocks --ngf 32"}, make_photographs),
)}


def run(*words: object) -> str:
    """The output of a script."""
    done = subprocess.run([sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def train(task: Task, model: str, name: str, *more: object) -> str:
    """Train a run; returns what it said."""
    return run(ROOT / "train.py", "--dataroot", task.root(model), "--name", name, "--checkpoints_dir",
               FOLDER / "runs", *ONCE, *task.options.split(), *task.models[model].split(), *more)


def measure(task: Task, model: str, facts: dict) -> None:
    """Seconds an image, images of an epoch, and memory in GiB, from a short run: all of them before any training."""
    if "GiB" in facts:
        return
    text = train(task, model, "timing", "--n_epochs", 1, "--n_epochs_decay", 0, "--max_dataset_size", 160, "--seed", 1,
                 "--print_freq", 16)
    log = (FOLDER / "runs" / "timing" / "loss_log.txt").read_text()
    times = [float(value) for value in re.findall(r"time: (\d+\.\d+)", log)]
    images = int(re.findall(r"(\d+) images in", text)[0]) * task.crops
    facts.update({"seconds an image": statistics.median(times[1:]), "images": images,
                  "GiB": float(re.findall(r"memory: peak (\d+\.\d+) GiB", text)[-1])})


def scored(task: Task, model: str, name: str) -> dict[str, float]:
    """The scores of a run on the test images."""
    own = task.models[model].split()[1]
    words = (ROOT / "test.py", "--model", own, "--dataroot", task.root(model), "--name", name,
             "--checkpoints_dir", FOLDER / "runs", "--ema", "--metrics", ",".join(METRICS))
    run(*words, "--results_dir", FOLDER / "results")
    images = FOLDER / "results" / name / "test_latest" / "images"
    figures = read_figures(images.parent)
    scores = {metric: figures[f"{task.output}/{metric}"].value for metric in METRICS}
    if "bicubic_B/psnr" in figures:
        scores["psnr above bicubic"] = scores["psnr"] - figures["bicubic_B/psnr"].value
    if own in ("bicycle_gan", "bridge"):
        run(*words[:-1], "diversity", "--results_dir", FOLDER / "samples", "--n_samples", 4, "--num_test", 8)
        scores["diversity"] = read_figures(FOLDER / "samples" / name / "test_latest")[f"{task.output}/diversity"].value
    return scores | task.more(images, task.root(model))


def bring_up(seed: int, task: Task, model: str, facts: dict) -> None:
    """Train and score, unless that is done."""
    if str(seed) in facts["scores"]:
        return
    total = task.seconds / facts["seconds an image"]
    epochs = max(2, math.ceil(total / facts["images"]))
    name = re.sub(r"\W+", "_", f"{task.name} {model} {seed}")
    train(task, model, name, "--n_epochs", epochs // 2, "--n_epochs_decay", epochs - epochs // 2, "--seed", seed,
          "--max_dataset_size", math.ceil(total / epochs / task.crops))  # fewer images, not fewer or more seconds
    facts["scores"][str(seed)] = scored(task, model, name)
    print(f"{task.name}, {model}, seed {seed}: {facts['scores'][str(seed)]}", flush=True)


def table(results: dict) -> None:
    """Print, for each task, the mean and the 95 % interval of the seeds."""
    for task in TASKS.values():
        rows = {model: results[f"{task.name} {model}"] for model in task.models if f"{task.name} {model}" in results}
        scores = [score for facts in rows.values() for score in facts["scores"].values()]
        names = list(dict.fromkeys(name for score in scores for name in score))
        if not names:
            continue
        print(f"\n**{task.what}**, {task.seconds:g} seconds of training:\n")
        print(f"| | {' | '.join(names)} | milliseconds an image | GiB |\n|---|{'---|' * (len(names) + 2)}")
        for model, facts in rows.items():
            values = [interval([score[name] for score in facts["scores"].values() if name in score]) for name in names]
            print(f"| {model} | {' | '.join(values)} | {1000 * facts['seconds an image']:.0f} | {facts['GiB']:.2f} |")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help=", ".join(TASKS))
    parser.add_argument("--facades", type=Path)
    parser.add_argument("--models", help="some of the models of each task, between semicolons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("pairs.json"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    opt = parser.parse_args()
    results = json.loads(opt.results.read_text()) if opt.results.exists() else {}
    todo = []
    for task in [] if opt.table else [TASKS[name] for name in opt.tasks]:
        place = FOLDER / "data" / task.name
        if not (place / "complete").exists():
            task.make(place, opt.facades)
            (place / "complete").touch()
        todo += [(task, model) for model in task.models if opt.models is None or model in opt.models.split(";")]
    for step in (measure, *(partial(bring_up, seed) for seed in range(1, opt.seeds + 1))):
        for task, model in todo:
            step(task, model, results.setdefault(f"{task.name} {model}", {"scores": {}}))
            opt.results.write_text(json.dumps(results, indent=1))
    table(results)


if __name__ == "__main__":
    main()
