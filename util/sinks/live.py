"""Live views of other tools: TensorBoard, Weights and Biases, visdom; each is imported where it is used."""

import importlib.util
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np

from util.progress import Progress
from util.sinks import Sink


class TensorBoardLog(Sink):
    """TensorBoard: losses and pictures over the number of images, in `<run>/tensorboard`."""

    def __init__(self, folder: str | Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"loss/{name}", value, at.total_iters)

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(f"metric/{name}", value, at.total_iters)

    def note(self, at: Progress, text: str) -> None:
        self.writer.add_text("health", text, at.total_iters)

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        for label, picture in pictures.items():
            self.writer.add_image(label, picture, at.total_iters, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WandbLog(Sink):
    """Weights and Biases: losses and pictures over the number of images."""

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


class VisdomView(Sink):
    """visdom: pictures in a grid and one window of curves, in the environment `env`."""

    def __init__(self, name: str, server: str, port: int, env: str, ncols: int, first_window: int):
        from visdom import Visdom

        self.name, self.ncols, self.window = name, ncols, first_window
        self.view = Visdom(server=server, port=port, env=env, raise_exceptions=True, use_incoming_socket=False)
        self.drawn = False

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        y = np.array([list(values.values())])
        x = np.full_like(y, at.total_iters)
        if len(values) == 1:
            x, y = x[:, 0], y[:, 0]
        self.view.line(X=x, Y=y, win=f"{self.window}", update="append" if self.drawn else None,
                       opts={"title": f"{self.name} loss over images", "legend": list(values), "xlabel": "images",
                             "ylabel": "loss"})
        self.drawn = True

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        shapes = {picture.shape for picture in pictures.values()}
        if self.ncols > 0 and len(shapes) == 1:
            grid = np.stack([picture.transpose(2, 0, 1) for picture in pictures.values()])
            self.view.images(grid, nrow=self.ncols, padding=2, win=f"{self.window + 1}",
                             opts={"title": f"{self.name} epoch {at.epoch}: {', '.join(pictures)}"})
            return
        for i, (label, picture) in enumerate(pictures.items(), start=1):
            self.view.image(picture.transpose(2, 0, 1), win=f"{self.window + i}", opts={"title": label})


def visdom_answers(server: str, port: int, timeout: float = 0.5) -> bool:
    """Whether visdom is installed and something listens at its address."""
    if importlib.util.find_spec("visdom") is None:
        return False
    try:
        host = urlparse(server if "//" in server else f"//{server}").hostname or server
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False
