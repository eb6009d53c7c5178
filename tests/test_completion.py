"""Images with holes: their shapes, and what is completed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, run_test, run_train, write
from PIL import Image

from image_translation import load
from networks.holes import HOLES, hole
from util.errors import UsageError

IMAGES = Path("results/experiment_name/test_latest/images")


def drawn(name, n=200, height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    return hole(name, lambda *size: torch.rand(size, generator=generator), torch.empty(n, 3, height, width))


def pixels(name):
    return np.asarray(Image.open(IMAGES / name)).astype(int)


@pytest.mark.parametrize(("name", "low", "high"), [("center", 0.25, 0.25), ("random_box", 0.25, 0.25),
                                                  ("half", 0.5, 0.5), ("brush", 0.05, 0.6)])
def test_a_hole_is_of_zeros_and_ones_and_covers_its_share(name, low, high):
    holes = drawn(name)
    assert holes.shape == (200, 1, 32, 48)
    assert set(holes.unique().tolist()) == {0.0, 1.0}
    shares = holes.mean((1, 2, 3))
    assert low - 1e-6 <= shares.min() <= shares.max() <= high + 1e-6


def test_a_box_is_a_box_and_lies_anywhere():
    holes = drawn("random_box")[:, 0].bool()
    for one in holes:
        rows, columns = one.any(1), one.any(0)
        assert (rows.sum(), columns.sum()) == (16, 24)
        assert torch.equal(one, rows[:, None] & columns[None])
    assert holes.any(0).float().mean() > 0.95
    assert len({tuple(one.flatten().tolist()) for one in holes}) > 100


def test_each_half_is_drawn():
    assert {tuple(one[0].flatten().tolist()) for one in drawn("half")} == {
        tuple(one.flatten().tolist()) for one in halves(32, 48)}


def halves(height, width):
    found = []
    for rows, columns in ((slice(0, height // 2), slice(None)), (slice(height // 2, None), slice(None)),
                          (slice(None), slice(0, width // 2)), (slice(None), slice(width // 2, None))):
        one = torch.zeros(height, width)
        one[rows, columns] = 1
        found.append(one)
    return found


def test_a_brush_leaves_one_connected_hole():
    from scipy.ndimage import label

    assert all(label(one[0].numpy(), np.ones((3, 3)))[1] == 1 for one in drawn("brush", n=20))


@pytest.mark.parametrize("objective", ["pix2pix", "ccgan"])
def test_only_the_hole_is_completed_and_it_is_always_the_same(objective):
    for i in range(3):
        write(f"photos/{i}.png", picture(seed=i))
    run_train("--model", "completion", "--dataroot", "photos", "--objective", objective, "--norm", "instance")
    run_test("--dataroot", "photos", "--preprocess", "none")
    first = [pixels(f"{i}_fake_A.png") for i in range(3)]
    for i in range(3):
        changed = (first[i] != pixels(f"{i}_real_A.png")).any(2)
        missing = (pixels(f"{i}_hidden_A.png") != pixels(f"{i}_real_A.png")).any(2)
        assert 0.2 < changed.mean() <= 0.25
        assert not (changed & ~missing).any() or (changed & ~missing).mean() < 0.01  # mid-grey looks like a hole
    write("tiny/0.png", picture(64, 3))
    assert run_test("--dataroot", "tiny", "--preprocess", "none", "--results_dir", "tiny") == 0
    run_test("--dataroot", "photos", "--preprocess", "none", "--batch_size", 3)
    assert all(np.abs(first[i] - pixels(f"{i}_fake_A.png")).max() <= 1 for i in range(3))


def test_a_hole_may_come_from_a_file():
    for i in range(2):
        write(f"photos/{i}.png", picture(seed=i))
        white = np.zeros((64, 64, 1), np.uint8)
        white[8:24, 32:40] = 255
        write(f"holes/{i}.png", white)
    argv = ["--dataroot", "photos", "--masks", "holes"]
    run_train("--model", "completion", *argv, "--norm", "instance", "--no_flip", "--preprocess", "none")
    run_test(*argv, "--preprocess", "none")
    changed = (pixels("0_fake_A.png") != pixels("0_real_A.png")).any(2)
    assert changed[8:24, 32:40].mean() > 0.9
    assert changed.sum() <= 16 * 8
    found = load("experiment_name", device="cpu", amp="off", masks="holes")("photos/0.png")
    assert np.array_equal(np.asarray(found).astype(int), pixels("0_fake_A.png"))
    with pytest.raises(ValueError, match="experiment_name fills holes; masks"):
        load("experiment_name", device="cpu", amp="off")("photos/0.png")
    write("photos/new.png", picture())
    with pytest.raises(UsageError, match=r"--masks holes has no image for 1 of 3 images, such as photos/new.png"):
        run_test(*argv)


def test_a_completed_image_has_the_channels_of_its_input():
    write("photos/0.png", picture())
    with pytest.raises(UsageError, match="--input_nc 3 and --output_nc 1 must be equal"):
        run_train("--model", "completion", "--dataroot", "photos", "--output_nc", 1)
    assert set(HOLES) == {"center", "random_box", "half", "brush"}


def test_all_samples_of_an_image_have_one_hole():
    write("photos/0.png", picture())
    run_train("--model", "completion", "--dataroot", "photos", "--norm", "instance")
    run_test("--dataroot", "photos", "--preprocess", "none", "--n_samples", 2)
    one, other = ((pixels(f"0_fake_A{number}.png") != pixels("0_real_A.png")).any(2) for number in ("", "_2"))
    assert (one != other).mean() < 0.01
