"""What to do when something that should go on does not."""

import faulthandler
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from util.notices import say


class Watchdog:
    """Inside the block a thread calls `on_timeout` when no `beat` came for so many seconds, once until the next beat.

    Where that returns False it was no timeout, and is called again soon. With 0 seconds it is never called.
    """

    def __init__(self, seconds: float, on_timeout: Callable[[], bool | None]):
        self.seconds = seconds or math.inf
        self.on_timeout = on_timeout
        self._last = time.monotonic()

    def beat(self) -> None:
        """It goes on; the time starts anew."""
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
        told = None
        while not over.wait(min(1.0, self.seconds / 4)):
            last = self._last
            if time.monotonic() - last > self.seconds and last != told:
                told = last if self.on_timeout() is not False else None


def report_stall(path: str | Path, minutes: float, more: list[str]) -> None:
    """Write where all threads stand, after the lines of `more`, and tell where that is."""
    told = f"warning: no step has ended for {minutes:g} minutes; where all threads stand"
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in (time.strftime("%F %T"), *more))
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        say(f"{told} is in {path}")
    except OSError as error:
        say(f"{told} can't be written: {error}")
