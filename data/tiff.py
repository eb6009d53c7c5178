"""Read TIFF by its structure: tags, pages and axes, never by guessing from sizes."""

import contextlib
import logging
from typing import Any

import numpy as np

from util.errors import ImageError
from util.images import open_picture
from util.notices import notice

GREY, RGB, PALETTE, CMYK, YCBCR, LAB = (0, 1), 2, 3, 5, 6, 8  # photometric interpretations; 0: white is zero
LOSSLESS = ((np.uint8, 8), (np.uint16, 16), (np.float32, 32))  # grey that Pillow keeps
AXES = {"T": "time", "Z": "depth"}
ORIENTATION, NODATA = 274, 42113                              # tags; the second is GDAL's


def read_tiff(path: str, channels: int | None, limit: int, values: list[float],
              by_pillow: bool = True) -> tuple[np.ndarray | None, np.ndarray | None, float | None]:
    """Pixels (H, W) or (H, W, C), the mask of missing data (None if there is none), and the value that marks it.

    That value is in `values` or in GDAL's tag. The pixels are None for a picture of up to 8 bits per sample, which the
    caller reads with Pillow, unless a value marks missing data or `by_pillow` is off. Raises ImageError if the file
    can't be read or has more than `limit` bytes.
    """
    import tifffile

    logging.getLogger("tifffile").addFilter(_silent)  # what matters is raised
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        with contextlib.suppress(KeyError, ValueError, TypeError):
            values = [*values, float(str(page.tags[NODATA].value).strip("\0 "))]
        planes = _planes(file.series[0], path)
        whole = len(file.series[0].pages) <= max(planes)  # one page stands for all, which are stored one after another
        size = file.series[0].nbytes if whole else len(planes) * page.size * page.dtype.itemsize if page.dtype else 0
        if size > limit:
            raise ImageError(path, f"holds {size / 2 ** 20:.0f} MiB, more than --max_megapixels allows")
        picture = by_pillow and _is_picture(page, channels, len(planes))
        if picture and not (values and _is_raw(page)):
            return None, None, None
        try:
            samples = _decoded(path, file, planes, whole)
        except ImageError:
            if picture:
                return None, None, None
            raise
        orientation = int(page.tags[ORIENTATION].value) if ORIENTATION in page.tags else 1
        array, holes = _oriented(_in_colour(samples, page, path), orientation), missing(samples, values)
    return array, None if holes is None else _oriented(holes, orientation), (*values, None)[0]


def missing(samples: np.ndarray, values: list[float]) -> np.ndarray | None:
    """Mask of raw samples that are not finite or equal one of these values; None if there are none."""
    found = [~np.isfinite(samples)] if samples.dtype.kind == "f" else []
    for value in values:
        if samples.dtype.kind == "f":
            found.append(samples == samples.dtype.type(value))
        elif float(value).is_integer():
            found.append(samples == int(value))
    return np.logical_or.reduce(found) if any(holes.any() for holes in found) else None


def _silent(record: logging.LogRecord) -> bool:
    return False


def _planes(series: Any, path: str) -> list[int]:
    """The numbers of the pages to read: one per channel, or the first.

    Grey pages are channels if the file labels them so or does not label them. Of a stack in time or depth, and of
    colour pages, only the first is read.
    """
    lead = [(axis, length) for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
    grey = "S" not in series.axes and series.pages[0].photometric in GREY
    are_channels = [grey and axis in "CIQ" for axis, _ in lead]
    for (axis, length), is_channel in zip(lead, are_channels, strict=True):
        if length > 1 and not is_channel:
            notice(f"stack {axis}", f"{path} is a stack of {length} images ({AXES.get(axis, 'pages')}), of which the "
                                    f"first is read (further ones too)")
    numbers = np.arange(int(np.prod([length for _, length in lead]))).reshape([length for _, length in lead])
    return numbers[tuple(slice(None) if is_channel else 0 for is_channel in are_channels)].reshape(-1).tolist()


def _is_picture(page: Any, channels: int | None, planes: int) -> bool:
    """Whether Pillow decodes a page correctly: at most 8 bits per sample, and a fourth sample declared as alpha."""
    bits, samples, alpha = page.bitspersample, page.samplesperpixel, bool(page.extrasamples and page.extrasamples[0])
    if bits > 8 or page.sampleformat != 1 or planes > 1:
        return False
    if page.photometric in GREY:
        return samples == 1 or (samples == 2 and alpha and channels != 2)
    fourth = samples == 4 and (alpha or (channels in (1, 3) and page.planarconfig == 1))
    return page.photometric != RGB or samples == 3 or fourth


def _is_raw(page: Any) -> bool:
    """Whether raw samples can stand for the picture: colours or palette indices, no alpha to apply."""
    premultiplied = page.extrasamples and page.extrasamples[0] == 1
    return (page.bitspersample == 8 and page.samplesperpixel != 2 and page.photometric in (*GREY, RGB, PALETTE)
            and not premultiplied)


def _decoded(path: str, file: Any, planes: list[int], whole: bool) -> np.ndarray:
    """Raw samples (H, W) or (H, W, C); decoded by Pillow if tifffile lacks a codec and Pillow keeps the depth."""
    page, series = file.pages[0], file.series[0]
    try:
        if not whole:
            array = file.asarray(key=planes if len(planes) > 1 else planes[0], series=0)
        else:
            array = series.asarray().reshape(-1, *page.shape)[planes].squeeze(0 if len(planes) == 1 else ())
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        try:
            if page.samplesperpixel > 1 or (page.dtype, page.bitspersample) not in LOSSLESS:
                raise ValueError("Pillow would lose depth")
            array = np.stack([_frame(path, number) for number in planes]).squeeze(0 if len(planes) == 1 else ())
        except Exception:
            raise ImageError(path, f"is compressed with {page.compression.name} ({page.bitspersample} bits) and needs "
                                   f'an extra: pip install -e ".[codecs]"') from error
    first = array.ndim == 3 and (len(planes) > 1 or page.axes == "SYX")
    return np.moveaxis(array, 0, -1) if first else array


def _frame(path: str, number: int) -> np.ndarray:
    """One grey page (H, W), decoded by Pillow, without its inversion of white-is-zero, which `_in_colour` does."""
    image: Any
    with open_picture(path) as image:
        image.seek(number)
        array = np.asarray(image)
        inverted = image.tag_v2.get(262) == 0 and image.mode == "L"
        return 255 - array if inverted else array


def _in_colour(array: np.ndarray, page: Any, path: str) -> np.ndarray:
    """Raw samples as grey with black at zero, or as RGB; raises ImageError for other colour spaces."""
    if page.photometric == 0 and array.dtype.kind == "u":
        return np.asarray(2 ** page.bitspersample - 1, array.dtype) - array
    if page.photometric == PALETTE and page.samplesperpixel == 1:
        return (np.moveaxis(page.colormap, 0, -1)[array] >> 8).astype(np.uint8)
    if page.photometric == CMYK and page.samplesperpixel >= 4 and array.dtype.kind == "u":
        top = float(np.iinfo(array.dtype).max)
        ink = array[..., :4].astype(np.float64) / top
        return np.rint((1 - ink[..., :3]) * (1 - ink[..., 3:]) * top).astype(array.dtype)
    if page.photometric in (*GREY, RGB):
        return array
    name = getattr(page.photometric, "name", page.photometric)
    raise ImageError(path, f"has colours of the kind {name} with {page.bitspersample} bits, which are not read; save "
                           f"it as grey or RGB")


def _oriented(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the orientation tag of TIFF and EXIF, 1 to 8, to (H, W) or (H, W, C)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
