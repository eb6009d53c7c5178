"""Event files for TensorBoard."""

from pathlib import Path

import numpy as np

from util.progress import Progress
from util.sinks import Sink


class TensorBoardLog(Sink):
    """Losses and pictures over the number of images, in `<run>/tensorboard`."""

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
