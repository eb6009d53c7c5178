"""What to do when something that should go on does not."""

import faulthandler
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from util.notices import say


class Watchdog:
    """Inside the block a thread calls `bark` when no `beat` came for so many seconds, once until the next; 0: never."""

    def __init__(self, seconds: float, bark: Callable[[], None]):
        self.seconds = seconds or math.inf
        self.bark = bark
        self._last = time.monotonic()

    def beat(self) -> None:
        """It goes on; the time starts anew."""
        self._last = time.monotonic()

    def rest(self) -> None:
        """Nothing is expected until the next beat."""
        self._last = math.inf

    def __enter__(self) -> "Watchdog":
        self.beat()
        self._over = threading.Event()
        if self.seconds < math.inf:
            threading.Thread(target=self._watch, args=(self._over,), name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def _watch(self, over: threading.Event) -> None:
        barked = None
        while not over.wait(min(1.0, self.seconds / 4)):
            last = self._last
            if time.monotonic() - last > self.seconds and last != barked:
                barked = last
                self.bark()


def report_stall(path: str | Path, minutes: float, more: Callable[[], list[str]]) -> None:
    """Write where all threads stand, after the lines of `more`, and tell where that is."""
    told = f"warning: no step has ended for {minutes:g} minutes; where all threads stand"
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in (time.strftime("%F %T"), *more()))
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        say(f"{told} is in {path}")
    except OSError as error:
        say(f"{told} can't be written: {error}")
