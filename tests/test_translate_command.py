"""image-translation translate: files in, files out, with their names, formats and what else they say."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import ROOT, picture, write, write_weights
from PIL import Image, ImageCms, PngImagePlugin

from image_translation import files, load
from image_translation.translate import main
from models.engine import hardware
from networks import define_G
from util.errors import UsageError

GEO = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 6e6, 0.0), True),
       (34735, "H", 4, (1, 1, 0, 0), True)]


@pytest.fixture(autouse=True)
def run(monkeypatch):
    """`checkpoints/r`: weights that describe themselves."""
    monkeypatch.setattr(hardware, "pick_amp", lambda amp, device: "off")
    write_weights("checkpoints/r/latest_net_G.pth")


def translate(*argv):
    return main(["r", *map(str, argv), "--device", "cpu"])


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_names_folders_and_pixels(capsys):
    for name in ("a.png", "below/b.PNG", "below/deeper/c.png"):
        write(f"in/{name}", picture(40, 30, seed=len(name)))
    write("other/x.png", picture(50, 20))
    assert translate("in", "other/*.png", "--out", "out") == 0
    made = load("r", device="cpu")
    for name in ("a.png", "below/b.PNG", "below/deeper/c.png"):
        assert abs(pixels(f"out/{name}") - np.asarray(made(f"in/{name}"))).max() <= 1
    assert pixels("out/x.png").shape == (20, 50, 3)
    assert "4 images translated: out" in capsys.readouterr().out


def test_jpeg_keeps_quality_exif_resolution_and_profile():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[306], exif[274] = "2026:11:27 10:00:00", 6
    Path("in").mkdir()
    for quality in (30, 95):
        Image.fromarray(picture(64, 48)).save(f"in/{quality}.jpg", quality=quality, exif=exif, dpi=(300, 300),
                                              icc_profile=srgb, subsampling=2 if quality == 30 else 0)
    assert translate("in", "--out", "out") == 0
    for quality in (30, 95):
        before, after = Image.open(f"in/{quality}.jpg"), Image.open(f"out/{quality}.jpg")
        assert after.format == "JPEG"
        assert after.quantization == before.quantization
        assert after.layer == before.layer
        assert after.size == (48, 64)  # upright
        assert (after.getexif()[306], after.getexif().get(274)) == ("2026:11:27 10:00:00", None)
        assert after.info["dpi"] == (300, 300)
        assert after.info["icc_profile"] == srgb


def test_a_profile_that_was_converted_becomes_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")).replace(b"sRGB", b"wide")
    assert other != srgb
    Path("in").mkdir()
    Image.fromarray(picture()).save("in/a.jpg", icc_profile=other)
    for more, expected in (((), "sRGB"), (("--keep_profile",), "wide")):
        assert translate("in/a.jpg", "--out", "out", "--overwrite", *more) == 0
        profile = io.BytesIO(Image.open("out/a.jpg").info["icc_profile"])
        assert expected in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(profile))


def test_png_keeps_its_text():
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "me")
    text.add_itxt("Title", "Grüße", "de", "Titel")
    Path("in").mkdir()
    Image.fromarray(picture()).save("in/a.png", pnginfo=text, dpi=(72, 72))
    assert translate("in/a.png", "--out", "out") == 0
    after = Image.open("out/a.png")
    assert (after.text["Author"], after.text["Title"], after.text["Title"].lang) == ("me", "Grüße", "de")
    assert after.info["dpi"] == pytest.approx((72, 72), abs=0.1)


def test_tiff_keeps_depth_compression_place_and_missing_data():
    torch.manual_seed(2)
    Path("checkpoints/deep").mkdir()
    torch.save(define_G(1, 1, 4, "resnet_2blocks", "instance", init_gain=0.3).state_dict(),
               "checkpoints/deep/latest_net_G.pth")
    array = (picture(40, 30, channels=1)[:, :, 0] * 100).astype(np.uint16)
    array[:5, :7] = 65535
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", array, compression="zlib", resolution=(300, 300), resolutionunit=2,
                     datetime="2026:11:27 10:00:00", extratags=[*GEO, (42113, "s", 0, "65535", True)])
    argv = ["deep", "in", "--out", "out", "--device", "cpu", "--depth_A", "uint16", "--range_A", "0:30000", "--depth_B",
            "uint16", "--range_B", "0:30000"]
    assert main(argv) == 0
    with tifffile.TiffFile("out/a.tif") as file:
        page = file.pages[0]
        assert (page.dtype, page.compression.name, page.shape) == (np.uint16, "ADOBE_DEFLATE", (30, 40))
        assert page.tags[33550].value == (10.0, 10.0, 0.0)
        assert page.tags[33922].value[3:5] == (5e5, 6e6)
        assert page.tags[306].value == "2026:11:27 10:00:00"
        assert page.tags[282].value[0] / page.tags[282].value[1] == 300
        assert page.tags[42113].value == "65535"
        made = page.asarray()
    assert (made[:5, :7] == 65535).all()
    assert (made[5:] < 40000).all()
    assert main([*argv, "--size", "trained", "--overwrite"]) == 0
    with tifffile.TiffFile("out/a.tif") as file:
        assert file.pages[0].shape == (256, 256)
        assert 33550 not in file.pages[0].tags


def test_npy_keeps_its_dimensions():
    Path("in").mkdir()
    np.save("in/a.npy", picture(40, 30))
    assert translate("in", "--out", "out") == 0
    made = np.load("out/a.npy")
    assert (made.dtype, made.shape) == (np.uint8, (30, 40, 3))


def test_formats_that_hold_it_and_those_that_do_not(capsys):
    Path("in").mkdir()
    image = Image.fromarray(picture())
    for suffix in ("bmp", "webp", "gif", "ppm", "png", "tif"):
        image.save(f"in/{suffix}.{suffix}")
    assert translate("in", "--out", "out") == 0
    assert sorted(path.name for path in Path("out").glob("[a-z]*")) == [
        "bmp.bmp", "gif.png", "png.png", "ppm.ppm", "tif.tif", "webp.webp"]
    told = ".gif can't be written with 3 channels of uint8; translations of such files are .png"
    assert told in capsys.readouterr().err
    assert translate("in/png.png", "--out", "jpg", "--to", "jpg") == 0
    assert Image.open("jpg/png.jpg").format == "JPEG"
    for word, message in (("pgm", "can't hold 3 channels of uint8; use png"), ("xyz", "--to xyz is not written")):
        with pytest.raises(UsageError, match=message):
            translate("in/png.png", "--out", "new", "--to", word)


def test_it_continues_where_it_was_and_redoes_what_changed(capsys):
    for i in range(3):
        write(f"in/{i}.png", picture(seed=i))
    assert translate("in", "--out", "out") == 0
    first = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    Path("out/1.png").unlink()
    os.utime("in/2.png", (time.time() + 100, time.time() + 100))
    capsys.readouterr()
    assert translate("in", "--out", "out") == 0
    assert "2 images translated, 1 already there" in capsys.readouterr().out
    assert Path("out/0.png").stat().st_mtime_ns == first[Path("out/0.png")]
    assert translate("in", "--out", "out", "--overwrite") == 0
    assert Path("out/0.png").stat().st_mtime_ns != first[Path("out/0.png")]


def test_what_another_run_has_left_is_not_done():
    for i in range(2):
        write(f"in/{i}.png", picture(seed=i))
    assert translate("in", "--out", "out") == 0
    old = pixels("out/1.png")
    os.utime("out/1.png", (time.time() - 100, time.time() - 100))
    os.utime("in/1.png", (time.time() - 200, time.time() - 200))
    Path("checkpoints/s").mkdir()
    torch.save(define_G(3, 3, 4, "resnet_2blocks", "instance", init_gain=0.3).state_dict(),
               "checkpoints/s/latest_net_G.pth")
    assert main(["s", "in/0.png", "--out", "out", "--overwrite", "--device", "cpu"]) == 0
    assert main(["s", "in", "--out", "out", "--device", "cpu", "--epoch", "latest"]) == 0
    assert abs(pixels("out/1.png") - old).max() > 1


def test_translations_inside_a_folder_are_not_translated_again():
    write("in/a.png", picture())
    for _ in range(2):
        assert translate("in", "--out", "in/made", "--overwrite") == 0
    assert [str(path) for path in Path("in/made").rglob("*.png")] == ["in/made/a.png"]


def test_nothing_is_overwritten_by_accident(capsys):
    original = write("in/a.png", picture())
    before = Path(original).read_bytes()
    for out in ("in", "./in/../in"):
        with pytest.raises(UsageError, match="would overwrite"):
            translate("in/a.png", "--out", out)
    Path("link").symlink_to("in")
    with pytest.raises(UsageError, match="would overwrite"):
        translate("in/a.png", "--out", "link")
    write("mine/a.png", picture(seed=5))
    with pytest.raises(UsageError, match=r"mine/a.png exists, and was not written by this command"):
        translate("in", "--out", "mine")
    assert translate("in", "--out", "out") == 0
    with pytest.raises(UsageError, match="out holds translations by another run or with other options"):
        translate("in", "--out", "out", "--size", "trained")
    write("a/x.png", picture())
    write("b/x.png", picture())
    with pytest.raises(UsageError, match=r"a/x.png and b/x.png would both become"):
        translate("a/x.png", "b/x.png", "--out", "two")
    assert Path(original).read_bytes() == before


def test_a_broken_file_is_named_and_left_out(capsys):
    for i in range(3):
        write(f"in/{i}.png", picture(seed=i))
    Path("in/1.png").write_bytes(b"no image")
    assert translate("in", "--out", "out") == 1
    shown = capsys.readouterr()
    assert "skipped in/1.png: can't be read" in shown.err
    assert "2 images translated, 1 skipped: out" in shown.out
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["0.png", "2.png"]
    for word in ("nope", "nope/*.png"):
        with pytest.raises(UsageError, match="nope.* no such file or folder, and no image matches it"):
            translate(word, "--out", "out")


def test_a_full_disk_ends_it_without_half_a_file(monkeypatch, capsys):
    for i in range(4):
        write(f"in/{i}.png", picture(seed=i))
    save = Image.Image.save

    def full(self, file, **options):
        if "1.png" in current[0]:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(self, file, **options)

    current, write_picture = [""], files._write_picture

    def watched(array, original, *rest):
        current[0] = original
        write_picture(array, original, *rest)

    monkeypatch.setattr(files, "_write_picture", watched)
    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr("image_translation.translate.cores", lambda: 1)
    with pytest.raises(OSError, match="No space left"):
        translate("in", "--out", "out")
    assert not list(Path("out").rglob("*.tmp"))
    assert all(pixels(path).shape == (64, 64, 3) for path in Path("out").glob("*.png"))


def test_an_out_that_can_not_be_written():
    write("in/a.png", picture())
    Path("file").write_text("")
    with pytest.raises(UsageError, match="--out file is a file"):
        translate("in", "--out", "file")
    with pytest.raises(OSError, match="file"):
        translate("in", "--out", "file/below")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_ended_and_started_again(how):
    for i in range(12):
        write(f"in/{i}.png", picture(256, 256, seed=i))
    argv = [sys.executable, "-m", "image_translation", "translate", "r", "in", "--out", "out", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(Path("out").glob("*.png")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert all(pixels(path).shape == (256, 256, 3) for path in Path("out").glob("[!.]*.png"))
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(Path("out").glob("*.png"))) == 12
    assert not list(Path("out").glob(".*.tmp"))


def test_errors_are_one_line():
    write("in/a.png", picture())
    for words in (["nope", "in"], ["r", "nope"], ["r"], ["r", "in", "--tile", "3"], ["r", "in", "--nope"]):
        with pytest.raises(UsageError) as found:
            main([*words, "--out", "out"])
        assert "\n" not in str(found.value)
    done = subprocess.run([sys.executable, "-m", "image_translation", "translate", "r", "in", "--out", "in"],
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: ")
