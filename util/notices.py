"""Things a user should know once: printed in the main process, carried there from data workers."""

import sys

from torch.utils.data import get_worker_info

_seen: set[str] = set()
_pending: dict[str, str] = {}


def notice(kind: str, text: str) -> None:
    """Tell something once per kind; inside a data worker it waits for `collect`."""
    if kind in _seen:
        return
    _seen.add(kind)
    if _in_worker():
        _pending[kind] = text
    else:
        print(f"notice: {text}", file=sys.stderr)


def collect() -> dict[str, str]:
    """What this process has to tell, emptied."""
    pending = dict(_pending)
    _pending.clear()
    return pending


def _in_worker() -> bool:
    return get_worker_info() is not None
