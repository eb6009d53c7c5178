"""Where a training is seen: each sink has the verbs `scalars`, `metrics`, `note`, `images`, `close`."""

import contextlib
import copy
import queue
import threading
from collections.abc import Callable

import numpy as np

from util.errors import one_line
from util.notices import notice
from util.progress import Progress


class Sink:
    """A sink that does nothing; others override what they show."""

    images_every = 0  # images between pictures, 0 for none

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        """Show the losses at this point of the training."""

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        """Show what a validation found at the end of an epoch, and whether it is the best so far."""

    def note(self, at: Progress, text: str) -> None:
        """Show a sentence about the health of the training."""

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        """Show pictures, name -> (H, W, 3) uint8."""

    def close(self) -> None:
        """The training is over."""


class Sinks:
    """Passes everything on."""

    def __init__(self, sinks: list[Sink]):
        self.sinks = sinks

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        """Show the losses everywhere."""
        for sink in self.sinks:
            sink.scalars(at, values)

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        """Show the figures everywhere."""
        for sink in self.sinks:
            sink.metrics(at, figures, best)

    def note(self, at: Progress, text: str) -> None:
        """Show the sentence everywhere."""
        for sink in self.sinks:
            sink.note(at, text)

    def images_due(self, at: Progress, pictures: Callable[[], dict[str, np.ndarray]], last: bool = False) -> None:
        """Make and show pictures where a sink's interval says so, or in all sinks at the last step of an epoch."""
        due = [sink for sink in self.sinks if sink.images_every and (last or at.due(sink.images_every))]
        made = pictures() if due else {}
        for sink in due:
            sink.images(at, made)

    def close(self) -> None:
        """Close them all, in order."""
        for sink in self.sinks:
            sink.close()


class Background(Sink):
    """A sink in a thread of its own, so that neither a disk nor a server is waited for.

    A call that fails is told once, and the next one tried. Where `waiting` calls have not been done, further ones are
    left out. Closing waits for so many seconds at most.
    """

    def __init__(self, name: str, make: Callable[[], Sink], images_every: int = 0, waiting: int = 64):
        self.images_every = images_every
        self._name = name
        self._calls: queue.Queue = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, args=(make,), name=name, daemon=True)
        self._thread.start()

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        self._put("scalars", copy.copy(at), values)

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        self._put("metrics", copy.copy(at), figures, best)

    def note(self, at: Progress, text: str) -> None:
        self._put("note", copy.copy(at), text)

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        self._put("images", copy.copy(at), pictures)

    def close(self, timeout: float = 10.0) -> None:
        with contextlib.suppress(queue.Full):  # it hangs: the thread ends with the process
            self._calls.put(("close", ()), timeout=timeout / 2)
            self._thread.join(timeout / 2)

    def _put(self, verb: str, *arguments) -> None:
        if self._thread.is_alive():
            try:
                self._calls.put_nowait((verb, arguments))
            except queue.Full:
                notice(f"sink {self._name} lags", f"{self._name} does not keep up; what does not fit is left out")

    def _run(self, make: Callable[[], Sink]) -> None:
        sink, verb, arguments = None, "open", ()
        while True:
            try:
                sink = sink or make()
                if verb != "open":
                    getattr(sink, verb)(*arguments)
            except Exception as error:  # nothing that only shows a training may end it
                notice(f"sink {self._name}", f"{self._name} failed and is tried again, the training goes on: "
                                             f"{one_line(error)}")
            if verb == "close":
                return
            verb, arguments = self._calls.get()
