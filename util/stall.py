"""Detect a stalled process."""

import math
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Inside the block a thread calls `on_timeout` after so many seconds without a `beat`, once until the next beat.

    If that returns False it was a false alarm and is called again soon. With 0 seconds it is never called.
    """

    def __init__(self, seconds: float, on_timeout: Callable[[], bool | None]):
        self.seconds = seconds or math.inf
        self.on_timeout = on_timeout
        self._last = time.monotonic()

    def beat(self) -> None:
        """Something happened; restart the clock."""
        self._last = time.monotonic()

    def pause(self) -> None:
        """Nothing is expected until the next beat."""
        self._last = math.inf

    def __enter__(self) -> "Watchdog":
        self.beat()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(self._over,), name="watchdog", daemon=True)
        if self.seconds < math.inf:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        if self._thread.is_alive():  # a thread that ends with the interpreter can abort it
            self._thread.join(5)

    def _watch(self, over: threading.Event) -> None:
        reported = None
        while not over.wait(min(1.0, self.seconds / 4)):
            last = self._last
            if time.monotonic() - last > self.seconds and last != reported:
                reported = last if self.on_timeout() is not False else None
