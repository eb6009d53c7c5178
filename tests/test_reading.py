"""Files are read as Pillow, or their structure, says: TIFF of every kind, colours, missing data, large files."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import picture, run_test, run_train, train_options
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from test_fuzz import fuzz

from data import create_dataset
from data.check import main as check
from data.image_folder import list_images
from data.reading import Reading, read_image, read_pixels
from util import notices
from util.errors import ImageError, UsageError
from util.images import save_exact

RGB = np.asarray(Image.fromarray(picture(6, 5)).resize((60, 48), Image.Resampling.BICUBIC))
GREY = RGB[:, :, 0]
PALETTE = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
INDICES = np.asarray(PALETTE)
COLOURMAP = np.pad(np.array(PALETTE.getpalette()), (0, 768 - len(PALETTE.getpalette()))).reshape(-1, 3).T * 257
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def as_pillow(path, mode="RGB"):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert(mode)).astype(int)


def assert_as_pillow(path, channels=3):
    expected = as_pillow(path, {1: "L", 3: "RGB", 4: "RGBA"}[channels])
    found = read_image(str(path), channels).astype(int)
    assert found.shape[:2] == expected.shape[:2]
    assert np.abs(found - expected.reshape(found.shape)).max() <= 1


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB")
CODECS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


@fuzz(2000)
@given(st.data())
def test_every_picture_is_read_as_pillow_reads_it(data):
    """Modes, codecs, pages, orientations and profiles: no difference over one grey level."""
    mode, codec = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(CODECS))
    orientation, pages = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    width, height, seed = data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40)), data.draw(st.integers(0, 9))
    kind = data.draw(st.sampled_from(["tiff", "tiff", "tiff", "png", "jpeg", "webp", "bmp", "gif"]))
    image = Image.fromarray(picture(width, height, seed=seed))
    image = image.convert("LA").convert("PA") if mode == "PA" else image.convert(mode)
    exif = Image.Exif()
    exif[274] = orientation
    how = {"exif": exif} if kind in ("tiff", "png", "jpeg", "webp") else {}
    if kind == "tiff":
        how |= {"compression": codec} if codec else {}
        how |= {"save_all": True, "append_images": [image] * (pages - 1)} if mode not in ("1", "L", "LA") else {}
    if data.draw(st.booleans()):
        how["icc_profile"] = SRGB
    try:
        image.save("x.bin", kind, **how)
        as_pillow("x.bin")
    except (OSError, ValueError, KeyError, TypeError):
        return  # Pillow can't write this combination, or read what it has written (12.3: YCbCr without compression)
    channels = data.draw(st.sampled_from([1, 3] if mode in ("CMYK", "YCbCr", "LAB", "RGBX") else [1, 3, 4]))
    if channels == 1 and mode not in ("1", "L", "LA", "RGB", "RGBA"):
        channels = 3
    notices._seen.clear()
    assert_as_pillow("x.bin", channels)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize(("mode", "photometric"), [("RGB", "rgb"), ("CMYK", "separated")])
def test_tiles_planes_and_byte_orders(mode, photometric, planes, order, tile):
    array = np.asarray(Image.fromarray(RGB).convert(mode))
    tifffile.imwrite("x.tif", array if planes == "contig" else np.moveaxis(array, 2, 0), photometric=photometric,
                     planarconfig=planes, byteorder=order, tile=tile, metadata=None)
    assert_as_pillow("x.tif")


def test_a_palette_with_an_overview_or_several_pages_is_its_colours(capsys):
    how = {"photometric": "palette", "colormap": COLOURMAP.astype(np.uint16), "metadata": None}
    with tifffile.TiffWriter("overview.tif") as file:
        file.write(INDICES, tile=(16, 16), **how)
        file.write(INDICES[::2, ::2].copy(), subfiletype=1, **how)
    with tifffile.TiffWriter("pages.tif") as file:
        for _ in range(3):
            file.write(INDICES, **how)
    for name in ("overview.tif", "pages.tif"):
        assert_as_pillow(name)
        assert read_image(name, None).shape == (48, 60, 3)
    err = capsys.readouterr().err
    assert "pages.tif is a stack of 3 images (pages), of which the first is read" in err
    assert "overview.tif is a stack" not in err
    wide = INDICES.astype(np.uint16)
    table = np.zeros((3, 2 ** 16), np.uint16)
    table[:, :256] = COLOURMAP
    tifffile.imwrite("wide.tif", wide, photometric="palette", colormap=table)
    np.testing.assert_array_equal(read_image("wide.tif", 3), as_pillow("overview.tif"))


@pytest.mark.parametrize("count", [2, 3, 64, 224])
def test_pages_of_grey_are_channels_whatever_their_number(count):
    side = GREY[:20, :20]
    pages = [side + i % 5 for i in range(count)]
    tifffile.imwrite("x.tif", np.stack(pages), photometric="minisblack")
    Image.fromarray(side).save("y.tif", save_all=True, append_images=list(map(Image.fromarray, pages[1:])),
                               compression="tiff_lzw")  # which tifffile reads only with an extra
    for name in ("x.tif", "y.tif"):
        np.testing.assert_array_equal(read_image(name, count), np.stack(pages, axis=2))
    tifffile.imwrite("inverted.tif", 255 - np.stack(pages), photometric="miniswhite")
    np.testing.assert_array_equal(read_image("inverted.tif", count), np.stack(pages, axis=2))


@pytest.mark.parametrize(("axes", "shape"), [("TYX", (5,)), ("ZYX", (4,)), ("ZCYX", (4, 3)), ("TZCYX", (2, 4, 3))])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_time_and_depth_are_no_channels(kind, axes, shape, capsys):
    array = np.arange(np.prod(shape) * 48 * 60).reshape(*shape, 48, 60).astype(np.uint16)
    tifffile.imwrite("x.tif", array, **{kind: True}, metadata={"axes": axes})
    first = array[(0,) * (len(shape) - ("C" in axes))]
    expected = np.moveaxis(first, 0, -1) if "C" in axes else first[:, :, None]
    np.testing.assert_array_equal(read_image("x.tif", None), expected)
    assert "of which the first is read" in capsys.readouterr().err


def test_sixteen_bits_stay_in_every_colour_space_that_is_read():
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK"))
    tifffile.imwrite("cmyk.tif", inks.astype(np.uint16) * 257, photometric="separated")
    found = read_image("cmyk.tif", 3)
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found / 257, Image.fromarray(inks, "CMYK").convert("RGB"), atol=1)
    tifffile.imwrite("lab.tif", RGB.astype(np.uint16), photometric="cielab")
    with pytest.raises(ImageError, match="has colours of the kind CIELAB with 16 bits, which are not read; save it as"):
        read_image("lab.tif", 3)


def test_a_compression_that_would_cost_depth_names_the_extra(monkeypatch):
    real = tifffile.TiffFile.asarray

    def lacking(self, *args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    tifffile.imwrite("x.tif", RGB.astype(np.uint16), photometric="rgb")
    Image.fromarray(GREY.astype(np.float32)).save("y.tif")
    monkeypatch.setattr(tifffile.TiffFile, "asarray", lacking)
    with pytest.raises(ImageError, match=r'needs an extra: pip install -e "\.\[codecs\]"'):
        read_image("x.tif", 3)
    np.testing.assert_array_equal(read_image("y.tif", 1)[:, :, 0], GREY)
    monkeypatch.setattr(tifffile.TiffFile, "asarray", real)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_four_channels_are_colour_and_opacity(mode):
    """CMYK is never taken for RGBA; without an alpha channel, an image is opaque."""
    image = Image.fromarray(RGB).convert(mode)
    image.save("x.tif")
    found = read_image("x.tif", 4)
    np.testing.assert_array_equal(found[:, :, :3], image.convert("RGB"))
    assert (found[:, :, 3] == 255).all()


def test_a_transparent_colour_is_transparent():
    Image.fromarray(RGB).save("x.png", transparency=tuple(map(int, RGB[0, 0])))
    found = read_image("x.png", 4)
    assert (found[0, 0, 3], found[20, 20, 3]) == (0, 255)
    Image.fromarray(RGB).convert("CMYK").save("x.jpg", quality=95)
    assert_as_pillow("x.jpg", 3)


def test_a_mixed_folder_trains_with_four_channels(capsys):
    for i, mode in enumerate(("RGB", "RGBA", "LA", "P", "CMYK")):
        for domain in "AB":
            path = Path(f"d/train{domain}/{i}.tif")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(seed=i)).convert(mode).save(path)
    run_train("--model", "pix2pix", "--dataroot", "d", "--input_nc", "4", "--output_nc", "4")
    assert "unusable" not in capsys.readouterr().out


def profile_of(primaries):
    """An RGB profile with other primaries: the sRGB one with its red and green columns exchanged."""
    data = bytearray(SRGB)
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red:red + 4], data[green:green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Swop".encode("utf-16-be")).replace(b"sRGB", b"Swop")


def test_colours_of_another_profile_are_converted(capsys):
    profile = profile_of("exchanged")
    Image.fromarray(RGB).save("x.png", icc_profile=profile)
    Image.fromarray(RGB).save("y.png", icc_profile=SRGB)
    Image.fromarray(RGB).save("z.png", icc_profile=b"no profile")
    found = read_image("x.png", 3).astype(int)
    assert np.abs(found - RGB[:, :, [1, 0, 2]].astype(int)).max() <= 3
    assert "and is converted to sRGB" in capsys.readouterr().err
    np.testing.assert_array_equal(read_image("x.png", 3, Reading(keep_profile=True)), RGB)
    for name in ("y.png", "z.png"):
        np.testing.assert_array_equal(read_image(name, 3), RGB)
    assert "a colour profile that can't be used" in capsys.readouterr().err


def test_an_animation_is_not_silently_its_first_frame(capsys):
    frames = [Image.fromarray(picture(seed=i)) for i in range(3)]
    frames[0].save("x.gif", save_all=True, append_images=frames[1:])
    assert list_images(".") == ["./x.gif"]
    read_image("x.gif", 3)
    assert "x.gif is an animation of 3 frames, of which the first is read" in capsys.readouterr().err


def test_files_of_other_kinds_are_counted(capsys):
    for name in ("a.jfif", "b.jpe", "c.JPG"):
        Image.fromarray(RGB).save(name, "jpeg")
    for name in ("x.dcm", "y.dcm", "z.nii.gz", "notes.txt", "run.eps"):
        Path(name).touch()
    assert list_images(".") == ["./a.jfif", "./b.jpe", "./c.JPG"]
    err = capsys.readouterr().err
    assert "passed over in ., as they are not read: 2 .dcm, 1 .eps, 1 .nii.gz" in err


def test_a_file_is_opened_only_as_an_image():
    Path("x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="cannot identify image file"):
        read_image("x.png", 3)


@pytest.mark.parametrize("array", [np.ones((4, 5), complex), np.zeros((4, 5), "datetime64[s]"), np.array(["a"])])
def test_what_is_no_number_is_no_pixel(array):
    np.save("x.npy", array)
    with pytest.raises(ImageError, match="an image has the shape|pixels are numbers, not"):
        read_image("x.npy", 1)


def test_the_size_in_a_header_is_looked_at_before_memory_is_taken():
    np.save("x.npy", np.zeros((1, 1), np.float32))
    content = Path("x.npy").read_bytes().replace(b"(1, 1)", b"(90000, 90000)"[:6].ljust(6))
    Path("x.npy").write_bytes(content)
    with pytest.raises(ImageError):
        read_image("x.npy", 1)
    tifffile.imwrite("x.tif", np.zeros((2000, 2000, 4), np.float32), photometric="rgb", compression="zlib")
    with pytest.raises(ImageError, match="holds 61 MiB, more than --max_megapixels allows"):
        read_image("x.tif", 4, Reading(12))


# Missing data.

def satellite(name, array, tag=None):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(name, array, photometric="minisblack", metadata=None,
                     extratags=[(42113, "s", 0, tag, True)] if tag else [])


@pytest.mark.parametrize(("value", "tag", "nodata"), [(-9999.0, "-9999", None), (-9999.0, None, -9999.0),
                                                      (np.nan, None, None), (np.inf, None, None)])
def test_pixels_without_data_are_known(value, tag, nodata):
    array = np.linspace(5, 25, 64 * 64, dtype=np.float32).reshape(64, 64)
    array[3, 4] = value
    satellite("x.tif", array, tag)
    found, holes, means = read_pixels("x.tif", 1, Reading(nodata=nodata))
    assert np.argwhere(holes[:, :, 0]).tolist() == [[3, 4]]
    assert means == (-9999 if value == -9999 else pytest.approx(np.nan, nan_ok=True))
    assert found.shape == (64, 64, 1)


@pytest.mark.parametrize(("dtype", "value"), [("float32", -9999), ("uint16", 65535)])
def test_missing_data_is_missing_in_the_result_and_in_no_range(dtype, value, capsys, monkeypatch):
    array = np.linspace(100, 3000, 64 * 64).reshape(64, 64).astype(dtype)
    array[:4] = value
    for domain in "AB":
        for i in range(2):
            satellite(f"d/train{domain}/{i}.tif", array, str(value))
    run_train("--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1")
    options = json.loads(Path("checkpoints/experiment_name/train_opt.json").read_text())["options"]
    low, high = map(float, options["range_A"].split(":"))
    assert (round(low, -2), high) == (300, 3000)
    assert "has pixels without data; they become 28" in capsys.readouterr().err
    assert run_test("--dataroot", "d/trainA", "--preprocess", "none") == 0
    written = next(Path("results/experiment_name/test_latest/images").glob(
        "0_fake.tif" if dtype == "float32" else "0_fake.png"))
    found = read_pixels(str(written), 1, Reading(nodata=value)).holes
    assert found is not None
    assert found[:4].all()
    assert not found[4:].any()
    if dtype == "float32":
        assert read_pixels(str(written), 1, Reading()).nodata == value  # the tag


def test_percentiles_and_a_range_that_is_too_narrow(capsys):
    array = np.linspace(0, 1000, 64 * 64).reshape(64, 64).astype(np.float32)
    array[0, 0] = 1e6
    for domain in "AB":
        satellite(f"d/train{domain}/0.tif", array)
    base = ("--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1", "--preprocess", "none")
    opt = train_options(*base, "--range_A", "1%:99%", "--range_B", "0:500")
    sample = create_dataset(opt).dataset[0]
    low, high = map(float, opt.range_A.split(":"))
    assert (low, high) == (pytest.approx(10, abs=2), pytest.approx(990, abs=2))
    for domain in "AB":
        assert (sample[domain].min(), sample[domain].max()) == (pytest.approx(-1, abs=2e-3), pytest.approx(1))
    assert "d/trainB/0.tif has values from 0.2442 to 1e+06, clipped to 0.0:500.0" in capsys.readouterr().err
    for wrong in ("5%:2%", "1%:99", "x%:9%"):
        with pytest.raises(UsageError, match="is not a range of percentiles; write LOW%:HIGH%"):
            create_dataset(train_options(*base, "--range_A", wrong))


def test_data_check_names_missing_data_and_suggests_the_option(capsys):
    array = np.linspace(10, 90, 64 * 64).reshape(64, 64).astype(np.float32)
    for domain in "AB":
        for i in range(2):
            satellite(f"d/train{domain}/{i}.tif", array + i)
    array[5, 5] = -9999
    satellite("d/trainA/1.tif", array)
    array[5, 5] = np.nan
    satellite("d/trainB/1.tif", array)
    assert check(["d", "--num_threads", "0"]) == 1
    out = capsys.readouterr().out
    assert "looks like no data (--nodata VALUE leaves it out):\n  d/trainA/1.tif: -9999" in out
    assert "without data, which become the lowest value:\n  d/trainB/1.tif: 1 values" in out
    assert "--nodata=-9999" in out


def test_sixteen_bits_of_grey_say_that_they_become_three_channels(capsys):
    for domain in "AB":
        satellite(f"d/train{domain}/0.tif", (GREY.repeat(2, 0).repeat(2, 1)).astype(np.uint16) * 10)
    create_dataset(train_options("--model", "pix2pix", "--dataroot", "d"))
    assert "is grey and gets three equal channels" in capsys.readouterr().err


# Found by attack.

@pytest.mark.parametrize("value", [float(np.finfo(np.float32).min), -2147483648.0, 16777215.0, -9999.125, 1e-20])
def test_the_tag_of_a_result_says_its_value_exactly(value):
    array = np.full((4, 5, 1), 3, np.float32)
    array[1, 2] = value
    save_exact(array, "x.tif", value)
    found = read_pixels("x.tif", 1, Reading())
    assert np.argwhere(found.holes[:, :, 0]).tolist() == [[1, 2]]
    assert np.float32(found.nodata) == np.float32(value)


def test_missing_data_is_missing_in_the_results_of_strips():
    array = np.linspace(0, 900, 64 * 128).reshape(64, 128).astype(np.float32)
    array[:4, :64] = -9999
    array[:9, 64:] = -9999
    for phase in ("train", "test"):
        satellite(f"d/{phase}/0.tif", array, "-9999")
    run_train("--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1")
    assert run_test("--model", "pix2pix", "--dataroot", "d", "--preprocess", "none") == 0
    found = read_pixels("results/experiment_name/test_latest/images/0_fake_B.tif", 1, Reading()).holes
    assert found[:4].all()
    assert not found[4:].any()


def test_two_channels_are_grey_and_alpha_or_nothing():
    Image.fromarray(RGB).save("x.png")
    Image.fromarray(GREY).save("y.png")
    Image.fromarray(RGB).convert("LA").save("z.png")
    for name in ("x.png", "y.png"):
        with pytest.raises(ImageError, match="channels where 2 are expected"):
            read_image(name, 2)
    assert read_image("z.png", 2).shape == (48, 60, 2)


def test_missing_data_is_known_by_what_is_in_the_file():
    """Not by what conversion makes of it: a palette's index, white that is zero, luminance, alpha, float32."""
    index = np.array([[0, 1], [2, 3]], np.uint8)
    table = np.zeros((3, 256), np.uint16)
    table[:, :4] = [[9 * 257, 0, 0, 255 * 257]] * 3
    grey = np.array([[0, 5], [6, 7]], np.uint16)
    tag = [(42113, "s", 0, "0", True)]
    tifffile.imwrite("palette.tif", index, photometric="palette", colormap=table, extratags=tag, metadata=None)
    tifffile.imwrite("white.tif", grey, photometric="miniswhite", extratags=tag, metadata=None)
    for name, channels in (("palette.tif", 3), ("white.tif", 1)):
        found = read_pixels(name, channels, Reading())
        assert np.argwhere(found.holes.any(2)).tolist() == [[0, 0]]
    colours = np.array([[[7, 7, 7], [7, 8, 9]], [[0, 9, 15], [8, 8, 8]]], np.uint8)  # luminance 7 twice
    tifffile.imwrite("rgb.tif", colours, photometric="rgb", extratags=[(42113, "s", 0, "0", True)], metadata=None)
    assert np.argwhere(read_pixels("rgb.tif", 1, Reading()).holes[:, :, 0]).tolist() == [[1, 0]]
    whole = np.array([[2147483647, 2147483646], [2147483640, 0]], np.int32)
    tifffile.imwrite("whole.tif", whole, extratags=[(42113, "s", 0, "2147483647", True)], metadata=None)
    assert np.argwhere(read_pixels("whole.tif", 1, Reading()).holes[:, :, 0]).tolist() == [[0, 0]]
    Image.fromarray(colours).save("x.png")
    assert read_pixels("x.png", 4, Reading(nodata=255)).holes is None


def test_headers_of_ppm_with_comments_and_other_scales():
    body = np.arange(1000, 1004, dtype=">u2").tobytes()
    Path("x.ppm").write_bytes(b"P6\n# " + b"c" * 5000 + b"\n2 1\n65535\n" + bytes(12))
    with pytest.raises(ImageError, match="has colours of 16 bits"):
        read_image("x.ppm", 3)
    for top in (4095, 1023, 65535):
        Path("x.pgm").write_bytes(b"P5\n# " + b"c" * 5000 + f"\n2 2\n{top}\n".encode() + body)
        assert read_image("x.pgm", 1).ravel().tolist() == [1000, 1001, 1002, 1003]


def test_a_fourth_plane_is_infrared(capfd):
    planes = np.moveaxis(np.concatenate([RGB, GREY[:, :, None]], axis=2), 2, 0)
    tag = [(42113, "s", 0, repr(float(np.finfo(np.float64).min)), True)]  # which no 8-bit image holds
    tifffile.imwrite("x.tif", planes, photometric="rgb", planarconfig="separate", extrasamples=[0], extratags=tag)
    np.testing.assert_array_equal(read_image("x.tif", 4)[:, :, 3], GREY)
    np.testing.assert_array_equal(read_image("x.tif", 3), RGB)
    assert "GDAL_NODATA" not in capfd.readouterr().err


def test_a_second_layer_is_applied_also_where_data_may_be_missing():
    Image.fromarray(RGB).convert("LA").save("la.tif")
    Image.fromarray(RGB).convert("LA").convert("PA").save("pa.tif")
    how = Reading(nodata=999)
    for name in ("la.tif", "pa.tif"):
        np.testing.assert_array_equal(read_image(name, 3, how), read_image(name, 3))
    np.testing.assert_array_equal(read_image("la.tif", 1, how), read_image("la.tif", 1))
