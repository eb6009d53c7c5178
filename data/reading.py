"""Read an image file into an (H, W, C) array of uint8, uint16 or float32, without losing depth."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from data.film import read_frame
from data.tiff import missing, read_tiff
from util.errors import ImageError, is_away, one_line
from util.frames import file_of, frame_of
from util.images import open_picture
from util.notices import notice

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601-2, as Pillow has it
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PLAIN = {"1": "L", "L": "L", "La": "LA", "LA": "LA", "RGBa": "RGBA", "RGBA": "RGBA", "PA": "RGBA"}  # others are RGB


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    megapixels: float = 256       # the largest size, in millions of pixels of 4 bytes
    keep_profile: bool = False    # do not convert colours to sRGB
    nodata: float | None = None   # a value that means no data, besides the one that a file names

    @property
    def missing(self) -> list[float]:
        """The value of --nodata, if there is one."""
        return [] if self.nodata is None else [self.nodata]

    @property
    def limit(self) -> int:
        """The largest size in bytes."""
        return int(self.megapixels * 4e6)


class Pixels(NamedTuple):
    """An image, the mask of its missing data and the value that marks it; both None if nothing is missing."""

    array: np.ndarray            # (H, W, C)
    holes: np.ndarray | None     # (H, W, C) of bool
    nodata: float | None


def read_image(path: str, channels: int | None, how: Reading = Reading()) -> np.ndarray:
    """(H, W, channels), or all channels of the file for None; raises ImageError if it can't be read so."""
    return read_pixels(path, channels, how).array


def read_pixels(path: str, channels: int | None, how: Reading) -> Pixels:
    """The same with the mask of missing data: NaN, infinity, the value of GDAL's tag, and `how.nodata`."""
    with _decoding(path):
        array, holes, value = _read(path, channels, how)
        array = as_picture(array)
    return with_holes(array if channels is None else with_channels(array, channels, path), holes, value)


def read_index(path: str, how: Reading) -> np.ndarray:
    """(H, W, 1) of the numbers in a palette or grey image, whatever its colours are; raises ImageError."""
    with _decoding(path), open_picture(path) as image:
        return index_of(ImageOps.exif_transpose(_of_fitting_size(image, path, how)), path)


@contextmanager
def _decoding(path: str) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into an ImageError; an empty file is one, too."""
    try:
        if os.path.getsize(file_of(path)) == 0:
            raise ImageError(path, "is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is raised
            yield
    except ImageError:
        raise
    except Exception as error:  # decoders raise almost anything, even tokenize.TokenError
        raise ImageError(path, f"can't be read: {one_line(error)}", is_away(error)) from error


def index_of(image: Image.Image, path: str) -> np.ndarray:
    """(H, W, 1) of the numbers in a Pillow image; raises ImageError for colours."""
    array = np.asarray(image)
    if array.ndim != 2 or array.dtype.kind == "f":
        raise ImageError(path, f"is a {image.mode} image, and classes and instances are numbers: a palette or a grey "
                               f"image")
    return array[:, :, None].astype(np.uint8 if array.dtype == bool else array.dtype)


def with_holes(array: np.ndarray, holes: np.ndarray | None, nodata: float | None) -> Pixels:
    """(H, W, C) pixels with the mask of their missing data, (H, W) or (H, W, any number of channels)."""
    if holes is None:
        return Pixels(array, None, None)
    holes = holes[:, :, None] if holes.ndim == 2 else holes
    if holes.shape != array.shape:
        holes = np.repeat(holes.any(2, keepdims=True), array.shape[2], axis=2)
    return Pixels(array, holes, float("nan") if nodata is None else nodata)


Read = tuple[np.ndarray, np.ndarray | None, float | None]  # pixels, mask of missing data, value that marks it


def _read(path: str, channels: int | None, how: Reading) -> Read:
    if frame := frame_of(path):
        array, _ = from_pillow(_of_fitting_size(read_frame(frame), path, how), None, channels, path, how)
        return array, None, None
    with open(path, "rb") as file:  # the first bytes are more reliable than the name
        head = file.read(64)
        head += file.read(2 ** 20) if head[:2] in (b"P3", b"P5", b"P6") else b""  # whose comments may be long
    if head.startswith(b"\x93NUMPY"):
        array = _from_numpy(path, how)
        return array, missing(array, how.missing), how.nodata
    is_tiff = head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if is_tiff:
        samples, holes, value = read_tiff(path, channels, how.limit, how.missing)
        if samples is not None:
            return samples, holes, value
    if _is_deep_colour(head):
        raise ImageError(path, "has colours of 16 bits, which Pillow cuts to 8; save it as .tif or .npy")
    if head[4:8] == b"ftyp" and path.lower().endswith((".heic", ".heif")):
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        return _by_pillow(path, channels, how, head)
    except UnidentifiedImageError:
        if not is_tiff:
            raise
        samples, holes, value = read_tiff(path, channels, how.limit, how.missing, by_pillow=False)
        return np.asarray(samples), holes, value


def _by_pillow(path: str, channels: int | None, how: Reading, head: bytes) -> Read:
    image: Any
    with open_picture(path) as image:
        _of_fitting_size(image, path, how)
        if getattr(image, "n_frames", 1) > 1 and image.format in ("GIF", "WEBP", "PNG", "AVIF"):
            notice("frames", f"{path} is an animation of {image.n_frames} frames, of which the first is read (further "
                             f"ones too)")
        array, own = from_pillow(ImageOps.exif_transpose(image), image.format, channels, path, how)
    if head.startswith(b"P5") and array.dtype == np.uint16:  # Pillow stretches it to 65535
        array = np.rint(array * (int(_fields(head)[3]) / 65535)).astype(np.uint16)
        own = array
    return array, missing(own, how.missing), how.nodata


def _of_fitting_size(image: Image.Image, path: str, how: Reading) -> Image.Image:
    if image.width * image.height > how.megapixels * 1e6:
        raise ImageError(path, f"is {image.width}x{image.height}, more than --max_megapixels {how.megapixels:g}")
    return image


def _from_numpy(path: str, how: Reading) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.nbytes > how.limit:
        raise ImageError(path, f"holds {array.nbytes / 2 ** 20:.0f} MiB, more than --max_megapixels "
                               f"{how.megapixels:g} allows")
    return np.array(array)


def _is_deep_colour(head: bytes) -> bool:
    """A 16-bit colour PNG or PPM, of which Pillow silently keeps 8 bits."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return len(head) > 25 and head[24] == 16 and head[25] != 0
    fields = _fields(head)
    return fields[:1] in ([b"P6"], [b"P3"]) and len(fields) > 3 and fields[3].isdigit() and int(fields[3]) > 255


def _fields(head: bytes) -> list[bytes]:
    """The words at the start of a PPM or PGM: its kind, width, height and greatest value."""
    return re.sub(rb"#[^\n]*\n", b" ", head).split(maxsplit=4)[:4] if head[:1] == b"P" else []


def as_picture(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of any real number type -> (H, W, C) in one of the three depths."""
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"an image has the shape (H, W) or (H, W, C), not {array.shape}")
    if array.dtype.kind not in "buif":
        raise ValueError(f"pixels are numbers, not {array.dtype}")
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.dtype in (np.uint8, np.uint16, np.float32) else array.astype(np.float32)


def from_pillow(image: Image.Image, file_format: str | None, channels: int | None, path: str,
                 how: Reading) -> tuple[np.ndarray, np.ndarray]:
    """The pixels, converted to `channels` where Pillow can, and before that conversion, without alpha."""
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and file_format in ("PNG", "PPM")):
        array = np.asarray(image).astype(np.uint16)
        return array, array
    if mode in ("I", "F"):
        array = np.asarray(image)
        return array.astype(np.float32), array
    transparent = "transparency" in image.info
    plain = "RGBA" if transparent and (mode == "P" or channels == 4) else PLAIN.get(mode, "RGB")
    if not how.keep_profile:
        image = _in_srgb(image, path)
    image = image.convert(plain) if image.mode != plain else image  # a palette, CMYK, YCbCr, Lab
    own = np.asarray(image)
    own = own[:, :, :-1] if plain in ("LA", "RGBA") else own  # alpha does not mark missing data
    target = plain if channels is None else MODES.get(channels, plain)
    if channels is None and plain == "LA":
        target = "L"
    if plain == "L" and target == "RGB":
        return own, own  # with a notice, when it gets three channels
    if mode not in ("L", "RGB", target):
        notice(f"mode {mode}", f"{path} is a {mode} image and is read as {target} (further ones too)")
    elif target == "RGBA" and plain != "RGBA":
        notice("opaque", f"{path} has no alpha channel and is read as opaque (further ones too)")
    return np.asarray(image.convert(target)), own


def _in_srgb(image: Image.Image, path: str) -> Image.Image:
    """The colours of an embedded profile in sRGB; without one, or of grey images, unchanged."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return image
        mode = "RGB" if image.mode == "CMYK" else image.mode
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notice("bad profile", f"{path} has a colour profile that can't be used ({one_line(error)}) and is read without "
                              f"it (further ones too)")
        return image
    notice(f"profile {name}", f"{path} has the colour profile '{name}' and is converted to sRGB (further ones too); "
                              f"--keep_profile reads its values unchanged")
    return converted or image


def with_channels(array: np.ndarray, channels: int, path: str) -> np.ndarray:
    found = array.shape[2]
    if found == channels:
        return array
    if found == 1 and channels == 3:
        notice("grey", f"{path} is grey and gets three equal channels (further ones too); --input_nc 1 --output_nc 1 "
                       f"trains on grey images")
        return np.repeat(array, 3, axis=2)
    if found == 4 and channels == 3:
        notice("alpha", f"{path} has four channels, the last is dropped (further ones too)")
        return array[:, :, :3]
    if found in (3, 4) and channels == 1:
        grey = (array[:, :, :3] @ LUMA)[:, :, None]
        return grey if array.dtype == np.float32 else np.rint(grey).astype(array.dtype)
    raise ImageError(path, f"has {found} channels where {channels} are expected; see --input_nc and --output_nc")
