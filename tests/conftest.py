"""Small datasets, runs in a temporary folder, and everything global put back after each test."""

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of tiny networks, several threads only wait for each other

import numpy as np
import pytest
import torch
from PIL import Image

import data
import models
from models.engine.state import networks
from networks import DISCRIMINATORS, GENERATORS, NORMS, OBJECTIVES, define_G
from networks.super_resolution import Enlarging
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util import metrics, notices
from util.seed import random_states, restore_random_states

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ("file:", "data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")  # addresses on this machine
GOLDEN = Path(__file__).parent / "golden"
TINY = (
    "--netG unet_64 --ngf 2 --ndf 2 --load_size 72 --crop_size 64 --num_threads 0 --n_epochs 1 --n_epochs_decay 0 "
    "--print_freq 2 --update_html_freq 2 --display_samples 0 --display_id 0 --seed 3 --device cpu "
    "--amp off --compile off"
).split()


@pytest.fixture(autouse=True)
def no_trace(tmp_path, monkeypatch):
    """Work in a temporary folder; restore plugin paths, registries, notices, random states and the dtype."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    paths = {package: list(package.__path__) for package in (data, models, metrics)}
    metrics.find_metrics(["l1"])  # ours are registered once
    registries = [GENERATORS, DISCRIMINATORS, NORMS, OBJECTIVES, metrics.METRICS]
    entries = [dict(registry._entries) for registry in registries]
    modules = set(sys.modules)
    states, dtype = random_states(), torch.get_default_dtype()
    notices._seen.clear()
    torch.manual_seed(0)
    yield
    for package, path in paths.items():
        package.__path__[:] = path
    for registry, entry in zip(registries, entries, strict=True):
        registry._entries = entry
    for name in set(sys.modules) - modules:  # plugins: two tests may use one name for different files
        plugin = name.startswith(("models.", "data.", "util.metrics."))
        if plugin and ROOT not in Path(sys.modules[name].__file__).parents:
            del sys.modules[name]
    restore_random_states(states)
    torch.set_default_dtype(dtype)


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a page from disk or this machine; afterwards, it must have had no error and asked for nothing else."""
    context = browser.new_context(viewport={"width": 1400, "height": 2500})
    tab, complaints = context.new_page(), []
    tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: "ABORTED" in request.failure or complaints.append(request.url))
    tab.on("request", lambda request: not request.url.startswith(LOCAL) and complaints.append(request.url))

    def open_page(path, at=""):
        tab.goto((path if "://" in str(path) else Path(path).resolve().as_uri()) + at)
        tab.wait_for_load_state("load")
        return tab

    yield open_page
    context.close()
    assert not complaints


def picture(width=64, height=64, seed=0, channels=3):
    """A smooth random (H, W, C) uint8 picture."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, channels), dtype=np.uint8)
    planes = [
        np.asarray(Image.fromarray(coarse[:, :, c]).resize((width, height), Image.BICUBIC)) for c in range(channels)
    ]
    return np.stack(planes, axis=2)


def write(path, array):
    """Write an 8-bit picture, grey or colour."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(path)
    return str(path)


def write_weights(path, seed=1):
    """Weights of a small generator, which describe themselves."""
    from networks import define_G

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.save(define_G(3, 3, 4, "resnet_2blocks", "instance", init_gain=0.3).state_dict(), path)


@pytest.fixture
def strips(tmp_path):
    """`strips/{train,test}`: three pairs {A|B} of 64x64 to train on, two to test, B the negative of A."""
    for phase, count in (("train", 3), ("test", 2)):
        for i in range(count):
            a = picture(seed=i)
            write(tmp_path / "strips" / phase / f"{i}.png", np.concatenate([a, 255 - a], axis=1))
    return "strips"


@pytest.fixture
def domains(tmp_path):
    """`domains/{train,test}{A,B}`: three images of A, two of B."""
    for phase in ("train", "test"):
        for domain, count in (("A", 3), ("B", 2)):
            for i in range(count):
                write(tmp_path / "domains" / f"{phase}{domain}" / f"{i}.png", picture(seed=10 * i + ord(domain)))
    return "domains"


def train_options(*argv):
    """Options of a small training."""
    return TrainOptions().parse([*TINY, *map(str, argv)])


def generator(input_nc, output_nc, ngf, name, *more):
    """A generator of this name that keeps the size of its input."""
    enlarges = issubclass(GENERATORS[name][0], Enlarging)
    return define_G(input_nc, output_nc, ngf, name, *more, **({"scale": 1} if enlarges else {}))


def run_train(*argv):
    """Train small, in this process; returns the model."""
    import train

    return train.train(train_options(*argv))


def run_on(*argv):
    """Continue a training with nothing but --continue_train and these arguments; returns the model."""
    import train

    return train.train(TrainOptions().parse(["--continue_train", *argv]))


def run_test(*argv):
    """Test in this process; returns the exit code."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("test_script", ROOT / "test.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.test(TestOptions().parse(["--num_threads", "0", "--device", "cpu", "--amp", "off", *map(str, argv)]))


def cli(script, *argv, **kwargs):
    """Run a script as a user does; returns the finished process."""
    import subprocess

    script = script if script.startswith("-") else str(ROOT / script)
    return subprocess.run([sys.executable, script, *map(str, argv)], capture_output=True, text=True, timeout=240,
                          **kwargs)


def weights(model):
    """All tensors of the networks."""
    return [value.clone() for net in networks(model).values() for value in net.state_dict().values()]


def equal(one, two):
    """Whether two lists of tensors are the same, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def model_file(name, base, body):
    """Write a model that adds to one of ours into the working folder; returns the arguments that use it."""
    module = {"Pix2Pix": "pix2pix", "CycleGAN": "cycle_gan"}[base]
    text = f"import os, signal\nimport torch\nfrom models.{module}_model import {base}Model\n\n\n"
    Path(f"{name}_model.py").write_text(f"{text}class {name.title()}Model({base}Model):\n    steps = 0\n{body}")
    mode = {"Pix2Pix": "aligned", "CycleGAN": "unaligned"}[base]
    return ("--model", name, "--plugin_dir", ".", "--dataset_mode", mode)
