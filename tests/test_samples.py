"""Several translations of one image: --n_samples, `BaseModel.noise`, and how far they differ."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, run_test, run_train, train_options, write
from PIL import Image

from image_translation import load
from models import create_model
from util.errors import UsageError
from util.metrics import find_metrics
from util.metrics.scores import Scores

IMAGES = Path("results/experiment_name/test_latest/images")
NOISY = """
from models.pix2pix_model import Pix2PixModel

class NoisyModel(Pix2PixModel):
    def forward(self):
        noise = self.noise(*self.real_A.shape)
        self.fake_B = (self.netG(self.real_A) + 0.2 * noise).clamp(-1, 1)
"""


def pixels(name):
    return np.asarray(Image.open(IMAGES / name)).astype(int)


@pytest.fixture
def noisy(strips):
    """A trained run of a plugin that draws noise."""
    Path("plugins").mkdir()
    Path("plugins/noisy_model.py").write_text(NOISY)
    run_train("--model", "noisy", "--plugin_dir", "plugins", "--dataroot", strips, "--no_dropout")
    return ["--model", "noisy", "--dataroot", strips]


def test_each_sample_of_an_image_is_another_translation_and_the_first_is_the_usual_one(noisy):
    run_test(*noisy)
    usual = pixels("0_fake_B.png")
    run_test(*noisy, "--n_samples", 3)
    samples = [pixels(f"0_fake_B{number}.png") for number in ("", "_2", "_3")]
    assert (samples[0] == usual).all()
    assert all((one != other).mean() > 0.5 for one, other in zip(samples, [*samples[1:], samples[0]], strict=True))
    assert not list(IMAGES.glob("*real_?_2*"))


def test_the_samples_of_an_image_do_not_depend_on_the_batch(noisy):
    run_test(*noisy, "--n_samples", 2)
    alone = [pixels(f"{i}_fake_B{number}.png") for i in (0, 1) for number in ("", "_2")]
    run_test(*noisy, "--n_samples", 2, "--batch_size", 2)
    batch = [pixels(f"{i}_fake_B{number}.png") for i in (0, 1) for number in ("", "_2")]
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(alone, batch, strict=True))


def test_a_step_draws_noise_that_never_comes_again(strips):
    model = create_model(train_options("--model", "pix2pix", "--dataroot", strips))
    model.real_A, model.image_paths = torch.zeros(1, 3, 64, 64), ["a"]
    first = model.noise(2, 5)
    model.test()
    assert not torch.equal(first, model.noise(2, 5))
    assert not torch.equal(first[0], first[1])


def test_diversity_is_the_mean_difference_of_the_files(noisy):
    run_test(*noisy, "--n_samples", 3, "--metrics", "auto")
    metrics = json.loads((IMAGES.parent / "metrics.json").read_text())
    samples = [pixels(f"1_fake_B{number}.png") / 255 for number in ("", "_2", "_3")]
    expected = np.mean([np.abs(samples[i] - samples[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))])
    assert metrics["images"]["1"]["fake_B/diversity"] == pytest.approx(expected, rel=1e-5)
    run_test(*noisy, "--metrics", "auto")
    assert "fake_B/diversity" not in (IMAGES.parent / "metrics.json").read_text()


def test_the_page_shows_the_samples_of_an_image_in_one_row(noisy, visit):
    run_test(*noisy, "--n_samples", 3, "--metrics", "auto")
    page = visit(IMAGES.parent / "index.html")
    heads = [head.split("\n")[0] for head in page.locator("table.pictures thead th").all_inner_texts()]
    assert heads[:6] == ["image", "input", "B", "B 2", "B 3", "truth"]
    assert page.locator("table.pictures tbody tr").first.locator("td a.picture").count() == 5


def test_samples_are_compared_two_by_two():
    scores = Scores(find_metrics(["diversity", "l1"]), torch.device("cpu"))
    scores.add_samples("fake_B", ["a"], [torch.full((1, 1, 8, 8), value) for value in (0.0, 0.5, 1.0)])
    assert scores.rows["a"] == {"fake_B/diversity": pytest.approx((0.5 + 1 + 0.5) / 3)}


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_a_run_with_a_code_translates_single_images(strips, direction):
    run_train("--model", "bicycle_gan", "--dataroot", strips, "--netG", "latent_unet_32", "--nef", 2, "--nz", 3,
              "--direction", direction)
    write("single/a.png", picture(40, 48))
    assert run_test("--dataroot", "single", "--n_samples", 2, "--preprocess", "none") == 0
    files = sorted(file.name for file in IMAGES.glob("*"))
    assert files == ["a_fake_B.png", "a_fake_B_2.png", "a_real_A.png"]
    assert (pixels("a_fake_B.png") != pixels("a_fake_B_2.png")).any()
    translate = load("experiment_name")
    assert (np.abs(np.asarray(translate("single/a.png")).astype(int) - pixels("a_fake_B.png")) <= 1).all()


def test_a_generator_that_takes_no_code_is_refused(strips, tmp_path):
    with pytest.raises(UsageError, match="--netG latent_unet_64 needs latent, which this model does not give"):
        run_train("--model", "pix2pix", "--dataroot", strips, "--netG", "latent_unet_64")
    for domain in "AB":
        write(f"small/train{domain}/0.png", picture(20, 20))
    with pytest.raises(UsageError, match="CodeEncoder needs images of at least 32x32, not 20x20"):
        run_train("--model", "bicycle_gan", "--dataroot", "small", "--netG", "latent_unet_32", "--nef", 2,
                  "--preprocess", "none", "--netD", "basic", "--n_layers_D", 1)
    with pytest.raises(UsageError, match="resnet_6blocks takes no latent"):
        run_train("--model", "bicycle_gan", "--dataroot", strips, "--netG", "resnet_6blocks")


def test_samples_without_noise_are_one_line(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips, "--no_dropout")
    run_test("--model", "pix2pix", "--dataroot", strips, "--n_samples", 2)
    assert "the translations of an image are all the same; --model pix2pix draws no noise" in capsys.readouterr().err
