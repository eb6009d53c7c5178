"""Translations as files: names, formats, and what else was in the file of the original."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from util.errors import UsageError
from util.files import atomic
from util.images import QUICK, open_picture, save_exact
from util.notices import notice

HOLDS: dict[str, dict[str, tuple[int, ...]]] = {  # format -> depth -> numbers of channels
    **{suffix: {"uint8": (1, 3)} for suffix in (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".ppm")},
    **{suffix: {"uint8": (3, 4)} for suffix in (".webp", ".avif")},
    ".pgm": {"uint8": (1,)}, ".png": {"uint8": (1, 3, 4), "uint16": (1,)},
}
ANY = (".tif", ".tiff", ".npy")
QUALITY = 95                # of JPEG, WebP and AVIF, unless the original is a JPEG, whose tables are kept
ORIENTATION = 274           # the EXIF tag; pixels are turned when they are read
PLACE = (33550, 33922, 34264)                    # GeoTIFF: where the pixels lie
REFERENCE = (34735, 34736, 34737, 42112, 42113)  # in which coordinates, and GDAL's tags
ICC = 34675


def suffix_for(original: str, wanted: str | None, depth: str, channels: int) -> str:
    """The ending of a translation's name: `wanted`, else the original's if its format holds the translation.

    Raises UsageError if `wanted` can't hold it.
    """
    suffix = (wanted or original).lower()
    if suffix in ANY or channels in HOLDS.get(suffix, {}).get(depth, ()):
        return wanted or original
    other = ".png" if channels in HOLDS[".png"].get(depth, ()) else ".tif"
    what = f"{channels} channels of {depth}"
    if wanted:
        known = ", ".join(sorted({*HOLDS, *ANY}))
        raise UsageError(f"--to {wanted.removeprefix('.')} can't hold {what}; use {other.removeprefix('.')}"
                         if suffix in HOLDS else f"--to {wanted.removeprefix('.')} is not written; known: {known}")
    notice(f"format {suffix}", f"{original} can't be written with {what}; translations of such files are {other}")
    return other


def write(array: np.ndarray, original: str, target: Path, nodata: float | None, keep_profile: bool) -> None:
    """Write (H, W, C) under a name whose ending says the format, with what the original's file says of it."""
    suffix = target.suffix.lower()
    if suffix == ".npy":
        flat = array.shape[2] == 1 and original.lower().endswith(".npy") and _dimensions(original) == 2
        with atomic(target, "wb", lasting=False) as file:
            np.save(file, array[:, :, 0] if flat else array)
    elif suffix in ANY:
        _write_tiff(array, original, target, nodata)
    else:
        _write_picture(array, original, target, keep_profile)


def _dimensions(path: str) -> int:
    return int(np.load(path, mmap_mode="r", allow_pickle=False).ndim)


def _write_picture(array: np.ndarray, original: str, target: Path, keep_profile: bool) -> None:
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    kind = Image.registered_extensions()[target.suffix.lower()]
    options: dict[str, Any] = {"PNG": dict(QUICK), "JPEG": {"quality": QUALITY}, "WEBP": {"quality": QUALITY},
                               "AVIF": {"quality": QUALITY}}.get(kind, {})
    if not original.lower().endswith(".npy"):
        with open_picture(original) as source:
            options |= _of_original(source, kind, array.shape[2] == 1, keep_profile)
    with atomic(target, "wb", lasting=False) as file:
        picture.save(file, format=kind, **options)


def _of_original(source: Any, kind: str, grey: bool, keep_profile: bool) -> dict[str, Any]:
    """What an original in any format says that a file of this kind can repeat."""
    options: dict[str, Any] = {}
    if kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        exif = source.getexif()
        exif.pop(ORIENTATION, None)
        if len(exif):
            options["exif"] = exif.tobytes()
        if profile := _profile(source, grey, keep_profile):
            options["icc_profile"] = profile
    if kind in ("JPEG", "PNG", "BMP") and source.info.get("dpi", (0, 0))[0] > 0:
        options["dpi"] = tuple(map(float, source.info["dpi"]))
    if kind == source.format == "PNG":
        options["pnginfo"] = text = PngImagePlugin.PngInfo()
        for key, value in source.text.items():
            if isinstance(value, PngImagePlugin.iTXt):
                text.add_itxt(key, value, value.lang or "", value.tkey or "")
            else:
                text.add_text(key, value)
    if kind == source.format == "JPEG":
        options |= {"qtables": source.quantization, "quality": -1, "progressive": bool(source.info.get("progressive"))}
        if not grey and source.mode == "RGB":
            options["subsampling"] = JpegImagePlugin.get_sampling(source)
    return options


def _profile(source: Any, grey: bool, keep_profile: bool) -> bytes | None:
    """The colour profile of the translation: the original's, or sRGB's if its colours were converted to that."""
    profile = source.info.get("icc_profile")
    if not profile or grey != (source.mode in ("1", "L", "LA", "I;16", "I", "F")):
        return None
    if keep_profile or grey:
        return bytes(profile)
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        return None
    if "srgb" in name.lower():
        return bytes(profile)
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _write_tiff(array: np.ndarray, original: str, target: Path, nodata: float | None) -> None:
    import tifffile

    options: dict[str, Any] = {}
    with open(original, "rb") as file:
        is_tiff = file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if is_tiff:
        with tifffile.TiffFile(original) as source:
            options = _of_tiff(source.pages[0], array.shape, original)
    try:
        save_exact(array, target, nodata, **options)
    except (ImportError, KeyError, ValueError):  # without imagecodecs
        if "compression" not in options:
            raise
        name = options.pop("compression").name
        notice(f"codec {name}", f"{target} is compressed with deflate (further ones too); {name} needs an extra: pip "
                                f"install -e \".[codecs]\"")
        save_exact(array, target, nodata, compression="zlib", **options)


def _of_tiff(page: Any, shape: tuple[int, ...], original: str) -> dict[str, Any]:
    """Compression, resolution, date, profile and georeferencing of a TIFF, as arguments of `tifffile.imwrite`."""
    kept = [*REFERENCE, *PLACE] if (page.imagelength, page.imagewidth) == shape[:2] else list(REFERENCE)
    if len(kept) < len(REFERENCE + PLACE) and any(code in page.tags for code in PLACE):
        notice("place", f"the translation of {original} has another size and loses its georeference (further ones too)")
        kept = []
    kept += [ICC]
    tags = [page.tags[code] for code in kept if code in page.tags and code != 42113]
    options: dict[str, Any] = {"extratags": [(t.code, int(t.dtype), t.count, t.value, True) for t in tags]}
    if page.compression != 1:
        options["compression"] = page.compression
    if isinstance(date := page.tags.valueof(306), str):
        options["datetime"] = date
    if page.tags.valueof(282) and page.tags.valueof(283):
        fractions = page.tags[282].value, page.tags[283].value
        options["resolution"] = tuple(above / max(1, below) for above, below in fractions)
        options["resolutionunit"] = page.tags.valueof(296) or 2
    return options


def places(inputs: Iterable[tuple[str, str]], out: Path) -> dict[str, Path]:
    """Original -> translation, from pairs of a file and its path below `out`; raises UsageError for two of one name."""
    found: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for original, below in inputs:
        target = out / below
        if (other := taken.setdefault(target, original)) != original:
            raise UsageError(f"{other} and {original} would both become {target}; translate them into two folders, or "
                             f"give the folder that holds both")
        found[original] = target
    return found
