"""Which files are images, and what is in a folder."""

import os
from pathlib import Path

from util.errors import UsageError
from util.images import IMG_EXTENSIONS, is_image_file

__all__ = ["IMG_EXTENSIONS", "contents", "is_image_file", "list_images", "make_dataset"]


def make_dataset(dir: str, max_dataset_size: float = float("inf")) -> list[str]:
    """The images below a folder, sorted, at most `max_dataset_size`; raises UsageError if it is no folder."""
    if not os.path.isdir(dir):
        raise UsageError(f"{dir} is not a folder")
    found, seen = [], set()
    for folder, below, names in os.walk(dir, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a circular link
            below.clear()
            continue
        seen.add(real)
        found += [os.path.join(folder, name) for name in names if is_image_file(name)]
    return sorted(found)[:None if max_dataset_size == float("inf") else int(max_dataset_size)]


def list_images(folder: str | Path) -> list[str]:
    """The images below a folder, sorted; if there are none, raises UsageError that lists what there is."""
    if paths := make_dataset(str(folder)):
        return paths
    raise UsageError(f"no image in {folder}: {contents(folder)}; endings read: {' '.join(IMG_EXTENSIONS)}")


def contents(folder: str | Path) -> str:
    """What is in a folder, in a few words for an error message."""
    folder = Path(folder)
    if not folder.is_dir():
        return f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}"
    entries = sorted(folder.iterdir())
    parts = [f"{e.name}/ ({len(make_dataset(str(e)))} images)" for e in entries if e.is_dir()][:12]
    loose = sum(is_image_file(e.name) for e in entries)
    others = len([e for e in entries if e.is_file()]) - loose
    parts += [f"{loose} images"] if loose else []
    parts += [f"{others} other files"] if others else []
    return f"{folder} holds {', '.join(parts) or 'nothing'}"
