"""`from util.visualizer import Visualizer, save_images`, as scripts of the reference write it."""

import time
from pathlib import Path
from typing import Any

from util.html import HTML
from util.images import save_image, tensor2im
from util.notices import tell
from util.progress import Progress
from util.sinks.log_file import LogFile, log_line
from util.sinks.page import Page

__all__ = ["Visualizer", "save_images"]


def save_images(webpage: HTML, visuals: dict[str, Any], image_path: list[str], aspect_ratio: float = 1.0,
                width: int = 256) -> None:
    """Write the first image of each visual, (N, C, H, W) in [-1, 1], and add them to a page."""
    stem = Path(image_path[0]).stem
    webpage.add_header(stem)
    files = [f"{stem}_{label}.png" for label in visuals]
    for file, value in zip(files, visuals.values(), strict=True):
        save_image(tensor2im(value), webpage.img_dir / file, aspect_ratio)
    webpage.add_images(files, list(visuals), files, width)


class Visualizer:
    """Losses in the log of a run, and pictures on its page; `options` has checkpoints_dir, name and display_winsize."""

    def __init__(self, options: Any):
        self.folder = Path(options.checkpoints_dir) / options.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = LogFile(self.folder, Progress(epoch=10 ** 9))  # keeps what is there
        self.page = Page(self.folder, options.name, options.display_winsize)
        self.started = time.monotonic()

    def reset(self) -> None:
        """Nothing is kept from one epoch to the next."""

    def display_current_results(self, visuals: dict[str, Any], epoch: int, save_result: bool) -> None:
        """Add the pictures of an epoch to the page."""
        if save_result:
            self.page.images(Progress(epoch=epoch), {label: tensor2im(value) for label, value in visuals.items()})

    def plot_current_losses(self, epoch: int, counter_ratio: float, losses: dict[str, float]) -> None:
        """Curves are drawn from what `print_current_losses` logs."""

    def print_current_losses(self, epoch: int, iters: int, losses: dict[str, float], t_comp: float,
                             t_data: float) -> None:
        """Log losses: seconds per image for computing and for data."""
        at = Progress(epoch=epoch, iters=iters, total_iters=iters, time=t_comp, data=t_data)
        tell(log_line(at, losses))
        self.log.scalars(at, losses)
