"""Names of frames: "clip.mp4#12@6006" is frame 12 of a file, at time stamp 6006 of its stream; animations have none."""

import re
from pathlib import Path
from typing import NamedTuple

ANIMATIONS = (".gif", ".webp", ".apng")  # further formats are read as single images
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
_NAME = re.compile(rf"(.+(?:{'|'.join(map(re.escape, ANIMATIONS + VIDEOS))}))#(\d+)(?:@(-?\d+))?",
                   re.IGNORECASE | re.DOTALL)


class Frame(NamedTuple):
    """A frame of a file; `time` is the time stamp of a video's."""

    file: str
    number: int
    time: int | None = None

    def __str__(self) -> str:
        return f"{self.file}#{self.number}{'' if self.time is None else f'@{self.time}'}"


def frame_of(path: str) -> Frame | None:
    """The frame that a path names, None if it is a file."""
    match = _NAME.fullmatch(path)
    return Frame(match[1], int(match[2]), int(match[3]) if match[3] else None) if match else None


def file_of(path: str) -> str:
    """The file that a path, or the name of a frame, leads to."""
    frame = frame_of(path)
    return frame.file if frame else path


def stem_of(path: str | Path) -> str:
    """A path without its extension; that of a frame ends with its number: clip_00012."""
    frame = frame_of(str(path))
    return f"{Path(frame.file).with_suffix('')}_{frame.number:05d}" if frame else str(Path(path).with_suffix(""))


def is_video_file(filename: str) -> bool:
    """By its extension."""
    return filename.lower().endswith(VIDEOS) and not Path(filename).name.startswith(".")
