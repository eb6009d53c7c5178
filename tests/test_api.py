"""`image_translation.load`: what goes in comes out, with the pixels that test.py writes."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import ROOT, cli, picture, run_test, run_train, write
from PIL import Image

import image_translation
from image_translation import load
from models.engine import hardware
from util.images import ValueRange

RUN = "experiment_name"


def by_test_py(data, *argv):
    """The translation that test.py writes."""
    assert run_test("--dataroot", data, "--name", RUN, *argv) == 0
    file = next(path for path in sorted(Path("results").rglob("*_fake.*")) if "_8bit" not in path.name
                and (path.suffix != ".png" or not path.with_suffix(".tif").exists()))
    array = tifffile.imread(file) if file.suffix == ".tif" else np.asarray(Image.open(file))
    shutil.rmtree("results")
    return array


def loaded(**more):
    return load(RUN, device="cpu", **more)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """As `run_test` has it."""
    monkeypatch.setattr(hardware, "pick_amp", lambda amp, device: "off")


@pytest.fixture
def run(strips):
    """A trained run with batch norm and dropout, whose translations depend on both."""
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "batch")
    return RUN


def test_pictures_paths_and_arrays_equal_test_py(run):
    write("in/a.png", picture(90, 70))
    expected = by_test_py("in/a.png", "--preprocess", "none")
    translate = loaded()
    assert np.array_equal(np.asarray(translate("in/a.png")), expected)
    assert np.array_equal(np.asarray(translate(Path("in/a.png"))), expected)
    image = translate(Image.open("in/a.png"))
    assert (image.mode, image.size) == ("RGB", (90, 70))
    assert np.array_equal(np.asarray(image), expected)


def test_without_dropout_arrays_and_tensors_too(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--no_dropout")
    array = picture(90, 70)
    write("in/a.png", array)
    expected = by_test_py("in/a.png", "--preprocess", "none")
    translate = loaded()
    assert np.array_equal(translate(array), expected)
    unit = translate(array / 255)
    assert unit.dtype == float
    assert abs(unit * 255 - expected).max() < 0.51
    tensor = ValueRange().to_tensor(array)[None]
    made = translate(tensor.half())
    assert (made.shape, made.dtype) == (tensor.shape, torch.float16)
    assert abs(ValueRange().to_array(made[0].float()).astype(int) - expected).max() <= 1
    assert np.array_equal(translate(array[:, :, 0]), translate(np.repeat(array[:, :, :1], 3, axis=2)))
    assert np.array_equal(np.asarray(loaded(size="trained")("in/a.png")), by_test_py("in/a.png"))


@pytest.mark.parametrize("depth", ["uint16", "float32"])
def test_deep_images(depth):
    for i in range(3):
        values = picture(64, 64, seed=i, channels=1)[:, :, 0] * (5.0 if depth == "float32" else 100)
        Path("deep/train").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(f"deep/train/{i}.tif", np.concatenate([values, values[::-1]], 1).astype(depth))
    run_train("--model", "pix2pix", "--dataroot", "deep", "--input_nc", "1", "--output_nc", "1", "--no_dropout")
    array = (picture(50, 40, channels=1)[:, :, 0] * 4.0).astype(depth)
    Path("in").mkdir()
    tifffile.imwrite("in/a.tif", array)
    expected = by_test_py("in/a.tif", "--preprocess", "none")
    made = loaded()(array)
    assert (made.dtype, made.shape) == (array.dtype, array.shape)
    assert np.array_equal(made, expected)
    assert np.array_equal(np.asarray(loaded()("in/a.tif")), expected)
    with pytest.raises(ValueError, match=f"is uint8 while domain A is {depth}"):
        loaded()(picture(50, 40, channels=1))


def test_many_images_in_order_and_in_batches(run):
    translate = loaded(batch_size=3)
    images = [picture(64 + 16 * (i in (2, 3)), 64, seed=i) for i in range(7)]
    sizes = []
    one = translate._run
    translate._run = lambda batch: sizes.append(len(batch["A"])) or one(batch)
    made = translate(image for image in images)
    assert next(made).shape == (64, 64, 3)
    rest = list(made)
    assert sizes == [2, 2, 3]
    assert [image.shape[1] for image in rest] == [64, 80, 80, 64, 64, 64]
    assert all(np.array_equal(image, translate(original)) for image, original in zip(rest, images[1:], strict=True))
    assert list(translate([])) == []


def test_those_before_a_broken_one_come_first(run):
    write("a.png", picture())
    made = loaded()(["a.png", "nope.png", "a.png"])
    assert next(made).size == (64, 64)
    with pytest.raises(ValueError, match=r"nope.png: can't be read"):
        next(made)


def test_an_error_of_the_iterable_comes_after_the_images_before_it(run):
    def images():
        yield picture()
        raise KeyError("mine")

    made = loaded()(images())
    assert next(made).shape == (64, 64, 3)
    with pytest.raises(KeyError, match="mine"):
        next(made)


def test_the_direction_and_the_model_of_a_cycle(domains):
    run_train("--model", "cycle_gan", "--dataroot", domains, "--input_nc", "1", "--lambda_identity", "0")
    assert loaded()(picture(40, 40, channels=1)).shape == (40, 40, 3)
    assert loaded(direction="BtoA")(picture(40, 40)).shape == (40, 40, 1)
    assert loaded(direction="BtoA")(Image.fromarray(picture(40, 40))).mode == "L"


def test_a_folder_a_file_of_a_run_and_a_lone_file(strips, tmp_path):
    run_train("--model", "pix2pix", "--dataroot", strips, "--ema", "0.5", "--netG", "resnet_6blocks",
              "--no_dropout")
    folder, array = tmp_path / "checkpoints" / RUN, picture(64, 64)
    expected = load(RUN, device="cpu")(array)
    assert np.array_equal(load(str(folder), device="cpu")(array), expected)
    assert np.array_equal(load(str(folder / "latest_net_G.pth"), device="cpu")(array), expected)
    shutil.copy(folder / "latest_net_G.pth", folder / "7_net_G.pth")
    assert np.array_equal(load(str(folder / "7_net_G.pth"), device="cpu")(array), expected)
    for more in ({"epoch": 3}, {"direction": "AtoB"}, {"ema": True}):
        with pytest.raises(ValueError, match=r"7_net_G.pth names a checkpoint and a generator; leave out"):
            load(str(folder / "7_net_G.pth"), **more)
    average = load(str(folder / "latest_net_G_ema.pth"), device="cpu")(array)
    assert np.array_equal(load(RUN, device="cpu", ema=True)(array), average)
    assert not np.array_equal(average, expected)
    shutil.copy(folder / "latest_net_G.pth", tmp_path / "lone.pth")
    assert np.array_equal(load("lone.pth", device="cpu")(array), expected)


def test_a_model_of_its_own():
    for i in range(2):
        write(f"photos/train/{i}.png", picture(seed=i))
    run_train("--model", "colorization", "--dataroot", "photos")
    write("in/a.png", picture(64, 48))
    translate = loaded()
    assert translate("in/a.png").size == (64, 48)
    assert translate(picture(64, 48)).shape == (48, 64, 3)
    with pytest.raises(ValueError, match="translates images, not tensors"):
        translate(torch.zeros(1, 1, 8, 8))


def test_threads_share_a_run(run):
    translate = loaded()
    images = [picture(64, 64, seed=i) for i in range(4)]
    expected = [translate(image) for image in images]
    found = [None] * 4

    def work(i):
        for _ in range(5):
            found[i] = translate(images[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize(("image", "message"), [
    (3, "int is no image: give a path"),
    (np.zeros(3), r"an array \(3,\) of float64 is no image"),
    (np.zeros((4, 4, 3), complex), "pixels are numbers, not complex128"),
    (np.full((4, 4, 3), 7.0), "a float array for a run of 8-bit images holds values from 0 to 1"),
    (np.full((4, 4, 3), np.nan), "a float array for a run of 8-bit images holds values from 0 to 1"),
    (np.zeros((9, 9, 5), np.uint8), "has 5 channels where 3 are expected"),
    (np.zeros((9, 9, 3), np.uint16), "is uint16 while domain A is uint8"),
    (np.zeros((0, 9, 3), np.uint8), "an image has the shape"),
    (torch.zeros(3, 3), r"float tensors \(N, 3, H, W\) in \[-1, 1\], not \(3, 3\)"),
    (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "not .* of torch.uint8"),
    ("nope.png", "nope.png: can't be read"),
    (torch.full((1, 3, 8, 8), 7.0), r"a tensor holds values in \[-1, 1\]"),
    (torch.full((1, 3, 8, 8), torch.nan), r"a tensor holds values in \[-1, 1\]"),
])
def test_what_is_no_image_is_a_value_error(run, image, message):
    with pytest.raises(ValueError, match=message):
        loaded()(image)


def test_runs_that_can_not_be_loaded(run):
    for name, message in (("nope", r"there is no run nope in ./checkpoints"), ("nope.pth", "does not exist")):
        with pytest.raises(ValueError, match=message):
            load(name)
    Path("empty").mkdir()
    with pytest.raises(ValueError, match="latest_net_G.pth does not exist"):
        load("empty")
    torch.save({"layer": torch.zeros(3)}, "other.pth")
    with pytest.raises(ValueError, match="other.pth holds no generator of a family known here"):
        load("other.pth")
    for more in ({"direction": "BtoA"}, {"size": "huge"}, {"tile": 3}, {"batch_size": 0}, {"epoch": 99}):
        with pytest.raises(ValueError, match="BtoA|huge|'3' is not|'0' is not|99_net_G"):
            load(RUN, **more)


def test_the_scale_of_a_large_image_is_noticed(run, capsys):
    translate = loaded()
    translate(picture(400, 400))
    assert "is 400x400, and the run was trained on images resized to 64x64" in capsys.readouterr().err


def test_nothing_is_printed(run, capsys):
    capsys.readouterr()
    loaded()(picture(64, 64))
    assert capsys.readouterr() == ("", "")


def test_train_and_test_for_sweeps(strips):
    from conftest import TINY

    model = image_translation.train([*TINY, "--model", "pix2pix", "--dataroot", strips, "--name", "swept"])
    assert type(model).__name__ == "Pix2PixModel"
    assert image_translation.test(["--name", "swept", "--dataroot", f"{strips}/test", "--device", "cpu"]) == 0
    with pytest.raises(ValueError, match="unknown option '--nope'"):
        image_translation.train(["--nope"])


def test_importing_is_cheap_and_a_foreign_package_is_named(tmp_path):
    code = ("import sys, time; begin = time.perf_counter(); import image_translation; "
            "assert 'torch' not in sys.modules and 'util' not in sys.modules; import util; "
            "image_translation.load('x')")
    (tmp_path / "util.py").write_text("")
    done = cli("-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.path.append({str(ROOT)!r}); {code}")
    assert done.returncode == 1
    assert f"another 'util' is imported ({tmp_path / 'util.py'})" in done.stderr.splitlines()[-1]
    assert "image-translation export RUN" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_command_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shown = cli("-m", "image_translation", "--help")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("train", "test", "translate", "export", "check", "compare", "metrics"))
    wrong = cli("-m", "image_translation", "trian")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'train'?" in wrong.stderr
    assert "--lambda_L1" in cli("-m", "image_translation", "train", "--model", "pix2pix", "--help").stdout
    done = cli("-m", "image_translation", "test", "--name", "nope", "--dataroot", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch):
    cells = json.loads((ROOT / "docs/using.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    text += "\nassert list(Path('translated').iterdir()) and Path('notebook.pt').exists()"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = cli("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{text}")
    assert done.returncode == 0, done.stderr
