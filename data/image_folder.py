"""Which files are images, and what is in a folder."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from data.film import HAS_VIDEO
from util.errors import UsageError
from util.frames import VIDEOS, is_video_file
from util.images import IMG_EXTENSIONS, is_image_file, open_picture
from util.notices import notice

__all__ = ["IMG_EXTENSIONS", "ImageFolder", "contents", "default_loader", "is_image_file", "list_images",
           "make_dataset"]


# Images of kinds that are not read, or only with an extra.
OTHERS = (".avif", ".heic", ".heif", ".dcm", ".nii", ".nii.gz", ".nrrd", ".mha", ".jp2", ".jxl", ".exr", ".hdr", ".psd",
          ".dng", ".cr2", ".nef", ".arw", ".svg", ".eps", ".czi", ".nd2", ".lif", ".svs", ".npz", ".mat", ".h5",
          *VIDEOS)


def make_dataset(dir: str, max_dataset_size: float = float("inf")) -> list[str]:
    """The images below a folder, sorted, at most `max_dataset_size`; raises UsageError if it is no folder."""
    found = sorted(path for path in files_below(dir) if is_image_file(path))
    return found[:None if max_dataset_size == float("inf") else int(max_dataset_size)]


def files_below(dir: str) -> Iterator[str]:
    """All files below a folder; raises UsageError if it is none."""
    if not os.path.isdir(dir):
        raise UsageError(f"{dir} is not a folder")
    seen = set()
    for folder, below, names in os.walk(dir, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a circular link
            below.clear()
            continue
        seen.add(real)
        yield from (os.path.join(folder, name) for name in names)


def default_loader(path: str) -> Image.Image:
    """An RGB image of Pillow, as dataset plugins of the reference open it."""
    return open_picture(path).convert("RGB")


class ImageFolder(Dataset):
    """The images of a folder, transformed, with their paths if asked: as dataset plugins of the reference use it."""

    def __init__(self, root: str, transform: Callable | None = None, return_paths: bool = False,
                 loader: Callable = default_loader):
        self.root, self.imgs, self.transform = root, list_images(root), transform
        self.return_paths, self.loader = return_paths, loader

    def __getitem__(self, index: int) -> Any:
        path = self.imgs[index]
        image = self.transform(self.loader(path)) if self.transform else self.loader(path)
        return (image, path) if self.return_paths else image

    def __len__(self) -> int:
        return len(self.imgs)


def list_images(folder: str | Path, videos: bool = False) -> list[str]:
    """The images below a folder, and `videos` if they can be read, sorted; other kinds are counted in a notice.

    Raises UsageError that lists what there is, if there are none.
    """
    paths: list[str] = []
    others: Counter[str] = Counter()
    for path in files_below(str(folder)):
        if is_image_file(path) or (videos and HAS_VIDEO and is_video_file(path)):
            paths.append(path)
        elif kind := next((kind for kind in OTHERS[::-1] if path.lower().endswith(kind)), ""):
            others[kind] += 1
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        extra = '; .heic needs an extra: pip install -e ".[heif]"' if {".heic", ".heif"} & others.keys() else ""
        if videos and {*VIDEOS} & others.keys():
            extra += '; videos need an extra: pip install -e ".[video]"'
        notice(f"others in {folder}", f"passed over in {folder}, as they are not read: {counts}{extra}")
    if paths:
        return sorted(paths)
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
