"""What may come between a training and its end: another process, a signal, a stall."""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

from util.errors import Stopped, UsageError
from util.notices import notice, say
from util.run_files import LOCK

# In a run's folder, what is written in place; other files are replaced, also if they are links.
WRITTEN = (LOCK, "loss_log.txt", "loss_log.jsonl", "web", "web/images", "tensorboard", "stalled.txt")

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class RunLock:
    """Inside the block this process owns the run's folder; raises UsageError if another process does.

    A POSIX record lock ends with its process however that ends, is not inherited by data workers, which may outlive a
    killed process by seconds, and works on network file systems. The file's text is for people.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]

    def __enter__(self) -> "RunLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN:
            if (self.folder / name).is_symlink():
                raise UsageError(f"{self.folder / name} is a link, and training would write where it leads; remove it")
        self._file = open(self.folder / LOCK, "a+", encoding="utf-8")
        self._file.seek(0)
        owner = _described(self._file.read())
        if fcntl:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                self._file.close()
                raise UsageError(f"run {self.folder.name} is being trained by {owner or 'another process'}; wait for "
                                 f"it, or use another --name") from None
            except OSError as error:
                notice("no locks", f"{self.folder} is on a file system without locks ({error}): make sure that no "
                                   f"other training uses this --name")
        if owner:
            say(f"notice: {owner} was killed; its lock is taken over")
        self._write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}))
        return self

    def __exit__(self, *_) -> None:
        self._write("")
        with contextlib.suppress(OSError):
            if self._made and [path.name for path in self.folder.iterdir()] == [LOCK]:  # the training never began
                (self.folder / LOCK).unlink()
                for path in self._made:
                    path.rmdir()
        self._file.close()  # which releases the lock

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk; the lock holds all the same
            self._file.truncate(0)
            self._file.write(text)
            self._file.flush()


def _described(text: str) -> str:
    """Who holds the lock, or an empty string."""
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return ""


class Signals:
    """Inside the block, `stop` is the number of the first signal that ends the run, 0 before; a second Ctrl-C ends it
    immediately. SIGUSR1 sets `save`.
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
        """Raise Stopped if a signal asked to end."""
        if self.stop:
            raise Stopped(self.stop)

    def _note_stop(self, number: int, _) -> None:
        if self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop = self.stop or number
        say("stopping after this step; Ctrl-C now ends it immediately")

    def _note_save(self, *_) -> None:
        self.save = True


def ignore_save_requests() -> None:
    """SIGUSR1 does nothing until there is something to save; unhandled it would end the process."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def report_stall(path: str | Path, minutes: float, more: list[str]) -> None:
    """Append the lines of `more` and the stacks of all threads to a file, and say where it is."""
    told = f"warning: no step has ended for {minutes:g} minutes; the stacks of all threads"
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in (time.strftime("%F %T"), *more))
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        say(f"{told} are in {path}")
    except OSError as error:
        say(f"{told} can't be written: {error}")
