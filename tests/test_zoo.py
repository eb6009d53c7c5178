"""Each model plugin by itself: a step, its gradients, a resumed run, tests, a captured step."""

import json
from pathlib import Path

import pytest
import torch
from conftest import equal, picture, run_on, run_test, run_train, train_options, weights, write
from test_captured_step import assert_close, rerun, trained
from test_distributed import torchrun

from models import create_model, find_model_using_name
from models.engine.state import networks
from util.plugins import plugin_names

NCE = ("--netG", "resnet_1blocks_blurpool", "--nce_layers", "4,8,12", "--num_patches", "64", "--netF_nc", "8")
MORE = {
    "cut": NCE, "dcl_gan": NCE,
    "discogan": ("--netG", "dcgan", "--netD", "dcgan"),
    "santa": ("--netG", "santa_6blocks"),
    "stargan": ("--netG", "stargan_1blocks", "--n_layers_D", "3", "--batch_size", "2", "--n_critic", "2"),
    "pix2pix": ("--no_dropout",), "template": ("--no_dropout",), "colorization": ("--no_dropout",),
}
MODELS = [name for name in plugin_names("models", "model") if name != "test"]
ONE_SIDED = [name for name in MODELS if find_model_using_name(name).one_sided]
# RMSprop has no fused step, which the guard of a captured one needs.
CAPTURABLE = [name for name in MODELS if vars(find_model_using_name(name)).get("capturable") and name != "dualgan"]


@pytest.fixture
def data(tmp_path, strips, domains):
    """Model -> the arguments that train it on small data that suits it."""
    for phase in ("train", "test"):
        for i in range(4):
            write(tmp_path / "classes" / phase / ("blue", "red")[i % 2] / f"{i}.png", picture(seed=i))
        write(tmp_path / "photos" / phase / "0.png", picture())
    roots = {"stargan": "classes", "colorization": "photos"}

    def arguments(name):
        needs = vars(find_model_using_name(name)).get("needs")
        root = roots.get(name) or (strips if needs == "pairs" else domains)
        return ("--model", name, "--dataroot", root, "--val_freq", "0", *MORE.get(name, ()))
    return arguments


def batch(name, n):
    """Random images as a model's input."""
    channels = (1, 2) if name == "colorization" else (3, 3)
    images = {domain: torch.rand(n, c, 64, 64) * 2 - 1 for domain, c in zip("AB", channels, strict=True)}
    return {**images, "A_label": torch.eye(2)[torch.arange(n) % 2], "A_paths": ["a"] * n, "B_paths": ["b"] * n}


def options(name, data, *more):
    """Options of a model without its dataset, which would set the labels."""
    opt = train_options(*data(name), *more)
    if name == "stargan":
        opt.attributes, opt.exclusive = ["blue", "red"], True
    return opt


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name, data):
    opt = options(name, data)
    model = create_model(opt)
    model.setup(opt)
    model.set_input(batch(name, opt.batch_size))
    model.optimize_parameters()
    lacking = [f"{net}.{key}" for net, module in networks(model).items()
               for key, p in module.named_parameters() if p.grad is None]
    assert not lacking
    assert all(torch.isfinite(torch.tensor(value)) for value in model.get_current_losses().values())


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_is_the_run(name, data):
    whole = run_train(*data(name), "--n_epochs", "2", "--name", "whole", "--no_html")
    run_train(*data(name), "--n_epochs", "1", "--name", "parts", "--no_html")
    parts = run_on("--name", "parts", "--n_epochs", "2")
    assert equal(weights(whole), weights(parts))


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_tests_and_shows(name, data):
    argv = data(name)
    run_train(*argv, "--display_samples", "1", "--accumulate", "2")
    points = [json.loads(line) for line in Path("checkpoints/experiment_name/loss_log.jsonl").read_text().splitlines()]
    assert all(abs(value) < float("inf") for point in points for value in point.get("losses", {}).values())
    page = json.loads(Path("checkpoints/experiment_name/web/page.json").read_text())
    assert "fake" in json.dumps(page)
    assert run_test("--model", name, "--dataroot", argv[3], "--name", "experiment_name") == 0
    made = list(Path("results/experiment_name/test_latest/images").rglob("*_fake_*.png"))
    assert made
    if name in ONE_SIDED:
        assert run_test("--name", "experiment_name", "--dataroot", "domains/testA") == 0
        assert len(list(Path("results/experiment_name/test_latest/images").glob("*_fake.png"))) == 3


@pytest.mark.parametrize("name", CAPTURABLE)
def test_a_captured_step_is_the_step(name, data, capsys):
    opt = options(name, data)
    torch.manual_seed(0)
    batches = [batch(name, opt.batch_size) for _ in range(12)]
    plain, _, _ = trained(opt, batches)
    replayed, step, _ = trained(opt, batches, record=rerun)
    assert len(step.recorded) == (2 if opt.n_critic > 1 else 1), capsys.readouterr()
    if name == "stargan":  # Adam amplifies rounding errors, and norms leave the attributes' weights little else
        assert_close_on_the_whole(plain, replayed)
    else:
        assert_close(plain, replayed)


def assert_close_on_the_whole(one, two):
    one, two = (torch.cat([value.flatten() for value in values]) for values in (one, two))
    assert (one - two).norm() < 2e-2 * one.norm()


KIT = [
    ("cycle_gan", "--n_critic", "2", "--norm", "batch"),
    ("cycle_gan", "--spectral_norm", "--gan_mode", "hinge", "--lr_D", "0.0001"),
    ("cycle_gan", "--netD", "deviation"),
    ("cycle_gan", "--netD", "multiscale", "--n_layers_D", "2", "--lambda_feature", "1"),
    ("pix2pix", "--r1", "1", "--gp", "1", "--penalty_every", "2"),
    ("pix2pix", "--gan_mode", "relativistic", "--diffaugment", "color,translation,cutout,flip,affine"),
    ("pix2pix", "--gan_mode", "began", "--netD", "autoencoder"),
    ("pix2pix", "--netD", "dcgan", "--reconstruction", "l1,frequency:0.5,gradient"),
    ("cycle_gan", "--netG", "vit_unet_6blocks", "--ngf", "8"),
]


@pytest.mark.parametrize("words", KIT, ids=" ".join)
def test_with_each_option_of_the_kit_a_run_resumes_and_its_step_is_captured(words, data, capsys):
    argv = (*data(words[0]), *words[1:])
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole", "--no_html")
    run_train(*argv, "--n_epochs", "1", "--name", "parts", "--no_html")
    assert equal(weights(whole), weights(run_on("--name", "parts", "--n_epochs", "2")))
    opt = train_options(*argv)
    torch.manual_seed(0)
    batches = [batch(words[0], 1) for _ in range(12)]
    plain, _, _ = trained(opt, batches)
    replayed, step, _ = trained(opt, batches, record=rerun)
    two = "--n_critic" in words or "--penalty_every" in words
    assert len(step.recorded) == (2 if two else 1), capsys.readouterr()
    (assert_close_on_the_whole if "vit_unet_6blocks" in words else assert_close)(plain, replayed)  # see above


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_processes(name, data):
    done = torchrun("train.py", *train_words(name, data))
    assert done.returncode == 0, done.stderr


def train_words(name, data):
    from conftest import TINY

    return (*TINY, *data(name), "--name", "two")
