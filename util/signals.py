"""Stopping between two steps when the user or a scheduler asks for it."""

import signal
import sys
import threading


class Stopped(Exception):
    """A signal ended the run after it was saved; `exit_code` is 128 + its number, as shells and schedulers expect."""

    def __init__(self, number: int):
        super().__init__(number)
        self.exit_code = 128 + number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.exit_code - 128).name} and saved; --continue_train goes on from here"


class StopRequests:
    """Inside the block, the first SIGINT or SIGTERM is noted in `number`; a second Ctrl-C ends at once."""

    def __init__(self):
        self.number = 0
        self._before = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():  # elsewhere signals can't be handled
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        print("stopping after this step; Ctrl-C again ends at once", file=sys.stderr)
