"""Where a training is seen: each sink has the verbs `scalars`, `images` and `close`."""

import contextlib
import copy
import queue
import sys
import threading
from collections.abc import Callable

import numpy as np

from util.progress import Progress


class Sink:
    """A sink that does nothing; others override what they show."""

    images_every = 0  # images between pictures, 0 for none

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        """Show the losses at this point of the training."""

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        """Show pictures, name -> (H, W, 3) uint8."""

    def close(self) -> None:
        """The training is over."""


class Sinks:
    """Passes everything on; a sink that fails is dropped with one warning."""

    def __init__(self, sinks: list[Sink]):
        self.sinks = sinks

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        """Show the losses everywhere."""
        for sink in list(self.sinks):
            self._try(sink, sink.scalars, at, values)

    def images_due(self, at: Progress, pictures: Callable[[], dict[str, np.ndarray]], last: bool = False) -> None:
        """Make and show pictures where a sink's interval says so, or all intervals at the last step."""
        due = [sink for sink in self.sinks if sink.images_every and (last or at.due(sink.images_every))]
        made = pictures() if due else {}
        for sink in due:
            self._try(sink, sink.images, at, made)

    def close(self) -> None:
        """Close them all."""
        for sink in list(self.sinks):
            self._try(sink, sink.close)

    def __enter__(self) -> "Sinks":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _try(self, sink: Sink, verb: Callable, *arguments) -> None:
        try:
            verb(*arguments)
        except Exception as error:  # nothing that only shows a training may end it
            warn(type(sink).__name__, error)
            self.sinks = [s for s in self.sinks if s is not sink]


class Background(Sink):
    """A sink in a thread of its own, for those that talk to a server: never waited for, dropped when it fails."""

    def __init__(self, name: str, make: Callable[[], Sink], images_every: int, waiting: int = 64):
        self.images_every = images_every
        self._name = name
        self._calls: queue.Queue = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._run, args=(make,), name=name, daemon=True)
        self._thread.start()

    def scalars(self, at: Progress, values: dict[str, float]) -> None:
        self._put("scalars", copy.copy(at), values)

    def images(self, at: Progress, pictures: dict[str, np.ndarray]) -> None:
        self._put("images", copy.copy(at), pictures)

    def close(self, timeout: float = 10.0) -> None:
        with contextlib.suppress(queue.Full):  # it hangs: the thread ends with the process
            self._calls.put(("close", ()), timeout=timeout / 2)
            self._thread.join(timeout / 2)

    def _put(self, verb: str, *arguments) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):  # it lags behind: this one is not shown
                self._calls.put_nowait((verb, arguments))

    def _run(self, make: Callable[[], Sink]) -> None:
        try:
            sink = make()
            verb = ""
            while verb != "close":
                verb, arguments = self._calls.get()
                getattr(sink, verb)(*arguments)
        except Exception as error:
            warn(self._name, error)


def warn(name: str, error: Exception) -> None:
    """Tell that a sink is gone; the training goes on."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    print(f"warning: {name} failed and is off from here on: {reason}", file=sys.stderr)
