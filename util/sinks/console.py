"""Losses in the progress bar, or line by line if the output is no terminal."""

from tqdm import tqdm

from util.notices import tell
from util.progress import Progress
from util.sinks import Sink
from util.sinks.log_file import log_line


class Console(Sink):
    """Writes through a bar, which is off if the output is no terminal."""

    def __init__(self, bar: tqdm):
        self.bar = bar

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        if self.bar.disable:
            tell(log_line(at, values))
        else:
            self.bar.set_postfix_str(" ".join(f"{name} {value:.3f}" for name, value in values.items()))
