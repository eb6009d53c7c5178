"""python -m data.check: what is wrong with a folder of images, and what fits it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import ROOT, TINY, cli, picture, write
from PIL import Image

from data.check import main
from options.train_options import TrainOptions
from util.errors import UsageError


def check(capsys, *argv, problems=True):
    assert main(["d", "--num_threads", "0", *argv]) == int(problems)
    return capsys.readouterr().out


def pairs(n=3, size=64):
    for i in range(n):
        for domain in "AB":
            write(f"d/train{domain}/{i}.png", picture(size, size, seed=10 * i + ord(domain)))


def test_nothing_wrong(capsys):
    pairs()
    out = check(capsys, problems=False)
    assert "trainA: 3, uint8, 3 channels, 64x64\ntrainB: 3, " in out
    assert "no problem found" in out
    assert "python train.py --model pix2pix --dataroot d --name RUN --load_size 72 --crop_size 64 --netG unet_64" in out


def test_each_problem_is_named_with_its_file(capsys):
    pairs(6)
    content = Path("d/trainA/0.png").read_bytes()
    Path("d/trainA/0.png").write_bytes(content[:200])
    Path("d/trainB/0.png").write_bytes(b"")
    write("d/trainA/1.png", np.full((64, 64, 3), 7, np.uint8))
    Image.fromarray(picture()).convert("P").save("d/trainB/2.png")
    write("d/trainA/3.png", picture(60, 64))
    write("d/trainA/alone.png", picture(seed=99))
    write("d/testA/x.png", picture(seed=40 + ord("A")))
    shutil.copy("d/testA/x.png", "d/testB/x.png") if Path("d/testB").exists() else write(
        "d/testB/x.png", picture(seed=7)
    )
    array = picture().astype(np.float32)
    array[0, 0] = np.inf
    tifffile.imwrite("d/trainB/5.tif", array, photometric="rgb")
    Path("d/trainB/5.png").unlink()
    out = check(capsys)
    for kind, *lines in (
        (
            "that can't be read",
            "d/trainA/0.png: can't be read: ",
            "d/trainB/0.png: is empty",
        ),
        ("with pixels without data", "d/trainB/5.tif: 3 values"),
        ("of one value only", "d/trainA/1.png"),
        ("of another kind than most", "d/trainB/2.png: P, most are RGB"),
        ("without a partner", "d/trainA/alone.png"),
        ("of another size than their partner", "d/trainA/3.png: 60x64, d/trainB/3.png: 64x64"),
        ("the same in training and in testing", "d/testA/x.png is d/trainA/4.png"),
    ):
        block = out[out.index(kind) :].partition("\n\n")[0]
        for line in lines:
            assert f"\n  {line}" in block, (kind, line, out)


def test_what_is_chosen(capsys):
    for i in range(3):
        write(f"d/A/train/{i}.png", picture(400, 300, seed=i, channels=1))
        write(f"d/B/train/x{i}.png", picture(300, 300, seed=10 + i))
    out = check(capsys, problems=False)
    assert "--model cycle_gan --dataroot d --name RUN --input_nc 1 --lambda_identity 0" in out
    command = out.strip().splitlines()[-1].removeprefix("python train.py ").split()
    assert TrainOptions().parse(command).model == "cycle_gan"


def test_strips_photographs_and_plain_folders(capsys):
    for i in range(3):
        write(f"d/train/{i}.png", picture(128 + (i == 1), 64, seed=i))
    out = check(capsys)
    assert "1 images of odd width, where a strip has two halves:\n  d/train/1.png: 129 pixels" in out
    assert "--model pix2pix" in out
    shutil.rmtree("d")
    write("d/train/x.png", picture())
    out = check(capsys, problems=False)
    assert "--model colorization" in out and "strips {A|B}" in out
    shutil.rmtree("d")
    write("d/deep/x.png", picture())
    assert "python test.py --dataroot d --name RUN" in check(capsys, problems=False)
    Path("d").rename("train")
    assert main(["train", "--num_threads", "0"]) == 0
    assert f"to train, check the folder above: {Path.cwd()}" in capsys.readouterr().out


@pytest.mark.parametrize("folders", [("testA", "testB"), ("val",), ("trainA",), ("trainA", "testB")])
def test_a_root_without_anything_to_train_on(capsys, folders):
    for i, folder in enumerate(folders):
        write(f"d/{folder}/x.png", np.concatenate([picture(seed=i)] * (2 if folder == "val" else 1), axis=1))
    out = check(capsys)
    assert "nothing to train on: d has no train/, and not both trainA/ and trainB/" in out
    assert "python train.py" not in out


def test_two_files_of_one_stem(capsys):
    pairs()
    write("d/trainA/0.bmp", picture(seed=50))
    assert "so that their partner is unclear:\n  d/trainA/0.png and d/trainA/0.bmp" in check(capsys)


def test_long_lists_are_cut(capsys):
    for i in range(5):
        write(f"d/{i}.png", np.zeros((8, 8, 3), np.uint8))
    assert "and 3 more; --show 0 lists all" in check(capsys, "--show", "2")
    assert check(capsys, "--show", "0").count("\n  d/") == 5


def test_in_parallel_as_a_command(strips, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = cli("-m", "data.check", strips, "--num_threads", "2")
    assert (done.returncode, done.stderr) == (1, "")
    assert "2 images the same in training and in testing" in done.stdout
    assert "train: 3, uint8, 3 channels, 128x64" in done.stdout
    done = cli("-m", "data.check", "nope")
    assert (done.returncode, done.stderr) == (2, "error: nope is not a folder\n")


def test_no_image():
    Path("d").mkdir()
    with pytest.raises(UsageError, match="no image in d: d holds nothing"):
        main(["d"])


def test_the_command_it_prints_trains(capsys):
    from conftest import run_train

    pairs()
    command = check(capsys, problems=False).strip().splitlines()[-1].removeprefix("python train.py ").split()
    assert "--load_size" in TINY
    run_train(*command)
    assert Path("checkpoints/RUN/latest_state.pth").exists()
