"""Frames of animations, by Pillow, and of videos, by PyAV (extra: video)."""

import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from PIL import Image

from util.errors import UsageError, one_line
from util.frames import ANIMATIONS, Frame, is_video_file
from util.images import open_picture

# Kinds of files that are opened; playlists, for example, would lead to other files and servers.
SAFE = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts", "protocol_whitelist": "file"}
MOST = 2 ** 28  # pixels of a frame
HAS_VIDEO = importlib.util.find_spec("av") is not None
TURN = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def is_animation(path: str) -> bool:
    """Whether an image file of a kind that may have several frames has them; False if it can't be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(21)
        if head[8:12] == b"WEBP":  # which Pillow would read whole
            return head[12:16] == b"VP8X" and bool(head[20] & 2)
        with open_picture(path) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # reported when it is read
        return False


def with_frames(paths: Iterable[str], step: int) -> Iterator[str]:
    """Every `step`th frame of each animation and video in the place of its file; others unchanged."""
    for path in paths:
        frames: list[str] = []
        if is_video_file(path):
            timed = not path.lower().endswith(".avi")  # whose time stamps may be in the order of decoding
            frames = [str(Frame(path, i, time if timed else None)) for i, time in enumerate(timestamps(path))]
        elif path.lower().endswith(ANIMATIONS) and is_animation(path):
            with open_picture(path) as image:
                frames = [str(Frame(path, number)) for number in frame_numbers(image)]
        yield from frames[::step] or [path]


def frame_numbers(image: Image.Image) -> range:
    """The frames of an animation, without the picture that an APNG may have for programs that know no animations."""
    return range(int(getattr(image, "default_image", False)), getattr(image, "n_frames", 1))


def timestamps(path: str) -> list[int]:
    """When each frame of a video is shown, in units of its stream; empty if it can't be read."""
    try:
        with opened(path) as (container, stream):
            return sorted({packet.pts for packet in container.demux(stream) if packet.pts is not None and packet.size})
    except UsageError:
        raise
    except Exception:  # reported when it is read
        return []


def read_frame(frame: Frame) -> Image.Image:
    """An RGB image, or a grey one of a grey animation; raises what the decoder raises."""
    if not is_video_file(frame.file):
        with open_picture(frame.file) as image:
            image.seek(frame.number)
            return image.convert("L" if image.mode == "L" else "RGB")
    with opened(frame.file) as (container, stream):
        if frame.time is not None:
            container.seek(frame.time, stream=stream)
        for number, found in enumerate(container.decode(stream)):
            if number == frame.number if frame.time is None else (found.pts or 0) >= frame.time:
                return upright(found)
    raise ValueError(f"has no frame {frame.number}")


def open_container(path: str) -> Any:
    """A video file as PyAV opens it; raises UsageError without the extra."""
    if not HAS_VIDEO:
        raise UsageError(f'{path} is a video, which needs an extra: pip install -e ".[video]"')
    import av

    return av.open(path, metadata_errors="replace", options=SAFE)


@contextmanager
def opened(path: str) -> Iterator[tuple[Any, Any]]:
    """A video as PyAV's container and its stream of pictures; raises ValueError for a file without pictures."""
    with open_container(path) as container:
        if not container.streams.video:
            raise ValueError("has no pictures")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("is in a format that can't be decoded here")
        if stream.width * stream.height > MOST:
            raise ValueError(f"has pictures of {stream.width}x{stream.height}, which is too large")
        stream.thread_type = "AUTO"
        yield container, stream


def upright(frame: Any) -> Image.Image:
    """A frame of PyAV as an RGB image, turned as players show it."""
    from av.video.reformatter import ColorRange

    array = frame.to_ndarray(format="rgb24", src_color_range=frame.color_range, dst_color_range=ColorRange.JPEG)
    image = Image.fromarray(array)
    turn = TURN.get(round(frame.rotation) % 360)
    return image.transpose(turn) if turn is not None else image


def length_of(text: str) -> Fraction:
    """Seconds of "00:00:02.400000000", 0 for something else."""
    try:
        hours, minutes, seconds = text.split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)


def why_unreadable(error: Exception) -> str:
    """An error of a decoder in one line, without its number and the name of a file or function."""
    return re.sub(r"^\[Errno \d+\] |: '[^']*'$", "", one_line(error).split(";")[0])
