"""Images that can't be used, and data workers that die or hang, in training and in testing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, picture, run_test, run_train, train_options, write
from PIL import Image

from data import create_dataset
from util.errors import UsageError

RUN = Path("checkpoints/experiment_name")
PLUGINS = str(ROOT / "tests" / "plugins")


def broken_strips(tmp_path, n=6, broken=(1,)):
    for i in range(n):
        path = write(tmp_path / "b" / "train" / f"{i}.png", np.concatenate([picture(seed=i)] * 2, axis=1))
        if i in broken:
            Path(path).write_bytes(Path(path).read_bytes()[:200])
    return ("--model", "pix2pix", "--dataroot", "b")


def test_a_broken_image_is_replaced_by_the_same_draw_whatever_the_workers(tmp_path, capsys):
    argv = broken_strips(tmp_path)
    seen = []
    for threads in ("0", "2"):
        loader = create_dataset(train_options(*argv, "--num_threads", threads))
        for epoch in (1, 2):
            loader.set_epoch(epoch)
            seen.append([(batch["A_paths"][0], batch["A"].sum().item()) for batch in loader])
        loader.set_epoch(2, start=3)
        assert [(batch["A_paths"][0], batch["A"].sum().item()) for batch in loader] == seen[-1][3:]
        assert list(loader.errors) == ["b/train/1.png"]
    assert seen[:2] == seen[2:]
    assert all(len(epoch) == 6 and "b/train/1.png" not in dict(epoch) for epoch in seen)
    assert capsys.readouterr().err.count("b/train/1.png: can't be read") == 2  # once a loader


def test_a_run_says_how_many_images_it_could_not_use(tmp_path, capsys):
    run_train(*broken_strips(tmp_path, broken=(1, 4)))
    assert "unusable images: 2" in capsys.readouterr().out


@pytest.mark.parametrize("threads", ["0", "2"])
def test_too_many_broken_images_stop_a_run_that_is_saved(tmp_path, threads):
    argv = broken_strips(tmp_path, broken=(1, 2, 3))
    message = "3 images are unusable, more than --max_bad_images 2; python -m data.check b lists all of them"
    with pytest.raises(UsageError, match=message):
        run_train(*argv, "--max_bad_images", "2", "--num_threads", threads, "--serial_batches")
    assert torch.load(RUN / "latest_state.pth", weights_only=True)["progress"]["total_iters"] > 0


def test_where_nothing_can_be_read_the_first_is_named(tmp_path):
    with pytest.raises(UsageError, match="b/train/0.png: can't be read"):
        run_train(*broken_strips(tmp_path, n=3, broken=(0, 1, 2)), "--serial_batches")


def test_samples_that_are_not_finite_never_reach_the_model(tmp_path, capsys):
    Path("hole_dataset.py").write_text("""
from data.aligned_dataset import AlignedDataset
class HoleDataset(AlignedDataset):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index == 2:
            sample["B"] = sample["B"].log()
        return sample
""")
    argv = broken_strips(tmp_path, broken=())
    run_train(*argv, "--dataset_mode", "hole", "--plugin_dir", ".")
    err = capsys.readouterr().err
    assert "b/train/2.png: becomes values that are not finite; another draw replaces it" in err
    assert "skipped steps" not in err


def test_a_large_batch_is_not_a_hung_worker(tmp_path, capsys):
    Path("slow_dataset.py").write_text("""
import time
from data.aligned_dataset import AlignedDataset
class SlowDataset(AlignedDataset):
    def read(self, domain, path):
        time.sleep(0.4)
        return super().read(domain, path)
""")
    argv = (*broken_strips(tmp_path, broken=()), "--dataset_mode", "slow", "--plugin_dir", ".", "--batch_size", "6")
    loader = create_dataset(train_options(*argv, "--num_threads", "1", "--worker_timeout", "1"))
    assert [len(batch["A_paths"]) for batch in loader] == [6]
    loader.close()
    assert "data worker" not in capsys.readouterr().err


def test_whatever_a_classic_dataset_raises_about_a_file(tmp_path, capsys):
    argv = broken_strips(tmp_path, broken=())
    Image.new("1", (20000, 20000)).save("b/train/1.png")
    run_train(*argv, "--model", "classic", "--plugin_dir", PLUGINS)
    assert "sample 1 of ClassicDataset: Image size (400000000 pixels) exceeds limit" in capsys.readouterr().err


def test_long_and_odd_names(tmp_path, capfd):
    path = Path("b/train", *["\U0001f600" * 60] * 6, "a\nb\udcff.png")
    write("x.png", np.concatenate([picture()] * 2, axis=1))
    path.parent.mkdir(parents=True)
    path.write_bytes(Path("x.png").read_bytes()[:100])
    run_train(*broken_strips(tmp_path, broken=()), "--num_threads", "2")
    lines = [line for line in capfd.readouterr().err.splitlines() if "can't be read" in line]
    assert len(lines) == 1


def test_a_worker_that_cannot_read_a_file_without_dying(tmp_path, capsys):
    Path("deadly_dataset.py").write_text("""
import os, signal
from data.single_dataset import SingleDataset
class DeadlyDataset(SingleDataset):
    def read(self, domain, path):
        image = super().read(domain, path)
        if path.endswith("1.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        return image
""")
    broken_strips(tmp_path, broken=())
    run_train("--model", "pix2pix", "--dataroot", "b")
    code = run_test("--dataroot", "b/train", "--dataset_mode", "deadly", "--plugin_dir", ".", "--num_threads", "2")
    err = capsys.readouterr().err
    assert code == 1
    assert err.count("a data worker died, reading b/train/1.png; it is restarted") == 2
    assert "skipped b/train/1.png: a data worker died or hung on it, twice" in err
    assert len(list(Path("results/experiment_name/test_latest/images").glob("*_fake.png"))) == 5
