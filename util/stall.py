"""When a training stands still, where it stands."""

import faulthandler
import threading
import time
from collections.abc import Callable
from pathlib import Path

from util.notices import say


class StallWatch:
    """Inside the block a thread writes the stacks of all threads to `path` when `beat` is not called for so long.

    `more` says what else is known, such as what the data workers read.
    """

    def __init__(self, path: str | Path, minutes: float, more: Callable[[], list[str]] = list):
        self.path = Path(path)
        self.limit = minutes * 60
        self.more = more
        self._over = threading.Event()
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)

    def beat(self) -> None:
        """A step has ended."""
        self._last = time.monotonic()

    def __enter__(self) -> "StallWatch":
        if self.limit > 0:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def _watch(self) -> None:
        reported = None
        while not self._over.wait(min(5.0, self.limit / 4)):
            last = self._last
            if time.monotonic() - last > self.limit and last != reported:
                reported = last
                self._report()

    def _report(self) -> None:
        waited = f"warning: no step has ended for {self.limit / 60:g} minutes"
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in (time.strftime("%F %T"), *self.more()))
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
            say(f"{waited}; where all threads stand is in {self.path}")
        except OSError as error:
            say(f"{waited}; where all threads stand can't be written: {error}")
