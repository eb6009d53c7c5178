"""Read an image file into an (H, W, C) array of uint8, uint16 or float32, without losing depth."""

import os
import re
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from util.errors import ImageError, is_away, one_line
from util.notices import notice

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601-2, as Pillow has it


OWN_MODE = {"1": "L", "LA": "L", "L": "L", "RGBA": "RGBA"}  # all others are read as colour


def read_image(path: str, channels: int | None) -> np.ndarray:
    """(H, W, channels), or all channels of the file for None; raises ImageError if it can't be read so."""
    try:
        if os.path.getsize(path) == 0:
            raise ImageError(path, "is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is raised
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            array = _read(path, channels)
    except ImageError:
        raise
    except Exception as error:  # decoders raise almost anything, even tokenize.TokenError
        raise ImageError(path, f"can't be read: {one_line(error)}", is_away(error)) from error
    return array if channels is None else _with_channels(array, channels, path)


def _read(path: str, channels: int | None) -> np.ndarray:
    with open(path, "rb") as file:  # the first bytes are more reliable than the name
        head = file.read(64)
    if head.startswith(b"\x93NUMPY"):
        return _as_picture(np.load(path, allow_pickle=False))
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and (array := _read_tiff(path, channels)) is not None:
        return _as_picture(array)
    if _is_deep_colour(head):
        raise ImageError(path, "has colours of 16 bits, which Pillow cuts to 8; save it as .tif or .npy")
    with Image.open(path) as image:
        return _from_pillow(ImageOps.exif_transpose(image), image.format, channels, path)


def _is_deep_colour(head: bytes) -> bool:
    """A 16-bit colour PNG or PPM, of which Pillow silently keeps 8 bits."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return len(head) > 25 and head[24] == 16 and head[25] != 0
    fields = re.sub(rb"#[^\n]*\n", b" ", head).split()
    return fields[:1] in ([b"P6"], [b"P3"]) and len(fields) > 3 and fields[3].isdigit() and int(fields[3]) > 255


def _read_tiff(path: str, channels: int | None) -> np.ndarray | None:
    """The pixels, or None for an ordinary picture, which Pillow reads in every compression and colour space."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        samples, single = page.samplesperpixel, len(file.pages) == 1
        kept = page.dtype == np.uint8 and samples <= 4 and (samples, channels) != (2, 2)
        ordinary = page.bitspersample == 1 or kept
        if single and ordinary:
            return None
        try:
            array, axes = file.series[0].asarray(), file.series[0].axes
        except ValueError:  # tifffile lacks a library for this compression; Pillow keeps 16-bit grey
            if single and samples == 1 and page.dtype == np.uint16:
                return None
            raise
        if page.photometric == 0 and array.dtype.kind == "u":  # white is zero
            array = np.iinfo(array.dtype).max - array
        orientation = int(page.tags[274].value) if 274 in page.tags else 1
    # Channels are samples of a pixel (YXS), planes (SYX) or pages; of pages and rows, the fewer are the channels.
    planes = array.ndim == 3 and axes != "YXS" and (axes == "SYX" or array.shape[0] < array.shape[2])
    return _oriented(np.moveaxis(array, 0, -1) if planes else array, orientation)


def _oriented(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the orientation tag of TIFF and EXIF, 1 to 8, to (H, W) or (H, W, C)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _as_picture(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) of any number type -> (H, W, C) in one of the three depths."""
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"an image has the shape (H, W) or (H, W, C), not {array.shape}")
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.dtype in (np.uint8, np.uint16, np.float32) else array.astype(np.float32)


def _from_pillow(image: Image.Image, file_format: str | None, channels: int | None, path: str) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and file_format in ("PNG", "PPM")):
        return _as_picture(np.asarray(image).astype(np.uint16))
    if mode in ("I", "F"):
        return _as_picture(np.asarray(image, dtype=np.float32))
    if mode == "P" and "transparency" in image.info:
        image, mode = image.convert("RGBA"), "palette with transparency"
    if mode == "LAB":
        image = image.convert("RGB")  # the only mode that Pillow converts it to
    if channels is None:
        return _as_picture(np.asarray(image.convert(OWN_MODE.get(mode, "RGB"))))
    target = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels, image.mode)
    if mode not in ("L", "RGB", target):
        notice(f"mode {mode}", f"{path} is a {mode} image and is read as {target} (further ones too)")
    if mode == "L" and target == "RGB":
        return _as_picture(np.asarray(image))
    if target == "RGBA" and image.mode != "RGBA":
        return _as_picture(np.asarray(image))  # a missing alpha channel can't be invented
    return _as_picture(np.asarray(image.convert(target)))


def _with_channels(array: np.ndarray, channels: int, path: str) -> np.ndarray:
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
