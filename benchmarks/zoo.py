"""Unpaired models on data whose truth is known, at one budget: quality with intervals, seconds a step, memory.

    python benchmarks/zoo.py shapes digits                          # data that anyone has; --models cut,santa --seeds 3
    python benchmarks/zoo.py facades --facades FOLDER               # strips {photo|labels}; no pair is ever seen
    python benchmarks/zoo.py shapes --device cuda --minutes 10      # as far as ten minutes reach; the next call goes on
    python benchmarks/zoo.py --table                                # print what zoo.json holds
    python benchmarks/zoo.py digits --picture digits.webp           # translations of each model's first seed

Each model is scored at two budgets: after the same number of images through generators, and after the same seconds of
training. The rate is constant and the weights are averaged (--ema), so that one training gives both.
What is done is kept in zoo.json and ./zoo, and is not done again.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from scipy.stats import t as student

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.zoo_data import DATA, FOLDER, Data

ROOT = Path(__file__).resolve().parent.parent
# Model -> its options, and how many images pass through generators in a step (an encoder counts as half).
MODELS = {
    "cycle_gan": ("--model cycle_gan", 6),
    "cut": ("--model cut", 3),
    "fastcut": ("--model cut --CUT_mode FastCUT", 2),
    "dcl_gan": ("--model dcl_gan", 5),
    "santa": ("--model santa --netG santa_6blocks", 3),
    "discogan": ("--model discogan", 4),
    "dualgan": ("--model dualgan", 4),
}
NO_IDENTITY = ("--model cycle_gan --lambda_identity 0", 4)  # where the domains share no colours
SPECIAL = {("digits", "cycle_gan"): NO_IDENTITY, ("facades", "cycle_gan"): NO_IDENTITY,
           ("digits", "discogan"): ("--model discogan --netD n_layers --n_layers_D 2", 4)}  # its own D needs 64x64
OWN_NETWORK = ("santa", "discogan", "dualgan")
LABEL, GAP = 100, 2  # pixels of a picture


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
                 *words(data, model), "--n_epochs", epochs, "--n_epochs_decay", 0, "--lr", 0.0005 if model != "dualgan"
                 else 0.0001, "--ema", 0.999, "--seed", seed, "--num_threads", 1, "--display_id", 0, "--no_html",
                 "--val_freq", max(1, epochs // 5), "--print_freq", 50, *again)

    def measure(self, data: Data, model: str) -> dict[str, float]:
        """Seconds a step, memory in GiB and millions of parameters, from a short run of its own."""
        images = 120 * data.batch
        text = self.run(ROOT / "train.py", "--dataroot", data.root, "--name", "timing", "--checkpoints_dir",
                        FOLDER / "timing", *words(data, model), "--n_epochs", -(-images // data.epoch()), "--no_html",
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
        steps = {"passes": data.passes / chosen(data, model)[1] / data.batch,
                 "seconds": data.seconds / facts["seconds a step"]}
        for budget, count in sorted(steps.items(), key=lambda item: item[1]):
            done = facts.setdefault(f"by {budget}", {})
            if str(seed) not in done:
                self.train(data, model, seed, max(1, round(count * data.batch / data.epoch())))
                done[str(seed)] = {tag: self.test(data, model, seed, tag) for tag in ("latest", "best")}
                self.save()
                print(f"{data.name} {model}, seed {seed}, by {budget}: {done[str(seed)]}", flush=True)

    def test(self, data: Data, model: str, seed: int, tag: str) -> dict[str, float]:
        """The scores of a checkpoint."""
        name = name_of(data, model, seed)
        self.run(ROOT / "test.py", "--model", "test", "--name", name, "--checkpoints_dir", FOLDER / "runs", "--ema",
                 "--dataroot", data.test_images, "--results_dir", FOLDER / "results", "--epoch", tag,
                 "--preprocess", data.load)
        return data.score(translations(data, model, seed, tag))

    def table(self) -> None:
        """Print, for each data, the mean and the 95 % interval of the seeds."""
        for data in DATA.values():
            rows = [row(model, self.results[f"{data.name} {model}"]) for model in MODELS
                    if f"{data.name} {model}" in self.results]
            if rows:
                print(f"\n{data.name}: {data.measure}, after {data.passes} images through generators and after "
                      f"{data.seconds} seconds; the last checkpoint, and the best by validation\n")
                print("| | passes, last | passes, best | seconds, last | seconds, best | seconds a step | GiB | "
                      "M parameters |\n|---|---|---|---|---|---|---|---|")
                print("\n".join(rows))


def row(model: str, facts: dict) -> str:
    """A line of the table."""
    scores = [[value for score in facts.get(f"by {budget}", {}).values() for value in score[tag].values()]
              for budget in ("passes", "seconds") for tag in ("latest", "best")]
    return (f"| `{model}` | {' | '.join(map(interval, scores))} | {facts['seconds a step']:.3f} | {facts['GiB']:.2f} | "
            f"{facts['M parameters']:.2f} |")


def picture(data: Data, models: list[str], path: Path, columns: int, side: int) -> None:
    """Save a sheet of test images, their truth and what each model made of them, one model a row."""
    every = sorted(data.test_images.glob("*"))
    inputs = every[::len(every) // columns][:columns]
    rows = {"input": list(map(Image.open, inputs)), "truth": [data.truth(data.root, file.stem) for file in inputs]}
    for model in models:
        images = translations(data, model, 1, "latest")
        rows[model] = [Image.open(images / f"{file.stem}_fake.png") for file in inputs]
    sheet = Image.new("RGB", (LABEL + columns * (side + GAP), len(rows) * (side + GAP)), "white")
    for y, (label, images) in enumerate(rows.items()):
        ImageDraw.Draw(sheet).text((4, y * (side + GAP) + side // 2), label, "black", ImageFont.load_default(14),
                                   anchor="lm")
        for x, image in enumerate(images):
            shown = image.convert("RGB").resize((side, side), Image.LANCZOS)
            sheet.paste(shown, (LABEL + x * (side + GAP), y * (side + GAP)))
    sheet.save(path, quality=85)


def interval(values: list[float]) -> str:
    """Mean +- half the 95 % interval of the mean."""
    if len(values) < 2:
        return f"{values[0]:.3g} (one seed)" if values else "-"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.3g} +- {half:.2g}"


def name_of(data: Data, model: str, seed: int) -> str:
    """The name of the run."""
    return f"{data.name}_{model}_{seed}"


def translations(data: Data, model: str, seed: int, tag: str) -> Path:
    """The folder of the images that test.py wrote."""
    return FOLDER / "results" / name_of(data, model, seed) / f"test_{tag}" / "images"


def chosen(data: Data, model: str) -> tuple[str, int]:
    """The options of a model that suit the data, and how many images pass through generators in a step."""
    return SPECIAL.get((data.name, model), MODELS[model])


def words(data: Data, model: str) -> list[str]:
    """All options of a model on this data."""
    net = f"--netG {data.unet}" if model == "dualgan" else "" if model in OWN_NETWORK else f"--netG {data.netG}"
    return f"--batch_size {data.batch} {data.options} {chosen(data, model)[0]} {net}".split()


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
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--picture", type=Path)
    opt = parser.parse_args()
    zoo, models = Zoo(opt), opt.models.split(",")
    if unknown := set(opt.data) - set(DATA) | set(models) - set(MODELS):
        parser.error(f"unknown: {', '.join(unknown)}; data: {', '.join(DATA)}; models: {', '.join(MODELS)}")
    if opt.picture:
        if not opt.data:
            parser.error(f"--picture of which data? {', '.join(DATA)}")
        models = [model for model in models if translations(DATA[opt.data[0]], model, 1, "latest").exists()]
        if not models:
            parser.error(f"no model has translated {opt.data[0]} here yet")
        picture(DATA[opt.data[0]], models, opt.picture, columns=8, side=64)
        return
    try:
        for seed in range(1, 0 if opt.table else opt.seeds + 1):
            for data in [DATA[name] for name in opt.data]:
                data.prepare(opt.facades)
                for model in models:
                    zoo.piece(data, model, seed)
    except OutOfTime:
        print("the minutes are over; the same command goes on")
    zoo.table()


if __name__ == "__main__":
    main()
