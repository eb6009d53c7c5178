"""Signals take effect between two steps."""

import signal
import threading

from util.errors import Stopped
from util.notices import say


class Signals:
    """Inside the block, `stop` is the number of the first signal that ends the run, 0 before; a second Ctrl-C ends it
    at once. SIGUSR1 sets `save`.
    """

    ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP: the terminal is gone

    def __init__(self):
        self.stop = 0
        self.save = False
        self._before = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # elsewhere signals can't be handled
            handlers = {**dict.fromkeys(self.ENDING, self._note_stop), "SIGUSR1": self._note_save}
            numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
            for number, handler in numbers.items():
                if number != getattr(signal, "SIGHUP", 0) or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                    self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Stopped when a signal asked to end."""
        if self.stop:
            raise Stopped(self.stop)

    def _note_stop(self, number: int, _) -> None:
        if self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop = self.stop or number
        say("stopping after this step; another Ctrl-C ends at once")

    def _note_save(self, *_) -> None:
        self.save = True


def ignore_save_requests() -> None:
    """SIGUSR1 does nothing until there is something to save; unhandled it would end the process."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
