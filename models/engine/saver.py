"""When a run is saved besides the ends of epochs, and what happens when that fails."""

import time
from collections.abc import Callable

from util.errors import UsageError
from util.notices import say

RETRY = 60.0  # seconds until a failed save is tried again
PAUSE = 2.0   # the same where nothing else is left to do


class Saver:
    """A save that fails (a full disk, a lost mount) costs no training: the last good one stays, the next is tried."""

    def __init__(self, save: Callable[[], None], minutes: float):
        self.save = save
        self.interval = minutes * 60 if minutes > 0 else float("inf")
        self.saved = False                 # at least once
        self.error: OSError | None = None  # of the last try
        self._tried = time.monotonic()

    def due(self) -> bool:
        """Whether the interval is over, or it is time to try again."""
        return time.monotonic() - self._tried >= (min(self.interval, RETRY) if self.error else self.interval)

    def attempt(self) -> bool:
        """Save; a failure is told once and leaves `error`."""
        try:
            self.save()
        except OSError as error:
            if self.error is None:
                say(f"warning: the save failed ({error}); the last good one is untouched, the training goes on and "
                    f"tries again")
            self.error = error
        else:
            if self.error is not None:
                say("saved again")
            self.error, self.saved = None, True
        self._tried = time.monotonic()
        return self.error is None

    def insist(self, seconds: float, stop: Callable[[], object] = lambda: False) -> None:
        """Save, and try again for so long or until `stop`; raises UsageError when it can't be done."""
        end = time.monotonic() + seconds
        while not self.attempt():
            if time.monotonic() >= end or stop():
                raise UsageError(f"what was trained since the last good save is lost, it can't be saved: {self.error}")
            time.sleep(min(PAUSE, max(0.0, end - time.monotonic())))
