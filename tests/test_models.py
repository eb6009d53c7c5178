"""What the base gives to every model."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import train_options
from torch import nn

import models
from models import BaseModel, create_model, refuse_retired_overrides
from models.base_model import frozen
from models.cycle_gan_model import CycleGANModel
from models.engine.saving import load_network, save_state
from models.engine.schedule import get_scheduler
from models.engine.state import learning_rate, networks, optimizers
from models.pix2pix_model import Pix2PixModel
from models.template_model import TemplateModel
from util import checkpoint
from util.errors import UsageError
from util.run_files import network_file


class Small(BaseModel):
    """One linear network."""

    def __init__(self, opt):
        super().__init__(opt)
        self.netF = nn.Linear(2, 2)
        self.netAlias = self.netF
        self.netOther = nn.Linear(1, 1)
        self.criterion = nn.L1Loss()
        self.optimizer_F = torch.optim.SGD(self.netF.parameters(), lr=0.5)
        self.optimizers = [self.optimizer_F, torch.optim.SGD(self.netOther.parameters(), lr=0.1)]

    def forward(self):
        self.y = self.netF(self.x)

    def optimize_parameters(self):
        self.forward()
        self.minimize("F", self.record(F=self.y.square().mean(), G=self.y.mean() * 0))


@pytest.fixture
def opt():
    return train_options("--model", "pix2pix", "--dataroot", "x")


def test_networks_and_optimizers_are_found_once_each(opt):
    model = Small(opt)
    assert list(networks(model)) == ["F", "Other"]
    model.model_names = ["Alias"]
    assert list(networks(model)) == ["Alias", "Other"]
    assert list(optimizers(model)) == ["optimizer_F", "1"]
    model.model_names = ["Missing"]
    with pytest.raises(UsageError, match="no attribute netMissing"):
        networks(model)


def test_minimize_and_record(opt):
    model = Small(opt)
    model.x = torch.ones(1, 2)
    before = model.netF.weight.clone()
    model.optimize_parameters()
    assert not torch.equal(before, model.netF.weight)
    assert list(model.get_current_losses()) == ["F", "G"]
    assert not model.loss_F.requires_grad
    model.set_requires_grad([model.netF, None], False)
    assert not model.netF.weight.requires_grad


def test_frozen_lets_gradients_through_and_restores():
    net = nn.Linear(2, 1)
    net.bias.requires_grad_(False)
    x = torch.ones(1, 2, requires_grad=True)
    with frozen(net):
        y = net(x)
    y.backward()
    assert x.grad is not None
    assert net.weight.grad is None
    assert [p.requires_grad for p in net.parameters()] == [True, False]


def test_state_restores_networks_optimizers_schedules_and_counters(opt):
    model = create_model(opt)
    model.setup(opt)
    batch = {"A": torch.randn(1, 3, 64, 64), "B": torch.randn(1, 3, 64, 64), "A_paths": ["a"], "B_paths": ["b"]}
    model.set_input(batch)
    model.optimize_parameters()
    model.update_learning_rate(1.0)
    save_state(model, {"epoch": 2, "iters": 0, "total_iters": 1})
    opt.continue_train = True
    other = create_model(opt)
    other.setup(opt)
    assert other._engine.progress == {"epoch": 2, "iters": 0, "total_iters": 1}
    for one, two in ((model, other),):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
        assert learning_rate(one) == learning_rate(two)
        torch.testing.assert_close(one.optimizer_G.state_dict()["state"], two.optimizer_G.state_dict()["state"])


def test_old_files_load(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.InstanceNorm2d(1), nn.BatchNorm2d(1))
    old = {f"module.{key}": value for key, value in net.state_dict().items()}
    old |= {
        "module.1.running_mean": torch.zeros(1),
        "module.1.running_var": torch.ones(1),
        "module.1.num_batches_tracked": torch.tensor(0),
    }
    load_network(net, old, "old")
    for bad, message in (
        ([1], "not the state_dict"),
        ({}, "not the state_dict"),
        ({"a": 1}, "not the state_dict"),
        ({"a": torch.ones(1)}, "does not fit"),
    ):
        with pytest.raises(UsageError, match=message):
            load_network(net, bad, "old")


def test_saved_networks_are_plain_and_whole(opt):
    model = create_model(opt)
    model.save_networks("latest")
    for name in ("G", "D"):
        state = torch.load(f"checkpoints/experiment_name/latest_net_{name}.pth", weights_only=True)
        assert list(state) == list(networks(model)[name].state_dict())
    assert not list(Path(model.save_dir).glob("*.tmp"))
    with pytest.raises(UsageError, match="leads out of"):
        network_file(model.save_dir, "../../x", "G")


def test_checkpoints_never_run_code(tmp_path):
    torch.save({"a": SimpleNamespace(x=1)}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match="more than plain values"):
        checkpoint.load(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("linear", {1: 1, 100: 1, 101: 1 - 1 / 101, 150: 1 - 50 / 101, 200: 1 / 101, 300: 0}),
        ("step", {1: 1, 50: 1, 51: 0.1, 101: 0.01}),
        ("cosine", {1: 1, 101: 0.5, 201: 0, 250: 0}),
    ],
)
def test_learning_rate_is_a_function_of_the_epoch(policy, expected):
    opt = SimpleNamespace(lr_policy=policy, n_epochs=100, n_epochs_decay=100, epoch_count=1, lr_decay_iters=50)

    def rates(first, last):
        optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": 2.0}])
        scheduler = get_scheduler(optimizer, SimpleNamespace(**{**vars(opt), "epoch_count": first}))
        found = {}
        for epoch in range(first, last + 1):
            found[epoch] = optimizer.param_groups[0]["lr"] / 2.0
            optimizer.step()
            scheduler.step()
        return found

    whole = rates(1, 300)
    for epoch, value in expected.items():
        assert whole[epoch] == pytest.approx(value, abs=1e-6)
    late = rates(140, 160)
    assert late[150] == pytest.approx(whole[150])


def test_plateau_follows_the_metric(opt):
    opt.lr_policy = "plateau"
    model = create_model(opt)
    model.setup(opt)
    for epoch in range(8):
        model.update_learning_rate(1.0 / (epoch + 1))
    assert learning_rate(model) == pytest.approx(opt.lr)
    for _ in range(7):
        model.update_learning_rate(1.0)
    assert learning_rate(model) == pytest.approx(opt.lr * 0.2)


def test_an_override_that_nothing_calls_is_refused():
    class Lost(Pix2PixModel):
        def backward_G(self):
            pass

    class Own(Pix2PixModel):
        def backward_G(self):
            pass

        def optimize_parameters(self):
            self.backward_G()

    class LostTemplate(TemplateModel):
        def backward(self):
            pass

    with pytest.raises(UsageError, match="Lost overrides backward_G.*generator_loss"):
        refuse_retired_overrides(Lost)
    with pytest.raises(UsageError, match="LostTemplate overrides backward,"):
        refuse_retired_overrides(LostTemplate)
    for fine in (Own, Pix2PixModel, CycleGANModel, Small):
        refuse_retired_overrides(fine)


def test_no_discriminator_gets_gradients_from_the_generator(opt):
    """And the gradient of G is that of its own loss: D is frozen while G learns."""
    model = create_model(opt)
    model.set_input(
        {"A": torch.randn(1, 3, 64, 64), "B": torch.randn(1, 3, 64, 64), "A_paths": ["a"], "B_paths": ["b"]}
    )
    model.forward()
    with frozen(model.netD):
        model.generator_loss().backward()
    assert all(p.grad is None for p in model.netD.parameters())
    assert all(p.grad is not None for p in model.netG.parameters())


def test_direction_and_repeated_domains():
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--direction", "BtoA")
    model = create_model(opt)
    batch = {"A": torch.zeros(1, 3, 8, 8), "B": torch.ones(1, 3, 8, 8), "A_paths": ["a"], "B_paths": ["b"]}
    model.set_input(batch)
    assert (model.real_A.mean(), model.image_paths) == (1, ["b"])
    model.set_input({**batch, "repeated": "B"})
    assert (model.real_A, model.image_paths) == (None, ["a"])
    with torch.no_grad():
        model.forward()
    assert set(model.get_current_visuals()) == {"real_B", "fake_A", "rec_B"}
    assert [model.visual_domain(name) for name in ("real_A", "fake_B", "idt_A", "rec_B")] == ["B", "A", "A", "A"]


@pytest.mark.parametrize(("name", "norm"), [("pix2pix", "batch"), ("cycle_gan", "instance"), ("cycle_gan", "batch")])
def test_wgangp_has_its_penalty_in_every_model(name, norm):
    opt = train_options("--model", name, "--dataroot", "x", "--gan_mode", "wgangp", "--norm", norm)
    model = create_model(opt)
    batch = {"A": torch.randn(1, 3, 64, 64), "B": torch.randn(1, 3, 64, 64), "A_paths": ["a"], "B_paths": ["b"]}
    model.set_input(batch)
    model.forward()
    with_penalty = model.discriminator_loss()
    model.criterionGAN.gan_mode = "without"
    assert with_penalty > model.discriminator_loss() + 1
    model.optimize_parameters()


def test_models_are_listed():
    from util.plugins import plugin_names

    assert plugin_names("models", "model") == [
        "bicycle_gan", "bridge", "colorization", "completion", "cut", "cycle_gan", "dcl_gan", "discogan", "dualgan",
        "masked", "pix2pix", "santa", "spade", "stargan", "super_resolution", "template", "test"]
    assert models.find_model_using_name("test").__name__ == "TestModel"
