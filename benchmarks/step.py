"""How long a training step takes, against the plain one (--plain: float32, contiguous, eager, nothing replaced).

    python benchmarks/step.py cycle_gan               # or pix2pix; --size 256 --batch_size 1 --steps 5 --device auto
    python benchmarks/step.py cycle_gan --without winograd      # what a row of networks/fast/table.py is worth

The variants take their steps in turn, in one process. FLOPs are counted in the plain step; the peaks are measured here.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models import create_model
from models.engine.cuda_graph import CapturedStep, changed_tensors, cuda_graph, decide
from models.engine.state import networks
from models.engine.step import Guard
from options.train_options import TrainOptions
from util.memory import keep_freed_memory

VARIANTS = {
    "plain": "--plain",
    "float32": "--amp off --compile on --cuda_graph off",
    "eager": "--amp auto --compile off --cuda_graph off",
    "default": "--amp auto --compile on --cuda_graph auto",
}
WITHOUT = ("float32", "default")  # the variants of --without, each with and without the row


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 1) -> list[float]:
    """The time of each call."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return taken


class Variant:
    """A model set up with some options, and its step."""

    def __init__(self, name: str, words: str, opt: argparse.Namespace):
        common = f"--model {opt.model} --dataroot none --seed 1 --device {opt.device} --batch_size {opt.batch_size}"
        self.opt = TrainOptions().parse(f"{common} {words}".split())
        self.name, self.model = name, create_model(self.opt)
        self.model._engine.planned_size, self.model._engine.planned_images = (opt.size, opt.size), 10 ** 6
        self.model.setup(self.opt)
        decide(self.model, self.opt)
        shape = opt.batch_size, 3, opt.size, opt.size
        paths = {f"{key}_paths": ["x"] * shape[0] for key in "AB"}
        self.batch = {key: torch.rand(shape) * 2 - 1 for key in "AB"} | paths
        self.guard = Guard()
        self.model._engine.guarded = True
        self.captured = CapturedStep(self.model, self.guard, cuda_graph) if self.opt.cuda_graph == "on" else None

    def step(self) -> None:
        """As train.py takes it."""
        with self.guard:
            inputs = changed_tensors(self.model, lambda: self.model.set_input(self.batch))
            self.captured(inputs) if self.captured else self.model.optimize_parameters()
            self.guard.end_step([])


def peaks(device: torch.device) -> dict[str, tuple[float, float]]:
    """FLOP/s of a matrix product, and of a 3x3 convolution of 256 channels forward and backward, by precision."""
    found = {}
    side = 8192 if device.type == "cuda" else 2048
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(side, side, device=device, dtype=dtype)
        x = torch.randn(8, 256, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        x.requires_grad_()
        w.requires_grad_()
        g = torch.nn.functional.conv2d(x, w).detach()
        product = min(seconds(lambda a=a: a @ a, device, 8)[2:])
        convolved = min(seconds(lambda x=x, w=w, g=g: torch.autograd.grad(torch.nn.functional.conv2d(x, w), (x, w), g),
                                device, 8)[2:])
        found[name] = 2 * side ** 3 / product, 3 * 2 * w.numel() * g.numel() / 256 / convolved
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("cycle_gan", "pix2pix"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--without", help="rows to leave out, comma-separated; prints what they are worth")
    opt = parser.parse_args()
    keep_freed_memory()
    if opt.without:
        words = {f"{name}{less}": VARIANTS[name] + (f" --without {opt.without}" if less else "")
                 for name in WITHOUT for less in ("", f" without {opt.without}")}
    else:
        words = VARIANTS
    variants = [Variant(name, words[name], opt) for name in words]
    plain = variants[0] if variants[0].name == "plain" else Variant("plain", VARIANTS["plain"], opt)
    with FlopCounterMode(display=False) as counter:  # which does not see into operators of our own
        plain.step()
    flops, device = counter.get_total_flops(), plain.opt.device
    taken: dict[str, list[float]] = {variant.name: [] for variant in variants}
    memory: dict[str, float] = {}
    for turn in range(opt.steps + 5):  # compiled, allocated, captured by then
        for variant in variants:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            spent = seconds(variant.step, device)
            if device.type == "cuda":
                memory[variant.name] = torch.cuda.max_memory_allocated() / 2 ** 30
            if turn >= 5:
                taken[variant.name] += spent
    report(opt, device, variants, taken, memory, flops)


def report(opt: argparse.Namespace, device: torch.device, variants: list[Variant], taken: dict[str, list[float]],
           memory: dict[str, float], flops: float) -> None:
    """A line per variant, and what limits it."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores, {cpu_name()}"
    limits = peaks(device)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    first = variants[0].name
    print(f"{opt.model} {opt.size}x{opt.size}, batch {opt.batch_size}, torch {torch.__version__}, {where}")
    print(f"{flops / 1e12:.2f} TFLOP a step; peaks in TFLOP/s, matrix product and convolution: "
          + ", ".join(f"{name} {a / 1e12:.2f} and {b / 1e12:.2f}" for name, (a, b) in limits.items()))
    for variant in variants:
        name, value = variant.name, medians[variant.name]
        kind = "bf16" if variant.opt.amp == "bf16" else "float32"
        base = name.partition(" ")[0] if opt.without else first
        ratio = f"{value / medians[base]:5.2f} times the time of" if opt.without else (
            f"{medians[base] / value:5.2f} times as fast as")
        print(f"{name:7} {value:7.3f} s a step, {ratio} {base}, "
              f"{flops / value / limits[kind][1]:4.0%} of the convolution's peak in {kind}"
              + (f", {memory[name]:.2f} GiB" if name in memory else ""))
    weights = sum(p.numel() for net in networks(variants[0].model).values() for p in net.parameters())
    block = torch.empty(2 ** 25, device=device)
    copied = min(seconds(lambda: block.add_(1), device, 8)[2:])
    moved = 4 * weights * 10  # read twice, gradient written, then seven times by Adam
    bandwidth = 2 * block.numel() * 4 / copied
    print(f"weights: {weights / 1e6:.1f} M, moved at least 10 times a step: {moved / 1e9:.2f} GB, "
          f"{moved / bandwidth:.3f} s at the measured {bandwidth / 1e9:.0f} GB/s")


def cpu_name() -> str:
    """What kind of CPU this is."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        return f"{name}{', AMX' if 'amx_bf16' in flags else ''}"
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    main()
