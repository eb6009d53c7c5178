"""Reading, geometry, layouts, and batches as a function of (seed, epoch, index)."""

import os
import pickle
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from conftest import picture, train_options, write
from PIL import Image

from data import create_dataset
from data.base_dataset import get_params, get_transform
from data.image_folder import make_dataset
from data.loading.loader import group_by_size
from data.reading import Reading, read_image
from data.transforms import draw_geometry, resize
from options.test_options import TestOptions
from util.errors import ImageError, UsageError
from util.images import ValueRange, tensor2im

IMAGE = picture(20, 10)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm", "npy", "jpg"])
def test_endings(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    if ending == "npy":
        np.save(path, IMAGE)
    else:
        Image.fromarray(IMAGE).save(
            path, **{"webp": {"lossless": True}, "jpg": {"quality": 98, "subsampling": 0}}.get(ending, {})
        )
    read = read_image(str(path), 3)
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read, IMAGE, atol=12 if ending == "jpg" else 0)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("RGBA", 3), ("RGBA", 4), ("P", 3), ("L", 3), ("L", 1), ("LA", 1), ("1", 1), ("CMYK", 3), ("RGB", 1), ("RGBA", 1)],
)
def test_modes_become_the_asked_channels(tmp_path, mode, channels, capsys):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.fromarray(IMAGE).convert(mode).save(path)
    read = read_image(str(path), channels)
    assert read.shape == (10, 20, channels)
    if mode in ("RGBA", "P", "LA", "CMYK", "1") and channels != 4:
        assert str(path) in capsys.readouterr().err  # told once
        read_image(str(path), channels)
        assert not capsys.readouterr().err
    if mode == "RGBA" and channels == 3:
        np.testing.assert_array_equal(read, IMAGE)


def test_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(IMAGE).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(str(tmp_path / "x.png"), 3), np.rot90(IMAGE, -1))


def deep(shape, high=4000, dtype=np.uint16, seed=0):
    return (np.random.default_rng(seed).random(shape) * high).astype(dtype)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("grey.png", deep((8, 9))),
        ("grey.tif", deep((8, 9))),
        ("rgb.tif", deep((8, 9, 3))),
        ("six.tif", deep((8, 9, 6))),
        ("float5.tif", deep((8, 9, 5), 1, np.float32)),
        ("float.tif", deep((8, 9), 1, np.float32)),
        ("float3.tif", deep((8, 9, 3), 1, np.float32)),
        ("a.npy", deep((8, 9, 5))),
        ("b.npy", deep((8, 9), 7, np.float64)),
        ("c.npy", deep((8, 9), 90, np.int16)),
    ],
)
def test_depth_is_kept(tmp_path, name, array):
    path = str(tmp_path / name)
    if name.endswith("npy"):
        np.save(path, array)
    elif name.endswith("tif"):
        tifffile.imwrite(path, array, planarconfig=None if array.ndim == 2 else "contig",
                         photometric="rgb" if array.shape[2:] == (3,) else "minisblack")
    else:
        Image.fromarray(array).save(path)
    read = read_image(path, 1 if array.ndim == 2 else array.shape[2])
    assert read.dtype == (np.uint16 if array.dtype == np.uint16 else np.float32)
    np.testing.assert_allclose(read.squeeze(), array, rtol=1e-6)


def test_sixteen_bit_colour_png_is_not_cut_to_eight_in_silence(tmp_path):
    import struct
    import zlib

    array = deep((4, 5, 3), 65535)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "RGB"  # as Pillow sees it
    with pytest.raises(ImageError, match="has colours of 16 bits, which Pillow cuts to 8; save it as .tif or .npy"):
        read_image(str(tmp_path / "x.png"), 3)


def test_the_first_bytes_count_not_the_name(tmp_path):
    tifffile.imwrite(tmp_path / "x.png", deep((8, 9, 3)), photometric="rgb")
    np.testing.assert_array_equal(read_image(str(tmp_path / "x.png"), 3), deep((8, 9, 3)))
    np.save(tmp_path / "y.npy", deep((8, 9)).astype(">u2"))
    read = read_image(str(tmp_path / "y.npy"), 1)
    assert (read.dtype, read[0, 0, 0]) == (np.uint16, deep((8, 9))[0, 0])
    (tmp_path / "z.ppm").write_bytes(b"P6 # deep\n2 1\n65535\n" + bytes(12))
    with pytest.raises(ImageError, match="has colours of 16 bits"):
        read_image(str(tmp_path / "z.ppm"), 3)
    (tmp_path / "z.pgm").write_bytes(b"P5\n2 1\n65535\n" + bytes([1, 2, 3, 4]))
    assert read_image(str(tmp_path / "z.pgm"), 1).squeeze().tolist() == [258, 772]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_deep_images_is_that_of_ordinary_ones(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(IMAGE).save(tmp_path / "x.png", exif=exif)
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "x.tif", IMAGE.astype(np.uint16), photometric="rgb", extratags=[tag])
    np.testing.assert_array_equal(read_image(str(tmp_path / "x.tif"), 3), read_image(str(tmp_path / "x.png"), 3))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", "is empty"),
        ("b.jpg", b"hello", "can't be read"),
        ("c.npy", b"\x93NUMPY", "can't be read"),
        ("d.tif", b"II*\0", "can't be read"),
        ("e.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "can't be read"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message) as error:
        read_image(str(tmp_path / name), 3)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_truncated_and_wrong_channels(tmp_path):
    path = write(tmp_path / "x.jpg", picture(200, 200))
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path, 3)
    np.save(tmp_path / "y.npy", deep((8, 9, 5)))
    with pytest.raises(ImageError, match="has 5 channels where 3 are expected"):
        read_image(str(tmp_path / "y.npy"), 3)


def test_large_images_are_read_up_to_a_limit_that_an_option_lifts(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # of Pillow
    files = [write(tmp_path / "x.png", picture(200, 100)), str(tmp_path / "x.tif"), str(tmp_path / "x.npy")]
    tifffile.imwrite(files[1], np.zeros((100, 200, 3), np.uint16), photometric="rgb")
    np.save(files[2], np.zeros((100, 200), np.float32))
    for path in files:
        assert read_image(path, None).shape[:2] == (100, 200)
        with pytest.raises(ImageError, match=r"more than --max_megapixels"):
            read_image(path, None, Reading(megapixels=0.019))
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("depth", "limits"),
    [("uint8", "0:255"), ("uint16", "0:65535"), ("uint16", "200.0:4095.0"), ("float32", "-3.0:12.5")],
)
def test_values_come_back_at_their_depth(depth, limits):
    values = ValueRange.parse(depth, limits)
    assert ValueRange.parse(values.depth, values.limits) == values
    array = (values.low + np.random.default_rng(0).random((6, 7, 2)) * (values.high - values.low)).astype(depth)
    tensor = values.to_tensor(array)
    assert tensor.shape == (2, 6, 7)
    assert tensor.abs().max() <= 1.0001
    if depth == "float32":
        np.testing.assert_allclose(values.to_array(tensor), array, atol=1e-5)
    else:
        np.testing.assert_array_equal(values.to_array(tensor), array)


def test_tensor2im():
    tensor = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 2, 2)
    assert tensor2im(tensor)[:, :, 2].tolist() == [[0, 128], [255, 255]]
    assert tensor2im(torch.zeros(2, 6, 4, 5)).shape == (4, 5, 3)
    array = np.zeros((3, 3, 3), np.uint8)
    assert tensor2im(array) is not None
    assert tensor2im(array).shape == (3, 3, 3)


def geometry_options(**changes):
    return SimpleNamespace(
        **{
            "preprocess": "resize_and_crop",
            "load_size": 30,
            "crop_size": 20,
            "no_flip": False,
            "isTrain": True,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("preprocess", "size", "expected"),
    [
        ("resize_and_crop", (100, 50), (20, 20)),
        ("resize", (100, 50), (30, 30)),
        ("crop", (100, 50), (20, 20)),
        ("scale_width", (100, 50), (30, 15)),
        ("scale_width_and_crop", (100, 50), (20, 20)),
        ("none", (101, 57), (101, 57)),
    ],
)
def test_preprocess_modes(preprocess, size, expected):
    opt = geometry_options(preprocess=preprocess)
    out = draw_geometry(opt, size)(picture(*size))
    assert out.shape == (expected[1], expected[0], 3)
    assert out.dtype == np.uint8


def test_wide_images_keep_their_shape_under_scale_width_and_crop():
    assert draw_geometry(geometry_options(preprocess="scale_width_and_crop"), (100, 50)).resize == (40, 20)


def test_sizes_need_not_be_square():
    opt = geometry_options(load_size=(40, 30), crop_size=(32, 16))
    assert draw_geometry(opt, (100, 100))(picture(100, 100)).shape == (16, 32, 3)


def test_testing_crops_the_centre_and_never_flips():
    opt = geometry_options(isTrain=False, preprocess="crop")
    drawn = {draw_geometry(opt, (50, 41)) for _ in range(20)}
    assert len(drawn) == 1
    assert drawn.pop().crop == (15, 10, 20, 20)
    assert draw_geometry(opt, (10, 10)).crop == (0, 0, 10, 10)


def test_a_crop_that_does_not_fit_is_refused_in_training():
    with pytest.raises(UsageError, match="15x15.* smaller than --crop_size 20x20"):
        draw_geometry(geometry_options(preprocess="crop"), (15, 15))


def test_all_depths_are_resized_alike():
    coarse = picture(40, 30) // 2 + 64  # far from where 8 bits are cut
    eight = resize(coarse, (17, 11))
    sixteen = resize(coarse.astype(np.uint16) * 257, (17, 11))
    floating = resize(np.dstack([coarse.astype(np.float32)] * 2), (17, 11))
    np.testing.assert_allclose(sixteen / 257, eight, atol=1)
    np.testing.assert_allclose(floating[:, :, 3:], eight, atol=1)


def test_classic_transform_agrees_with_the_geometry():
    opt = geometry_options()
    image = Image.fromarray(picture(60, 60))
    random.seed(1)
    params = get_params(opt, image.size)
    a, b = (get_transform(opt, params)(image) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == (3, 20, 20)
    random.seed(1)
    expected = draw_geometry(opt, image.size)(np.asarray(image))
    np.testing.assert_allclose(((a + 1) * 127.5).permute(1, 2, 0), expected, atol=1e-3)
    assert get_transform(opt, params, grayscale=True)(image).shape == (1, 20, 20)
    assert get_transform(opt, params, convert=False)(image).size == (20, 20)
    pickle.dumps(get_transform(opt, params))


def test_make_dataset_is_sorted_recursive_and_capped(tmp_path):
    for name in ("b/2.png", "a.JPG", "c.txt", "b/1.webp", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [path[len(str(tmp_path)) + 1 :] for path in make_dataset(str(tmp_path))]
    assert names == ["a.JPG", "b/1.webp", "b/2.png"]
    assert len(make_dataset(str(tmp_path), 2)) == 2


def dataset(*argv):
    return create_dataset(train_options(*argv)).dataset


def test_a_pair_is_cut_and_flipped_alike(strips, capsys):
    samples = dataset("--model", "pix2pix", "--dataroot", strips)
    assert f"3 images in {strips}/train" in capsys.readouterr().out
    for i in range(3):
        sample = samples[i]
        assert set(sample) == {"A", "B", "A_paths", "B_paths"}
        assert sample["A"].dtype == torch.float32
        assert (sample["A"] + sample["B"]).abs().max() < 0.1  # B is the negative of A


@pytest.mark.parametrize("layout", [("trainA", "trainB"), ("A/train", "B/train")])
def test_two_folders_are_paired_by_stem(tmp_path, layout):
    for stem, seed in (("x", 1), ("deep/y", 2)):
        write(tmp_path / "d" / layout[0] / f"{stem}.png", picture(seed=seed))
        write(tmp_path / "d" / layout[1] / f"{stem}.bmp", 255 - picture(seed=seed))
    samples = dataset("--model", "pix2pix", "--dataroot", "d")
    assert [len(samples), samples[0]["B_paths"]] == [2, f"d/{layout[1]}/deep/y.bmp"]
    sample = samples[1]
    assert (sample["A"] + sample["B"]).abs().max() < 0.1


def test_unaligned_draws_b_and_starts_the_shorter_over(domains):
    samples = dataset("--model", "cycle_gan", "--dataroot", domains)
    assert len(samples) == 3
    assert {samples[0]["B_paths"] for _ in range(20)} == {"domains/trainB/0.png", "domains/trainB/1.png"}
    serial = dataset("--model", "cycle_gan", "--dataroot", domains, "--serial_batches")
    assert [serial[i]["B_paths"][-5] for i in range(3)] == ["0", "1", "0"]


@pytest.mark.parametrize("pattern", ["in", "in/a/0.png", "in/*/*.png"])
def test_single_takes_a_folder_a_file_or_a_pattern(tmp_path, pattern):
    for folder in "ab":
        write(tmp_path / "in" / folder / "0.png", picture())
    (tmp_path / "checkpoints/r").mkdir(parents=True)
    opt = TestOptions().parse(["--dataroot", pattern, "--name", "r", "--num_threads", "0"])
    assert len(create_dataset(opt).dataset) == (1 if pattern == "in/a/0.png" else 2)


@pytest.mark.parametrize("layout", ["{phase}", "{phase}A", "A/{phase}"])
def test_of_a_data_root_single_takes_the_phase(layout, tmp_path):
    for phase in ("train", "val", "test"):
        write(tmp_path / "in" / layout.format(phase=phase) / f"{phase}.png", picture())
    (tmp_path / "checkpoints/r").mkdir(parents=True)
    tested = TestOptions().parse(["--dataroot", "in", "--name", "r", "--num_threads", "0"])
    for opt, phase in ((train_options("--model", "completion", "--dataroot", "in"), "train"), (tested, "test")):
        assert [os.path.basename(path) for path in create_dataset(opt).dataset.paths] == [f"{phase}.png"]


def test_channels_follow_the_direction(tmp_path, strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--input_nc", "1")
    assert dataset(*argv)[0]["A"].shape[0] == 1
    assert dataset(*argv)[0]["B"].shape[0] == 3
    assert dataset(*argv, "--direction", "BtoA")[0]["B"].shape[0] == 1


def test_colorization_round_trip(tmp_path):
    from models.colorization_model import lab_to_rgb

    write(tmp_path / "c/train/0.png", picture())
    sample = dataset("--model", "colorization", "--dataroot", "c", "--preprocess", "none", "--no_flip")[0]
    assert (sample["A"].shape, sample["B"].shape) == ((1, 64, 64), (2, 64, 64))
    rgb = lab_to_rgb(sample["A"][None], sample["B"][None])
    np.testing.assert_allclose(tensor2im(rgb), picture(), atol=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lab_to_rgb(sample["A"][None], 0 * sample["B"][None] - 1).isfinite().all()  # no such colours


def loader(strips, *argv):
    return create_dataset(train_options("--model", "pix2pix", "--dataroot", strips, *argv))


def seen(batches, epoch, start=0):
    batches.set_epoch(epoch, start)
    return [(batch["A_paths"], batch["A"]) for batch in batches]


def same(one, other):
    return [p for p, _ in one] == [p for p, _ in other] and all(
        torch.equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True)
    )


def test_samples_depend_on_seed_epoch_and_index_alone(strips):
    first = seen(loader(strips), 1)
    torch.rand(3), random.random()
    again = loader(strips, "--num_threads", "2")
    epochs = [seen(again, epoch) for epoch in (2, 1, 1)]
    assert same(first, epochs[1])
    assert same(first, epochs[2])
    assert not same(first, epochs[0])
    assert not same(first, seen(loader(strips, "--seed", "4"), 1))
    assert same(first[1:], seen(loader(strips), 1, start=1))


def test_reading_does_not_disturb_the_training(strips):
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    seen(loader(strips), 1)
    assert torch.equal(torch.rand(2), expected)


def test_sizes_that_do_not_stack(tmp_path):
    for i, width in enumerate((64, 66)):
        write(tmp_path / "s/train" / f"{i}.png", picture(2 * width))
    with pytest.raises(UsageError, match="batch needs images of one size"):
        list(loader("s", "--preprocess", "none", "--batch_size", "2", "--num_threads", "1"))


def test_grouping_by_size_loses_nothing_and_waits_little():
    samples = [
        {"A": torch.full((1, 1, width), float(i)), "A_paths": str(i)}
        for i, width in enumerate([3, 4, 3, 5, 6, 7, 8, 9, 3, 4, 4])
    ]
    batches = list(group_by_size(iter(samples), 2))
    assert sorted(int(path) for batch in batches for path in batch["A_paths"]) == list(range(11))
    assert all(len(batch["A"]) == len(batch["A_paths"]) <= 2 for batch in batches)
    assert batches[0]["A_paths"] == ["0", "2"]
    endless = ({"A": torch.zeros(1, 1, i + 1), "A_paths": str(i)} for i in range(1000))
    first = next(group_by_size(endless, 2))
    assert first["A_paths"] == ["0"]
    assert next(endless)["A_paths"] == "8"  # at most four batches' worth were read


def test_sixteen_bit_range_is_observed_and_recorded(tmp_path):
    for phase in "AB":
        for i in range(2):
            path = tmp_path / "d" / f"train{phase}" / f"{i}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, deep((64, 64), 3000, seed=i) + 100)
    opt = train_options(
        "--model",
        "pix2pix",
        "--dataroot",
        "d",
        "--input_nc",
        "1",
        "--output_nc",
        "1",
        "--range_B",
        "0:4095",
        "--preprocess",
        "none",
    )
    sample = create_dataset(opt).dataset[0]
    assert (opt.depth_A, opt.depth_B, opt.range_B) == ("uint16", "uint16", "0.0:4095.0")
    low, high = map(float, opt.range_A.split(":"))
    assert (100 <= low < 130, 3000 < high < 3100) == (True, True)
    assert sample["A"].min() >= -1.0001
    tifffile.imwrite("d/trainA/0.tif", deep((64, 64), 200, np.uint8))
    with pytest.raises(ImageError, match="is uint8 while domain A is uint16"):
        create_dataset(
            train_options(
                "--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1", "--depth_A", "uint16"
            )
        ).dataset[0]
