"""What shows a training: each sink has the verbs `scalars`, `metrics`, `note`, `images`, `close`."""

import contextlib
import copy
import queue
import threading
from collections.abc import Callable
from functools import partialmethod
from typing import Any

import numpy as np

from util.errors import one_line
from util.notices import notice
from util.progress import Progress

BEAT = 10.0  # seconds


class Sink:
    """A sink that shows nothing; others override what they show. `at` is the point of the training."""

    images_every = 0  # images between pictures, 0 for none

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        """Show losses."""

    def metrics(self, at: Progress, figures: dict[str, float], best: bool) -> None:
        """Show the result of a validation at the end of an epoch, and whether it is the best so far."""

    def note(self, at: Progress, text: str) -> None:
        """Show a sentence about the health of the training."""

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        """Show pictures, name -> (H, W, 3) uint8."""

    def ended(self, at: Progress, text: str, well: bool) -> None:
        """Show how the training ended."""

    def beat(self) -> None:
        """Called every few seconds while there is nothing to show."""

    def close(self) -> None:
        """The training is over."""


class Sinks:
    """Passes everything on to several sinks, made when there is something to show: a failed start changes no file."""

    def __init__(self, make: Callable[[], list[Sink]]):
        self._make = make
        self._made: list[Sink] | None = None

    def _all(self, verb: str, *arguments: Any) -> None:
        for sink in self.opened():
            getattr(sink, verb)(*arguments)

    scalars, metrics = partialmethod(_all, "scalars"), partialmethod(_all, "metrics")
    note = partialmethod(_all, "note")

    def opened(self) -> list[Sink]:
        """The sinks, made at the first call."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def ended(self, at: Progress, text: str, well: bool) -> None:
        """Show how the training ended, in the sinks that were made."""
        for sink in self._made or []:
            sink.ended(at, text, well)

    def close(self) -> None:
        """End those that were made."""
        for sink in self._made or []:
            sink.close()

    def images_due(self, at: Progress, pictures: Callable[[], dict[str, np.ndarray]], last: bool = False) -> None:
        """Make pictures for the sinks whose interval is over, or for all at the last step of an epoch."""
        due = [sink for sink in self.opened() if sink.images_every and (last or at.due(sink.images_every))]
        made = pictures() if due else {}
        for sink in due:
            sink.images(at, made)


class Background(Sink):
    """A sink in its own thread, so that nothing waits for a disk or a server.

    A call that fails is reported once, and the next one tried. If `waiting` calls are pending, more are dropped.
    """

    def __init__(self, name: str, make: Callable[[], Sink], images_every: int = 0, waiting: int = 64):
        self.images_every = images_every
        self._name = name
        self._calls: queue.Queue = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, args=(make,), name=name, daemon=True)
        self._thread.start()

    def _put(self, verb: str, at: Progress, *arguments: Any) -> None:
        if self._thread.is_alive():
            try:
                self._calls.put_nowait((verb, (copy.copy(at), *arguments)))
            except queue.Full:
                notice(f"sink {self._name} lags", f"{self._name} does not keep up; what does not fit is left out")

    scalars, metrics = partialmethod(_put, "scalars"), partialmethod(_put, "metrics")
    note, images = partialmethod(_put, "note"), partialmethod(_put, "images")
    ended = partialmethod(_put, "ended")

    def close(self, timeout: float = 10.0) -> None:
        """Show what is pending, for so many seconds at most."""
        with contextlib.suppress(queue.Full):  # it hangs: the thread ends with the process
            self._calls.put(("close", ()), timeout=timeout / 2)
            self._thread.join(timeout / 2)

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
            try:
                verb, arguments = self._calls.get(timeout=BEAT)
            except queue.Empty:
                verb, arguments = "beat", ()
