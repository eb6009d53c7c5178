"""Each warning is provoked by a run that has the disease, and silent on one that has not."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import model_file, picture, run_train, write

from models.engine import health
from models.engine.health import WINDOW, Health

LOSSES = {"G_A": 0.3, "cycle_A": 1.5, "idt_A": 0.7, "D_A": 0.15}


def pictures(n, seed):
    return [torch.from_numpy(picture(32, 32, seed + i).astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
            for i in range(n)]


def observed(translate=None, losses=lambda i: LOSSES, files=lambda i: [], paired=False, n=2 * WINDOW, mode="lsgan"):
    """What is told about a run whose outputs are translate(i, a, b)."""
    told = []
    watched = Health(mode, paired, told.append)
    for i, (a, b) in enumerate(zip(pictures(n, 0), pictures(n, 500), strict=True)):
        model = SimpleNamespace(real_A=a, real_B=b, fake_B=translate(i, a, b)) if translate else SimpleNamespace()
        watched.observe(model, losses(i), 1000, 1, files(i))
    return told


def good(i, a, b):
    return 0.6 * b + 0.4 * torch.tanh(a)


DISEASES = {
    "copies its input": {"translate": lambda i, a, b: a + 0.001},
    "collapse to one picture": {"translate": lambda i, a, b: pictures(1, 900)[0]},
    "inverted": {"translate": lambda i, a, b: -a},
    "discriminator has won": {"losses": lambda i: {**LOSSES, "D_A": 0.001}},
    "discriminator does not learn": {"losses": lambda i: {**LOSSES, "D_A": 0.2501 + 0.001 * (i % 2)}},
    "cycle term dominates": {"losses": lambda i: {**LOSSES, "cycle_A": 40.0}},
    "identity term dominates": {"losses": lambda i: {**LOSSES, "idt_A": 40.0}},
    "L1 term dominates": {"losses": lambda i: {"G_GAN": 0.5, "G_L1": 500.0, "D_real": 0.3}, "mode": "vanilla"},
}


@pytest.mark.parametrize("name", DISEASES)
def test_each_disease_is_told_once_with_a_remedy(name):
    told = observed(**{"translate": good, **DISEASES[name]})
    assert len(told) == 1
    assert name in told[0]
    assert "; try " in told[0]


def test_a_critic_s_score_below_zero_is_no_disease():
    assert observed(good, losses=lambda i: {**LOSSES, "G_A": -3.0}, mode="wgangp") == []


def test_a_healthy_run_is_silent():
    assert observed(good, losses=lambda i: {**LOSSES, "D_A": 0.15 + 0.1 * (i % 3)}) == []
    assert observed(lambda i, a, b: -a + 2 * b, paired=True) == []
    assert observed(None) == []  # a model with other attributes


def test_pairs_are_inverted_against_their_truth():
    assert observed(lambda i, a, b: -0.5 * b, paired=True)[0].startswith("health: bright and dark are inverted")


def test_an_end_is_told_too():
    told = observed(lambda i, a, b: a if i < 12 else good(i, a, b), n=40)
    assert [line.split(";")[0] for line in told] == ["health: the generator copies its input",
                                                     "health: no longer: the generator copies its input"]


def test_repeated_files_are_told(tmp_path):
    paths = [write(tmp_path / f"{i}.png", picture(seed=i)) for i in range(40)]
    copies = [write(tmp_path / f"copy{i}.png", picture(seed=i % 5)) for i in range(40)]
    assert observed(good, files=lambda i: [paths[i]], n=40) == []
    told = observed(good, files=lambda i: [copies[i]], n=40)
    assert "the data repeats" in told[0]


def test_a_training_tells_and_shows_it(domains, capsys, monkeypatch):
    """A generator that copies: the line is in the terminal, in the log and on the page."""
    monkeypatch.setattr(health, "EARLY", 0)
    body = "    def forward(self):\n        super().forward()\n        self.fake_B = self.real_A + 0 * self.fake_B\n"
    run_train(*model_file("copy", "CycleGAN", body), "--dataroot", domains, "--netG", "resnet_6blocks", "--n_epochs", 5,
              "--print_freq", 1)
    line = "health: the generator copies its input; try --lambda_identity 0"
    assert line in capsys.readouterr().err
    run = Path("checkpoints/experiment_name")
    assert line in (run / "loss_log.jsonl").read_text()
    assert line in (run / "web/index.html").read_text()
