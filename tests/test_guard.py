"""Losses and gradients that are not finite."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, equal, model_file, run_on, run_train, weights
from torch import nn

from models.engine.state import optimizers
from models.engine.step import Guard, fuse
from util.errors import UsageError
from util.image_pool import ImagePool

RUN = Path("checkpoints/experiment_name")
PLUGINS = str(ROOT / "tests" / "plugins")


def toy(make):
    weight = nn.Parameter(torch.ones(3))
    optimizer = make([weight])
    fuse(optimizer)

    def step(value):
        optimizer.zero_grad()
        (weight * torch.tensor([value, 1.0, 1.0])).sum().backward()
        optimizer.step()

    return weight, optimizer, step


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1),
    "Adam foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing(name, value):
    weight, optimizer, step = toy(OPTIMIZERS[name])
    other, _, other_step = toy(OPTIMIZERS[name])
    with Guard() as guard:
        for i, number in enumerate((value, 2.0, value, value, 3.0)):
            step(number)
            guard.end_step([str(i)])
        assert guard.read() == ["0", "2", "3"]
        assert (guard.streak, guard.skipped, guard.taken) == (0, 3, 2)
        step(value)
        guard.end_step(["5"])
        assert (guard.read(), guard.streak) == (["5"], 1)
        for number in (2.0, 3.0):
            other_step(number)
    assert torch.equal(weight, other)
    assert not hasattr(optimizer, "found_inf")
    step(1.0)
    assert not torch.equal(weight, other)  # the guard is gone


def test_fused_where_it_was_left_open():
    for name, fused in (("Adam", True), ("AdamW", True), ("Adam foreach", None), ("SGD", None)):
        assert toy(OPTIMIZERS[name])[1].param_groups[0].get("fused") is fused


def test_gradients_are_clipped_also_those_of_a_classic_model_file(strips):
    weight, _, step = toy(lambda p: torch.optim.SGD(p, lr=1.0))
    with Guard(clip=0.5):
        step(100.0)
    assert (weight.detach() - 1).norm().item() == pytest.approx(0.5, rel=1e-5)
    moved = []
    for clip in ("0", "1e-6"):
        model = run_train("--model", "classic", "--plugin_dir", PLUGINS, "--dataroot", strips, "--grad_clip", clip)
        states = [s for o in optimizers(model).values() for s in o.state.values()]
        moved.append(max(s["exp_avg"].abs().max().item() for s in states))
    assert moved[1] < 1e-6 < moved[0]


def test_statistics_of_batch_norm_are_mended():
    norm = nn.BatchNorm1d(2)
    optimizer = torch.optim.Adam(norm.parameters())
    buffers = [norm.running_mean, norm.running_var]
    with Guard(statistics=buffers) as guard:
        for value in (1.0, float("nan")):
            optimizer.zero_grad()
            norm(torch.tensor([[0.0, 1.0], [value, 2.0]])).sum().backward()
            optimizer.step()
            guard.end_step([])
            if value == 1.0:
                guard.read()
                good = [buffer.clone() for buffer in buffers]
        assert not torch.equal(buffers[0], good[0])
        guard.read()
    assert equal(buffers, good)


BROKEN = """
    def generator_loss(self):
        BrokenModel.steps += 1
        loss = super().generator_loss()
        {action}
        return loss
"""


@pytest.mark.parametrize("action", [
    "if self.steps == 3: loss = loss * float('nan')",
    "if self.steps == 3: loss = loss + float('inf')",  # its gradient is finite
])
def test_a_loss_that_is_not_finite_costs_one_step_and_names_its_files(domains, capsys, action):
    argv = model_file("broken", "CycleGAN", BROKEN.format(action=action))
    model = run_train(*argv, "--dataroot", domains, "--n_epochs", "2", "--serial_batches")
    assert all(value.isfinite().all() for value in weights(model))
    err = capsys.readouterr().err
    assert "skipped steps: 1, with the files domains/trainA/2.png, domains/trainB/0.png" in err
    assert model.optimizer_G.state_dict()["state"][0]["step"] == 5
    assert model.optimizer_D.state_dict()["state"][0]["step"] == 6


def test_a_classic_plugin_is_guarded_too(strips, capsys):
    text = (Path(PLUGINS) / "classic_model.py").read_text().replace("class ClassicModel", "class HurtModel")
    Path("hurt_model.py").write_text(text.replace("self.loss_G.backward()", "(self.loss_G * float('nan')).backward()"))
    assert "float('nan')" in Path("hurt_model.py").read_text()
    argv = ("--model", "hurt", "--plugin_dir", ".", "--dataset_mode", "aligned", "--dataroot", strips)
    with pytest.raises(UsageError, match="no step was finite, nothing is trained"):
        run_train(*argv, "--lambda_edge", "3", "--pool_size", "0")
    state = torch.load(RUN / "latest_state.pth", weights_only=True)
    assert all(v.isfinite().all() for net in state["networks"].values() for v in net.values())
    assert "skipped steps: 3" in capsys.readouterr().err


def test_weights_go_back_to_the_last_save_and_no_further(strips, capsys):
    action = "if 4 <= self.steps <= 6 or self.steps >= 10: loss = loss * float('nan')"
    argv = model_file("broken", "Pix2Pix", BROKEN.format(action=action))
    more = ("--n_epochs", "9", "--nan_patience", "3", "--print_freq", "1")
    with pytest.raises(UsageError, match="no step is finite any more, and there is no good save"):
        run_train(*argv, "--dataroot", strips, *more)
    assert capsys.readouterr().err.count("the weights of the last save are restored") == 2
    state = torch.load(RUN / "latest_state.pth", weights_only=True)
    assert all(v.isfinite().all() for net in state["networks"].values() for v in net.values())
    run_on("--n_epochs", "3", "--model", "pix2pix", "--dataset_mode", "aligned", "--nan_patience", "3")


def test_weights_that_are_not_finite_are_not_saved(strips, capsys):
    argv = model_file("broken", "Pix2Pix", """
    def optimize_parameters(self):
        super().optimize_parameters()
        BrokenModel.steps += 1
        if self.steps == 5:
            next(self.netG.parameters()).data.fill_(float("nan"))
""")
    model = run_train(*argv, "--dataroot", strips, "--n_epochs", "3")
    assert "weights are not finite; the weights of the last save are restored" in capsys.readouterr().err
    assert all(value.isfinite().all() for value in weights(model))


def test_a_pool_forgets_what_is_not_finite():
    pool = ImagePool(3)
    pool.query(torch.stack([torch.full((1, 2, 2), value) for value in (1.0, float("nan"), 2.0)]))
    pool.drop_non_finite()
    assert [image[0, 0, 0].item() for image in pool.images] == [1.0, 2.0]


def test_statistics_do_not_depend_on_when_they_are_looked_at(strips):
    argv = model_file("broken", "Pix2Pix", """
    def forward(self):
        BrokenModel.steps += 1
        if self.steps in (3, 4):
            self.real_A = self.real_A * float("nan")
        super().forward()
""")
    more = ("--dataroot", strips, "--norm", "batch", "--n_epochs", "2", "--dataset_mode", "aligned")
    ended = []
    for frequency in ("1", "1000"):
        ended.append(weights(run_train(*argv, *more, "--print_freq", frequency, "--nan_patience", "9")))
        sys.modules.pop("models.broken_model")
    assert equal(*ended)
    assert all(value.isfinite().all() for value in torch.load(RUN / "2_net_G.pth").values())
