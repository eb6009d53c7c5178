"""Decoded once: the same pixels from the cache, for every process, as long as the file is the same."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import picture, train_options, write

from data import create_dataset
from data.loading.cache import PixelCache, key_of, make_cache

MODES = [("pix2pix", "aligned", "strips"), ("cycle_gan", "unaligned", "domains"),
         ("colorization", "colorization", "strips"), ("template", "template", "strips")]


def loaded(*argv, epochs=(1, 2)):
    """All samples of some epochs, and how often a file was read for them."""
    opt = train_options(*argv)
    loader = create_dataset(opt)
    reads, read = [], type(loader.dataset).read
    loader.dataset.read = lambda *where: reads.append(where) or read(loader.dataset, *where)
    samples = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        samples += list(loader)
    loader.close()
    return samples, len(reads)


@pytest.mark.parametrize("preprocess", ["resize_and_crop", "crop", "scale_width_and_crop", "scale_width", "none"])
@pytest.mark.parametrize(("model", "mode", "root"), MODES)
def test_cached_pixels_are_the_pixels(model, mode, root, preprocess, request):
    argv = ("--model", model, "--dataset_mode", mode, "--dataroot", request.getfixturevalue(root), "--preprocess",
            preprocess, "--crop_size", "48", "--load_size", "56")
    plain, reads = loaded(*argv, "--cache", "off")
    for kind in ("ram", "disk"):
        cached, fewer = loaded(*argv, "--cache", kind)
        assert len(cached) == len(plain)
        assert all(torch.equal(a[key], b[key]) for a, b in zip(plain, cached, strict=True) for key in "AB")
        assert fewer < reads


def test_every_depth_is_kept():
    cache = PixelCache(4, 10**6, None)
    arrays = [np.arange(24).reshape(2, 3, 4).astype(dtype) for dtype in (np.uint8, np.uint16, np.float32)]
    cache.put(7, arrays)
    found = cache.get(7)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(arrays, found, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        found[0][0, 0, 0] = 1
    assert cache.get(8) is None


def test_sixteen_bits_pass_through_the_cache(tmp_path):
    for domain in "AB":
        for i in range(2):
            path = tmp_path / "deep" / f"train{domain}" / f"{i}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, picture(seed=i, channels=1)[:, :, 0].astype(np.uint16) * 256)
    argv = ("--model", "cycle_gan", "--dataroot", "deep", "--input_nc", "1", "--output_nc", "1")
    plain, _ = loaded(*argv, "--cache", "off")
    cached, _ = loaded(*argv, "--cache", "ram")
    assert all(torch.equal(a["A"], b["A"]) for a, b in zip(plain, cached, strict=True))


def test_a_file_that_changes_is_read_again(strips):
    path = Path(strips) / "train" / "0.png"
    opt = train_options("--model", "pix2pix", "--dataroot", strips, "--cache", "ram", "--serial_batches", "--no_flip",
                        "--preprocess", "none")
    loader = create_dataset(opt)
    before = next(iter(loader))["A"]
    write(path, np.full((64, 128, 3), 9, np.uint8))
    loader.set_epoch(2)
    assert not torch.equal(next(iter(loader))["A"], before)
    path.unlink()
    loader.set_epoch(3)
    assert loader.dataset.cache is not None
    list(loader)
    assert str(path) in loader.errors


def test_a_full_cache_stays_as_it_is_and_the_rest_is_read(strips):
    cache = PixelCache(100, 3000, None)
    for key in range(1, 50):
        cache.put(key, [np.full((10, 10, 3), key, np.uint8)])
    kept = [key for key in range(1, 50) if cache.get(key) is not None]
    assert 8 <= len(kept) <= 9
    assert all(cache.get(key)[0][0, 0, 0] == key for key in kept)


def test_a_full_disk_is_told_once(monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = PixelCache(10, 10**6, ".")
    monkeypatch.setattr(os, "posix_fallocate", full)
    cache.put(1, [picture()])
    cache.put(2, [picture()])
    assert cache.get(1) is None
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert os.listdir(".") == []  # it has no name


def fill(cache, first):
    for key in range(first, first + 40):
        cache.put(key, [np.full((4, 4, 1), key % 251, np.uint8)])


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_share_it(method):
    cache = PixelCache(200, 10**6, None)
    start = multiprocessing.get_context(method)
    processes = [start.Process(target=fill, args=(cache, first)) for first in (1, 41, 81)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert all(cache.get(key)[0].max() == key % 251 for key in range(1, 121))


def test_workers_fill_it_for_each_other(strips):
    opt = train_options("--model", "pix2pix", "--dataroot", strips, "--cache", "ram", "--num_threads", "2")
    loader = create_dataset(opt)
    try:
        list(loader)
        dataset = loader.dataset
        assert all(dataset.cache.get(key_of("read_pair", a, b, paths={a, b})) for a, b in dataset.pairs)
    finally:
        loader.close()


def test_a_limit_on_files_is_told_and_there_is_no_cache(capsys):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert make_cache("ram", 10, ".", 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "decoded images are not kept ([Errno 27]" in capsys.readouterr().err


def test_kinds():
    assert make_cache("off", 10, ".", 1) is None
    assert make_cache("disk", 10, "not there", 1) is not None
    half, whole = (make_cache("ram", 10, ".", shares)._size for shares in (2, 1))
    assert half < whole
