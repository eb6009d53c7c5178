"""One training at a time writes a run's folder."""

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from util.errors import UsageError
from util.notices import notice, say
from util.run_files import LOCK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class RunLock:
    """Inside the block this process owns the run's folder; raises UsageError when another process does.

    A POSIX record lock: it ends with its process however that ends, is not inherited by data workers, which may
    outlive a killed one by seconds, and is known to network file systems. What the file says is for people.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]

    def __enter__(self) -> "RunLock":
        self.folder.mkdir(parents=True, exist_ok=True)
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
                notice("no locks", f"{self.folder} is on a file system without locks ({error}): see to it that no "
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
        self._file.close()  # which gives the lock up

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: locked all the same
            self._file.truncate(0)
            self._file.write(text)
            self._file.flush()


def _described(text: str) -> str:
    """Who holds the lock, or nothing."""
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return ""
