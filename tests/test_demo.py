"""The built-in demo: made once, split by photograph, its truth known."""

from pathlib import Path

import numpy as np
from conftest import run_test, run_train
from PIL import Image

from data import demo

SMALL = ("--dataroot", "demo", "--preprocess", "crop", "--crop_size", "64", "--max_dataset_size", "2")


def test_both_sets_are_made_and_used():
    run_train("--model", "pix2pix", "--name", "p", *SMALL)
    before = {path: path.stat().st_mtime_ns for path in Path("datasets").rglob("*.png")}
    run_train("--model", "cycle_gan", "--name", "c", *SMALL)
    run_train("--model", "colorization", "--name", "l", *SMALL)
    assert {path: path.stat().st_mtime_ns for path in Path("datasets").rglob("*.png")} == before
    for kind in ("paired", "unpaired"):
        for phase in ("train", "val", "test"):
            stems = [
                {path.stem for path in Path(f"datasets/demo/{kind}/{domain}/{phase}").iterdir()} for domain in "AB"
            ]
            assert stems[0] == stems[1] != set()
    for run, more, expected in (("p", (), "chelsea"), ("c", (), "000"), ("c", ("--direction", "BtoA"), "000")):
        assert run_test("--name", run, "--dataroot", "demo", *more) == 0
        assert Path(f"results/{run}/test_latest/images/{expected}_fake.png").exists()


def test_no_photograph_is_in_two_phases():
    names = [name for phase in demo.PHOTOGRAPHS.values() for name in phase]
    assert len(names) == len(set(names))


def test_the_truth_of_both_tasks_can_be_learned():
    """A negative is a function of each colour of the photograph; stripes are what tells the domains apart."""
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(64, axis=0))
    film = demo.negative(ramp, "seed").mean(0)
    assert (np.diff(film[::32], axis=0) < 0).all()
    import random

    white = [
        np.mean(np.all(np.asarray(demo.shapes(random.Random(i), striped)) > 240, axis=2))
        for i in range(5)
        for striped in (False, True)
    ]
    assert max(white[::2]) == 0
    assert min(white[1::2]) > 0.01
