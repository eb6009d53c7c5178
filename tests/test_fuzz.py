"""Thousands of damaged files and command lines: each is read, or refused in one line, and nothing else."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import tifffile
import torch
from conftest import TINY, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.reading import read_image
from options.passes import read_config
from options.record import read_record
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util import checkpoint, notices
from util.errors import ImageError, UsageError

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def fuzz(cases):
    """The same cases in each run, an eighth of them unless FUZZ=full; nothing kept."""
    cases = cases if os.environ.get("FUZZ") == "full" else cases // 8
    return settings(max_examples=cases, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)


@st.composite
def damaged(draw, content):
    """A file with some bytes changed, a piece cut out or doubled, or the end missing."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["set", "cut", "end", "double", "insert"]))
        if kind == "set":
            data[at : at + size] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut":
            del data[at : at + size]
        elif kind == "end":
            del data[at:]
        elif kind == "double":
            data[at:at] = data[at : at + size]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(data)


def encoded():
    """A small picture in every format that is read."""
    rgb = picture(12, 9)
    colour, grey = Image.fromarray(rgb), Image.fromarray(rgb[:, :, 0].astype(np.uint16))
    kinds = {name: (colour, name, {}) for name in ("png", "jpeg", "bmp", "webp", "ppm", "tiff")}
    kinds |= {
        "palette": (colour.convert("P"), "png", {}),
        "16 bits": (grey, "png", {}),
        "compressed": (colour, "tiff", {"compression": "tiff_lzw"}),
        "cmyk": (colour.convert("CMYK"), "jpeg", {}),
    }
    buffers = {name: io.BytesIO() for name in (*kinds, "float", "planes", "npy")}
    for name, (image, kind, more) in kinds.items():
        image.save(buffers[name], format=kind, **more)
    tifffile.imwrite(buffers["float"], rgb.astype(np.float32), photometric="rgb")
    tifffile.imwrite(buffers["planes"], np.zeros((6, 9, 12), np.uint16), photometric="minisblack")
    np.save(buffers["npy"], rgb)
    return {name: buffer.getvalue() for name, buffer in buffers.items()}


IMAGES = encoded()


@fuzz(1500)
@given(st.data(), st.sampled_from(sorted(IMAGES)), st.sampled_from([1, 3, None]))
def test_images(data, name, channels):
    path = Path("image.bin")
    path.write_bytes(data.draw(damaged(IMAGES[name])))
    notices._seen.clear()
    try:
        array = read_image(str(path), channels)
    except ImageError as error:
        assert error.path == "image.bin"
        assert "\n" not in str(error)
    else:
        assert array.ndim == 3 and array.size
        assert array.dtype in (np.uint8, np.uint16, np.float32)
        assert channels in (None, array.shape[2])


def saved(value, **how):
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}
CHECKPOINTS = [saved(STATE), saved(STATE, _use_new_zipfile_serialization=False), saved({"epoch": 3, "nets": [STATE]})]


@fuzz(1500)
@given(st.data(), st.sampled_from(CHECKPOINTS))
def test_checkpoints(data, content):
    path = Path("x_net_G.pth")
    path.write_bytes(data.draw(damaged(content)))
    try:
        checkpoint.clean_state_dict(checkpoint.load(path), path)
    except UsageError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_a_checkpoint_runs_no_code(tmp_path):
    """Neither a pickle that calls something, in both formats, nor one inside an archive that leads elsewhere."""
    target = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (target,))

    for number, content in enumerate(
        (saved({"x": Evil()}), saved({"x": Evil()}, _use_new_zipfile_serialization=False))
    ):
        path = tmp_path / f"{number}_net_G.pth"
        path.write_bytes(content)
        try:
            checkpoint.load(path)
        except UsageError as error:
            assert "more than plain values and tensors" in str(error)
        else:
            raise AssertionError("it was loaded")
    path = tmp_path / "x_net_G.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../ran", struct.pack("<q", 0))
    try:
        checkpoint.load(path)
    except UsageError:
        assert not target.exists()


OPTIONS = (
    "lr netG norm batch_size crop_size load_size preprocess direction n_epochs epoch suffix name gpu_ids device "
    "range_A depth_B lambda_L1 no_flip keep save_minutes grad_clip phase seed"
).split()
NAMES = [word for name in OPTIONS for word in (f"--{name}", f"-{name}", f"--{name[:-1]}")]
WORDS = (
    "0|1|-1|1e309|nan|| |true|auto|64x64|64x|0:1|5:2|..|/|unet_64|batch|none|AtoB|cpu|cuda:0|{model}|{|{0}|a/b|\0|é|٣"
).split("|")
VALUES = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.integers(-(10**12), 10**12).map(str),
    st.floats().map(str),
)


@fuzz(700)
@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES, st.booleans()), max_size=4), st.booleans())
def test_options(words, train):
    argv = [token for name, value, joined in words for token in ([f"{name}={value}"] if joined else [name, value])]
    base = ["--model", "pix2pix", *TINY] if train else ["--model", "test"]
    try:
        opt = (TrainOptions() if train else TestOptions()).parse([*base, "--dataroot", "x", *argv])
    except UsageError as error:
        assert "\n" not in str(error).replace("\\n", "") or any("\n" in value for _, value, _ in words)
    else:
        assert opt.crop_size and opt.name


@fuzz(300)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode),
                 damaged(b"netG: unet_64\nlr: 2e-4\nno_flip: true\nname: run\n")))
def test_configs_and_records(content):
    folder = Path("checkpoints/run")
    folder.mkdir(parents=True, exist_ok=True)
    for path, read in (("c.yaml", lambda: read_config("c.yaml")), ("c.json", lambda: read_config("c.json")),
                       (folder / "train_opt.json", lambda: read_record("checkpoints", "run"))):
        Path(path).write_bytes(content)
        try:
            assert isinstance(read(), dict)
        except UsageError as error:
            assert str(path) in str(error)
