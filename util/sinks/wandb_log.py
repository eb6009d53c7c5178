"""Weights and Biases."""

from typing import Any

import numpy as np

from util.progress import Progress
from util.sinks import Sink


class WandbLog(Sink):
    """Losses and pictures over the number of images."""

    def __init__(self, project: str, name: str, folder: str, config: dict[str, Any]):
        import wandb

        self.wandb = wandb
        self.run = wandb.init(project=project, name=name, dir=folder, config=config)

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        self.run.log({"epoch": at.epoch, "images": at.total_iters, **values})

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        self.run.log({"epoch": at.epoch, "images": at.total_iters, **{f"metric/{k}": v for k, v in figures.items()}})

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        self.run.log({"images": at.total_iters} | {k: self.wandb.Image(v) for k, v in pictures.items()})

    def close(self) -> None:
        self.run.finish()
