"""Decoded and resized pixels, shared by all data workers."""

import contextlib
import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterable
from multiprocessing import context
from typing import Any

import numpy as np

from util.memory import GIB, available_memory
from util.notices import notice

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CACHES = ("auto", "ram", "disk", "off")
ROW = 3       # numbers of a row of the index: key, offset, bytes
END = 0       # the row of the index that holds the end of the written data
PROBES = 16   # rows looked at for a key
DEPTHS = (np.uint8, np.uint16, np.float32)


class PixelCache:
    """An unnamed file, in memory or on a disk, that all processes map and that vanishes with them.

    It never grows beyond `size` bytes: what does not fit is read again. Entries are only added, so none can be torn; an
    entry whose file has changed is no longer found.
    """

    def __init__(self, entries: int, size: int, folder: str | None):
        self._rows = 2 * entries + PROBES
        self._start = 8 * (ROW * (self._rows + 1))
        self._size = self._start + size
        if folder is None and hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("pixels"), "r+b", buffering=0)
        else:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed when this goes)
        self._file.truncate(self._size)  # takes no space yet
        self._map()

    def _map(self) -> None:
        self._bytes = mmap.mmap(self._file.fileno(), self._size)
        self._index = np.frombuffer(self._bytes, np.uint64, ROW * (self._rows + 1)).reshape(-1, ROW)
        self._pixels = np.frombuffer(self._bytes, np.uint8)

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Only a process that is being spawned can inherit the file; pickled otherwise, there is no cache."""
        return super().__reduce_ex__(protocol) if context.get_spawning_popen() else (type(None), ())

    def __getstate__(self) -> dict[str, Any]:
        from multiprocessing.reduction import DupFd

        return {"_rows": self._rows, "_start": self._start, "_size": self._size, "_file": DupFd(self._file.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _file=os.fdopen(state["_file"].detach(), "r+b", buffering=0))
        self._map()

    def get(self, key: int) -> list[np.ndarray] | None:
        """The arrays (H, W, C) of a key, read-only, or None."""
        for row in self._probe(key):
            found, offset, length = map(int, self._index[row])
            if found == key:
                return _unpack(self._pixels[offset:offset + length])
            if not found:
                return None
        return None

    def put(self, key: int, arrays: Iterable[np.ndarray]) -> None:
        """Keep arrays (H, W, C) if there is room."""
        packed = _pack(arrays)
        try:
            with self._locked():
                row = next((row for row in self._probe(key) if not self._index[row, 0]), None)
                offset = int(self._index[END, 0]) or self._start
                if row is None or offset + len(packed) > self._size:
                    return
                os.posix_fallocate(self._file.fileno(), offset, len(packed))  # or a full disk would kill the process
                self._index[END, 0] = -(-(offset + len(packed)) // 8) * 8
                self._pixels[offset:offset + len(packed)] = packed
                self._index[row, 1:] = offset, len(packed)
                self._index[row, 0] = key  # last: from here on it is found
        except OSError as error:
            notice("cache", f"the cache of decoded images grows no further ({error}); other images are read again")

    def _probe(self, key: int) -> Iterable[int]:
        first = key % self._rows
        return (1 + (first + i) % self._rows for i in range(PROBES))

    @contextlib.contextmanager
    def _locked(self):
        """Hold a lock that ends with its process, however that ends."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


def key_of(*what: Any, paths: Iterable[str]) -> int:
    """A number for what is read from files in their present state; raises OSError if one does not exist."""
    stats = [(s.st_mtime_ns, s.st_size, s.st_ino) for s in map(os.stat, paths)]
    digest = hashlib.blake2b(repr((what, stats)).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _pack(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Depths and shapes, then the pixels channel by channel, as in tensors."""
    arrays = list(arrays)
    head = [len(arrays)] + [n for a in arrays for n in (DEPTHS.index(a.dtype.type), *a.shape)]
    return np.concatenate([np.array(head, np.int32).view(np.uint8),
                           *(np.ascontiguousarray(a.transpose(2, 0, 1)).reshape(-1).view(np.uint8) for a in arrays)])


def _unpack(packed: np.ndarray) -> list[np.ndarray]:
    head = packed[:4 + 16 * int(packed[:4].view(np.int32)[0])].view(np.int32)
    arrays, at = [], head.nbytes
    for depth, *shape in head[1:].reshape(-1, 4).tolist():
        height, width, channels = shape
        end = at + height * width * channels * np.dtype(DEPTHS[depth]).itemsize
        arrays.append(packed[at:end].view(DEPTHS[depth]).reshape(channels, height, width).transpose(1, 2, 0))
        arrays[-1].flags.writeable = False
        at = end
    return arrays


def make_cache(kind: str, entries: int, folder: str, shares: int) -> PixelCache | None:
    """As --cache says: a quarter of the free memory or half of the free disk, divided by `shares` processes."""
    if kind == "off" or fcntl is None or not hasattr(os, "posix_fallocate"):
        return None
    if kind == "disk":
        folder = folder if os.path.isdir(folder) else tempfile.gettempdir()
        status = os.statvfs(folder)
        size = status.f_bavail * status.f_frsize // 2
    else:
        folder, size = None, available_memory() // 4
    size = min(size, 256 * GIB) // shares
    try:
        return PixelCache(entries, size, folder) if size > 0 else None
    except OSError as error:  # such as a limit on file sizes
        notice("no cache", f"decoded images are not kept ({error}); each is read again every time")
        return None
