"""Translate animations and videos frame by frame: rate, length, sound, rotation and colour range stay."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from data.film import frame_numbers, is_animation, length_of, open_container, opened, upright, why_unreadable
from data.loading.loader import MANY_POSITIONS
from image_translation import animations
from image_translation.images import to_pillow
from image_translation.translator import Translator
from models.engine.validation import values_of
from util.errors import ImageError, UsageError, one_line
from util.files import atomic
from util.frames import ANIMATIONS, is_video_file
from util.images import open_picture
from util.notices import Bar, notice

# Ending -> container of PyAV, and encoders that it holds, the first that is there is used.
CONTAINERS = {
    ".mp4": ("mp4", ("libx264", "mpeg4")), ".m4v": ("mp4", ("libx264", "mpeg4")),
    ".mov": ("mov", ("libx264", "mpeg4")), ".mkv": ("matroska", ("libx264", "mpeg4")),
    ".webm": ("webm", ("libvpx-vp9", "libvpx")),
}
FORMATS = {*CONTAINERS, *animations.FORMATS}
QUALITY = {"libx264": {"crf": "18", "preset": "veryfast"}, "mpeg4": {"qscale": "3"},
           "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"},
           "libvpx": {"crf": "10", "b": "8M", "deadline": "realtime", "cpu-used": "8"}}
COLOURS = ("color_range", "colorspace", "color_primaries", "color_trc")


class Moment(NamedTuple):
    """A frame, when it is shown and for how long, in seconds."""

    picture: Image.Image
    start: Fraction
    duration: Fraction


class Facts(NamedTuple):
    """What a film has besides its frames."""

    path: str
    positions: int                        # width times height
    frames: int = 0                       # about, 0 if unknown
    seconds: Fraction = Fraction(0)       # 0 if unknown
    loop: int | None = 0                  # how often an animation is played
    rate: Fraction = Fraction(25)         # frames per second
    tick: Fraction = Fraction(1, 1000)    # seconds, the unit of times
    stream: Any = None                    # of a video, by PyAV


def is_film(path: str) -> bool:
    """Whether a file has frames."""
    return is_video_file(path) or (path.lower().endswith((*ANIMATIONS, ".png")) and is_animation(path))


def suffix_for_film(original: str, wanted: str | None) -> str:
    """The ending of a film's translation: `wanted` if films of that format are written, else its own, or .mp4."""
    if wanted in FORMATS:
        return str(wanted)
    own = Path(original).suffix
    if own.lower() not in FORMATS:
        notice(f"format {own}", f"{original}: {own[1:]} is not written; translations of such videos are mp4")
        return ".mp4"
    return own


def translate_film(translator: Translator, source: str, target: Path) -> str:
    """Translate every frame into a file whose ending says the format; returns what had to be left out, or nothing.

    Raises ImageError if no frame can be read or the film can't be written.
    """
    problems: list[str] = []
    depth = values_of(translator.opt, translator.target_domain).depth
    if depth != "uint8" or translator.channels not in (1, 3):
        raise ImageError(source, f"a film holds 8-bit grey or colour pictures, not {translator.channels} channels of "
                                 f"{depth}")
    if target.suffix.lower() not in FORMATS:
        raise ImageError(str(target), f"is no name of a video; endings known: {', '.join(sorted(FORMATS))}")
    reader = Reader(source)
    if reader.facts.positions > translator.opt.max_megapixels * 1e6:
        raise ImageError(source, f"has larger pictures than --max_megapixels {translator.opt.max_megapixels:g}")
    with reader, atomic(target, "wb", lasting=False) as file, ExitStack() as stack, Bar(
            total=reader.facts.frames or None, unit="frame", desc=Path(source).name, disable=None) as bar:
        writer: Any = None
        reading, writing = (stack.enter_context(ThreadPoolExecutor(1)) for _ in range(2))
        pending: deque[Future[None]] = deque()
        size = max(1, min(translator.opt.batch_size, MANY_POSITIONS // reader.facts.positions))
        for moments in in_groups(reader.moments(), size, reading):
            items = [translator.dataset.prepare(moment.picture, source) for moment in moments]  # one seed of dropout
            pictures = [to_pillow(made.to_array()) for made in translator.translate(items)]
            if writer is None:
                writer = stack.enter_context(opened_writer(file, target, reader.facts, pictures[0].size, problems))
                stack.callback(wait, pending)  # before the file is closed, also if something fails
            pending.append(writing.submit(write_all, writer, moments, pictures))
            if len(pending) > 1:
                pending.popleft().result()
            bar.update(len(moments))
        for future in pending:
            future.result()
        if writer is None:
            raise ImageError(source, reader.problem or "has no frames")
    return "; ".join([*problems, *([reader.problem] if reader.problem else [])])


def in_groups(things: Iterator[Any], size: int, pool: ThreadPoolExecutor) -> Iterator[list[Any]]:
    """Lists of `size` things, the next one read while this one is used."""
    def read() -> list[Any]:
        return list(islice(things, size))

    coming = pool.submit(read)
    while group := coming.result():
        coming = pool.submit(read)
        yield group


def write_all(writer: Any, moments: list[Moment], pictures: list[Image.Image]) -> None:
    """Append frames."""
    for moment, picture in zip(moments, pictures, strict=True):
        writer.add(picture, moment.start, moment.duration)


class Reader(ExitStack):
    """The frames of a film; `problem` says afterwards why they are fewer than there should be."""

    def __init__(self, path: str):
        super().__init__()
        self.problem = ""
        try:
            self.facts, self._read = (self._video if is_video_file(path) else self._animation)(path)
        except UsageError:
            raise
        except Exception as error:  # of a decoder
            raise ImageError(path, f"can't be read: {why_unreadable(error)}") from error

    def moments(self) -> Iterator[Moment]:
        """The frames in order, up to the first that can't be read."""
        read, size, first, end, longest = 0, None, Fraction(0), Fraction(0), 2 / self.facts.rate
        try:
            for moment in self._read():
                size, first = size or moment.picture.size, first if read else moment.start
                if moment.picture.size != size:
                    raise ValueError(f"the next ones have another size, {'x'.join(map(str, moment.picture.size))}")
                yield moment
                longest, end, read = max(longest, moment.start - end), moment.start + moment.duration, read + 1
        except Exception as error:
            self.problem = f"can't be read after {read} frames: {why_unreadable(error)}"
        if not self.problem and end - first + longest < self.facts.seconds:
            lengths = [f"{float(seconds):.1f}" for seconds in (end - first, self.facts.seconds)]
            self.problem = f"is truncated: {lengths[0]} of {lengths[1]} seconds are there"

    def _animation(self, path: str) -> tuple[Facts, Callable[[], Iterator[Moment]]]:
        image: Any = self.enter_context(open_picture(path))

        def read() -> Iterator[Moment]:
            start = Fraction(0)
            for number in frame_numbers(image):
                image.seek(number)
                picture = image.convert("L" if image.mode == "L" else "RGB")
                duration = Fraction(round(image.info.get("duration") or 100), 1000)
                yield Moment(picture, start, duration)
                start += duration

        return Facts(path, image.width * image.height, image.n_frames, loop=image.info.get("loop")), read

    def _video(self, path: str) -> tuple[Facts, Callable[[], Iterator[Moment]]]:
        container, stream = self.enter_context(opened(path))
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        seconds = (stream.duration * stream.time_base if stream.duration
                   else length_of(stream.metadata.get("DURATION", "")))
        frames, positions = stream.frames or int(seconds * rate), stream.width * stream.height or 1
        facts = Facts(path, positions, frames, seconds, 0, rate, stream.time_base, stream)

        def read() -> Iterator[Moment]:
            last = None
            for frame in container.decode(stream):
                shown = (frame.duration or 0) * frame.time_base or 1 / rate
                start = (frame.pts or 0) * frame.time_base
                if last is not None and (container.format.name == "avi" or start <= last):
                    start = last + 1 / rate  # there are no times, or they are in another order
                yield Moment(upright(frame), start, shown)
                last = start

        return facts, read


@contextmanager
def opened_writer(file: IO[bytes], target: Path, facts: Facts, size: tuple[int, int],
                  problems: list[str]) -> Iterator[Any]:
    """A writer for frames of one size; `problems` gets what has to be left out."""
    suffix = target.suffix.lower()
    if suffix in animations.FORMATS:
        animation = AnimationWriter(animations.FORMATS[suffix](file, size, facts.loop))
        yield animation
        animation.writer.end()
        return
    import av

    kind, codecs = CONTAINERS[suffix]
    codec = next((codec for codec in codecs if codec in av.codecs_available), None)
    if codec is None:
        raise ImageError(facts.path, f"{suffix[1:]} needs one of the codecs {', '.join(codecs)}, and PyAV has none of "
                                     f"them here; --to gif needs none")
    with av.open(file, "w", format=kind) as container:
        video = VideoWriter(container, codec, facts, size, problems)
        yield video
        video.end()


class AnimationWriter:
    """Frames of an animation, which follow each other without gaps."""

    def __init__(self, writer: Any):
        self.writer = writer

    def add(self, picture: Image.Image, start: Fraction, duration: Fraction) -> None:
        """Append a frame."""
        self.writer.add(picture, float(duration))


class VideoWriter:
    """Frames of a video in the colours of its source, and the source's audio packets unchanged."""

    def __init__(self, container: Any, codec: str, facts: Facts, size: tuple[int, int], problems: list[str]):
        self.container, self.tick, self.like = container, facts.tick, facts.stream
        self.stream = container.add_stream(codec, rate=facts.rate, options=QUALITY[codec])
        self.stream.width, self.stream.height = size
        self.stream.pix_fmt = "yuv420p" if all(side % 2 == 0 for side in size) else "yuv444p"
        self.stream.codec_context.time_base = facts.tick
        if self.like is not None:
            for name in COLOURS:
                setattr(self.stream.codec_context, name, getattr(self.like.codec_context, name))
        self.sound = Sound(facts.path, container, problems) if self.like is not None else None

    def add(self, picture: Image.Image, start: Fraction, duration: Fraction) -> None:
        """Append a frame, and the sound up to it."""
        import av
        from av.video.reformatter import ColorRange, Colorspace

        context = self.stream.codec_context
        frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), format="rgb24")
        space = context.colorspace if context.colorspace in [space.value for space in Colorspace] else None
        frame = frame.reformat(format=self.stream.pix_fmt, dst_colorspace=space, src_color_range=ColorRange.JPEG,
                               dst_color_range=context.color_range or ColorRange.MPEG)
        frame.pts, frame.time_base = round(start / self.tick), self.tick
        frame.duration = round(duration / self.tick)
        self.container.mux(self.stream.encode(frame))
        if self.sound:
            self.sound.copy_until(start)

    def end(self) -> None:
        """Write what is left of both."""
        self.container.mux(self.stream.encode())
        if self.sound:
            self.sound.copy_until(None)


class Sound:
    """The audio tracks of a file, copied packet by packet."""

    def __init__(self, path: str, container: Any, problems: list[str]):
        import av

        self.output, self.source = container, open_container(path)
        self.copies = {}
        for track in self.source.streams.audio:
            try:
                self.copies[track.index] = container.add_stream_from_template(track)
            except (ValueError, av.error.FFmpegError) as error:
                problems.append(f"its audio track {track.index} ({track.codec_context.name}) can't be copied into this "
                                f"format and is left out: {one_line(error)}")
        tracks = [self.source.streams[index] for index in self.copies]
        self.packets = self.source.demux(*tracks) if tracks else iter(())
        self.next: Any = None

    def copy_until(self, moment: Fraction | None) -> None:
        """Copy the packets up to a moment in seconds, all that are left for None."""
        while (packet := self.next or next(self.packets, None)) is not None:
            self.next = None
            if packet.dts is None:  # the end of a track
                continue
            if moment is not None and packet.dts * packet.time_base > moment:
                self.next = packet
                return
            packet.stream = self.copies[packet.stream.index]
            self.output.mux(packet)
        self.source.close()
