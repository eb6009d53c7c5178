"""How much memory there is, and what to say when it runs out."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from util.errors import UsageError

GIB = 2 ** 30
WORDS = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")  # the CPU, CUDA and MPS, cuDNN and cuBLAS


@contextlib.contextmanager
def explained(options: Sequence[str]) -> Iterator[None]:
    """Turn out-of-memory errors of a GPU or the host into a UsageError with the peak, and what helps, best first."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise UsageError(f"out of memory ({peak()}); what helps, in this order: {', '.join(options)}") from error


def ran_out(error: BaseException) -> bool:
    """Whether an error means out of memory; most allocators raise a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in WORDS)


def available_memory() -> int:
    """Bytes of host memory that this process can still get without swapping; 0 if unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        limits = [kib * 1024]
    except (OSError, StopIteration):  # not Linux
        names = getattr(os, "sysconf_names", {})
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if "SC_PHYS_PAGES" in names else 0
    with contextlib.suppress(OSError, ValueError, KeyError):  # of a container
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        limits.append(max(0, limit - used + int(stat["inactive_file"])))  # page cache
    return min(limits)


def keep_freed_memory() -> None:
    """Make glibc, if it is the C library, keep large blocks that are freed.

    Each step allocates the same ones again, and fresh ones cost a page fault for every 4 KiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for parameter, value in ((-3, 2 ** 30), (-1, 2 ** 31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        mallopt(parameter, value)


def peak() -> str:
    """The peak memory of this process, on the GPU if it uses one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return f"peak {torch.cuda.max_memory_reserved() / GIB:.2f} of {total / GIB:.2f} GiB on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return "on the CPU"
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return f"peak {kilobytes / 2 ** 20:.2f} GiB on the CPU"
