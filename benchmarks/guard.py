"""What guarding every step against numbers that are not finite costs: steps with and without it, in turn.

    python benchmarks/guard.py
"""

import contextlib
import os
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models import create_model
from models.engine.state import networks
from models.engine.step import Guard
from options.train_options import TrainOptions

STEPS = 12


def seconds(model: torch.nn.Module, batch: dict, guard: contextlib.AbstractContextManager) -> float:
    """The time of one step, its flag read."""
    start = time.perf_counter()
    with guard:
        model.set_input(batch)
        model.optimize_parameters()
        if isinstance(guard, Guard):
            guard.end_step([])
            guard.read()
    return time.perf_counter() - start


def main() -> None:
    """Print the median of both and their ratio, for pix2pix at 256x256, and what bounds it."""
    opt = TrainOptions().parse(["--model", "pix2pix", "--dataroot", "none", "--seed", "1", "--device", "cpu"])
    model = create_model(opt)
    model.setup(opt)
    model._engine.guarded = True  # minimize brings no guard of its own
    batch = {key: torch.rand(1, 3, 256, 256) * 2 - 1 for key in "AB"} | {"A_paths": ["a"], "B_paths": ["b"]}
    pairs = [(seconds(model, batch, contextlib.nullcontext()), seconds(model, batch, Guard())) for _ in range(STEPS)]
    without, guarded = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
    gradients = sum(p.numel() * p.element_size() for net in networks(model).values() for p in net.parameters())
    print(f"pix2pix 256x256 on {os.cpu_count()} cores: {without:.3f} s a step, {guarded:.3f} s guarded, ratio "
          f"{statistics.median(b / a for a, b in pairs[1:]):.3f}; it reads {gradients / 1e6:.0f} MB of gradients once")


if __name__ == "__main__":
    main()
