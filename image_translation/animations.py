"""Animated GIF, PNG and WebP files, written frame by frame: memory does not grow with their length."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import GifImagePlugin, Image

QUALITY = 90  # of WebP


class Gif:
    """GIF89a, each frame with its own palette of 256 colours."""

    def __init__(self, file: IO[bytes], size: tuple[int, int], loop: int | None):
        """`loop`: how often it is played, 0 for ever, None once."""
        self.file, self.owed = file, 0.0
        file.write(b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0))
        if loop is not None:
            file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", loop, 0))

    def add(self, picture: Image.Image, seconds: float) -> None:
        """Append a frame; times are multiples of 10 ms, whose rounding the next frame makes up for."""
        self.owed += seconds * 100
        steps = max(1, round(self.owed))
        self.owed -= steps
        reduced = picture.quantize(256)
        self.file.writelines(GifImagePlugin.getdata(reduced, duration=steps * 10, include_color_table=True))

    def end(self) -> None:
        """Complete the file."""
        self.file.write(b";")


class Apng:
    """Animated PNG: https://www.w3.org/TR/png-3/#apng-frame-based-animation."""

    def __init__(self, file: IO[bytes], size: tuple[int, int], loop: int | None):
        self.file, self.size, self.loop = file, size, 1 if loop is None else loop
        self.frames = self.chunks = 0

    def add(self, picture: Image.Image, seconds: float) -> None:
        """Append a frame."""
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        chunks = list(png_chunks(encoded.getvalue()))
        if not self.frames:
            self.file.write(b"\x89PNG\r\n\x1a\n")
            self._chunk(b"IHDR", next(data for name, data in chunks if name == b"IHDR"))
            self.control = self.file.tell()
            self._chunk(b"acTL", struct.pack(">II", 0, self.loop))
        self._chunk(b"fcTL", struct.pack(">IIIIIHHBB", self._next(), *self.size, 0, 0,
                                         min(65535, round(seconds * 1000)), 1000, 0, 0))
        for data in (data for name, data in chunks if name == b"IDAT"):
            if self.frames:
                self._chunk(b"fdAT", struct.pack(">I", self._next()) + data)
            else:
                self._chunk(b"IDAT", data)
        self.frames += 1

    def _next(self) -> int:
        self.chunks += 1
        return self.chunks - 1

    def _chunk(self, name: bytes, data: bytes) -> None:
        self.file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))

    def end(self) -> None:
        """Complete the file: only now the number of frames is known."""
        self._chunk(b"IEND", b"")
        self.file.seek(self.control)
        self._chunk(b"acTL", struct.pack(">II", self.frames, self.loop))


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, data) of each chunk of a PNG."""
    at = 8
    while at < len(content):
        length, = struct.unpack_from(">I", content, at)
        yield content[at + 4:at + 8], content[at + 8:at + 8 + length]
        at += 12 + length


class Webp:
    """Animated WebP: https://developers.google.com/speed/webp/docs/riff_container."""

    def __init__(self, file: IO[bytes], size: tuple[int, int], loop: int | None):
        self.file, self.size, self.owed = file, size, 0.0
        corner = b"".join(int(side - 1).to_bytes(3, "little") for side in size)
        file.write(b"RIFF\0\0\0\0WEBP")
        self._chunk(b"VP8X", bytes([0x02, 0, 0, 0]) + corner)
        self._chunk(b"ANIM", struct.pack("<IH", 0, 1 if loop is None else loop))

    def add(self, picture: Image.Image, seconds: float) -> None:
        """Append a frame."""
        self.owed += seconds * 1000
        milliseconds = max(1, round(self.owed))
        self.owed -= milliseconds
        encoded = io.BytesIO()
        picture.convert("RGB").save(encoded, "WEBP", quality=QUALITY)
        sides = b"".join(int(number).to_bytes(3, "little") for number in
                         (0, 0, self.size[0] - 1, self.size[1] - 1, milliseconds))
        self._chunk(b"ANMF", sides + bytes([0x02]) + encoded.getvalue()[12:])

    def _chunk(self, name: bytes, data: bytes) -> None:
        self.file.write(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2))

    def end(self) -> None:
        """Complete the file: only now its length is known."""
        length = self.file.tell() - 8
        self.file.seek(4)
        self.file.write(struct.pack("<I", length))


FORMATS = {".gif": Gif, ".png": Apng, ".apng": Apng, ".webp": Webp}
