"""The bridge's equations against closed forms, and its network against plain writings."""

import math

import numpy as np
import pytest
import torch
from conftest import run_test, run_train

from image_translation import load
from networks import define_G
from networks.adm import Attention, TimeEmbedding
from networks.bridge import LENGTH, Bridge
from util.errors import UsageError


@pytest.fixture
def bridge():
    return Bridge().double()


def times(value, n=1):
    return torch.full((n,), value)


def test_the_variances_are_those_of_the_paper(bridge):
    roots = np.linspace(0.01, math.sqrt(3e-4), 1000)[:500]
    betas = np.concatenate([roots**2, roots[::-1] ** 2])
    assert len(bridge.before) == LENGTH + 1
    assert bridge.before[[0, 1, 500, 1000]].tolist() == pytest.approx([0, 1e-4, betas[:500].sum(), betas.sum()])
    assert torch.allclose(bridge.before, bridge.after.flip(0), atol=1e-7)


def test_it_starts_at_the_truth_and_ends_at_the_input(bridge):
    x_0, x_T, noise = torch.randn(3, 2, 3, 4, 4, dtype=torch.float64)
    assert torch.allclose(bridge.at(times(0, 2), x_0, x_T, noise), x_0)
    assert torch.allclose(bridge.at(times(LENGTH, 2), x_0, x_T, noise), x_T)


@pytest.mark.parametrize(("late", "early"), [(1000, 950), (700, 300), (500, 499), (2, 1), (600, 0)])
def test_a_step_back_from_one_marginal_gives_the_other(bridge, late, early):
    """Mean and variance of q(x_s | x_0, x_T), directly and over x_t (Liu et al. 2023, proposition 3.3)."""
    def marginal(time):
        total = bridge.before[time] + bridge.after[time]
        mean = (bridge.after[time] * -0.3 + bridge.before[time] * 0.8) / total
        return float(mean), float(bridge.before[time] * bridge.after[time] / total)

    def step(x, noise):
        shape = (1, 1, 1, 1)
        values = (torch.full(shape, value, dtype=torch.float64) for value in (x, -0.3, noise))
        x, x_0, noise = values
        return float(bridge.earlier(times(late), times(early), x, x_0, noise))

    mean, variance = marginal(late)
    slope, deviation = step(1, 0) - step(0, 0), step(0, 1) - step(0, 0)
    expected_mean, expected_variance = marginal(early)
    assert step(mean, 0) == pytest.approx(expected_mean, abs=1e-6)
    assert slope**2 * variance + deviation**2 == pytest.approx(expected_variance, abs=1e-6)


def test_the_target_gives_the_truth_back(bridge):
    x_0, x_T, noise = torch.randn(3, 2, 3, 4, 4, dtype=torch.float64)
    time = torch.tensor([1, 700])
    x = bridge.at(time, x_0, x_T, noise)
    assert torch.allclose(bridge.start(time, x, bridge.target(time, x, x_0)), x_0)


def test_many_steps_draw_from_the_distribution_of_the_truth(bridge):
    """If x_0 is N(0.2 + 0.5 x_T, 0.3^2), a network that finds E[x_0 | x_t, x_T] leads there, mean and deviation."""
    torch.manual_seed(0)
    x_T = torch.full((20000, 1, 1, 1), 0.6, dtype=torch.float64)
    mean, variance, x = 0.2 + 0.5 * x_T, 0.3**2, x_T
    for late in range(LENGTH, 0, -5):
        before, after = float(bridge.before[late]), float(bridge.after[late])
        total = before + after
        share, noise = after / total, before * after / total   # x_t = share x_0 + (1 - share) x_T + noise
        gain = variance * share / (share**2 * variance + noise) if late < LENGTH else 0.0
        x_0 = mean + gain * (x - share * mean - (1 - share) * x_T)
        x = bridge.earlier(times(late, len(x)), times(late - 5, len(x)), x, x_0, torch.randn_like(x))
    assert float(x.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(x.std()) == pytest.approx(0.3, abs=0.01)


def test_attention_is_a_weighted_mean_of_all_positions():
    torch.manual_seed(0)
    layer = Attention(128)
    torch.nn.init.normal_(layer.out.weight, 0, 0.1)
    x = torch.randn(2, 128, 3, 5)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2).chunk(3, 1)
    seen = []
    for head in range(2):
        rows = slice(64 * head, 64 * head + 64)
        weights = (q[:, rows].transpose(1, 2) @ k[:, rows] / 8).softmax(2)    # (N, H*W, H*W)
        seen.append(v[:, rows] @ weights.transpose(1, 2))
    expected = x + layer.out(torch.cat(seen, 1).view_as(x))
    assert torch.allclose(layer(x, None), expected, atol=1e-5)


def test_times_are_told_apart():
    embedded = TimeEmbedding(33, 16)(torch.tensor([0.0, 0.001, 0.5, 1.0]))
    assert embedded.shape == (4, 16)
    assert min((embedded[i] - embedded[j]).abs().max() for i in range(4) for j in range(i)) > 1e-3


def test_the_network_takes_any_size_and_looks_at_the_time():
    torch.manual_seed(0)
    net = define_G(7, 3, 8, "adm_small", timed=True)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, 0, 0.05)
    x = torch.randn(1, 7, 37, 50)
    x[:, -1] = 0.2
    later = x.clone()
    later[:, -1] = 0.9
    assert net(x).shape == (1, 3, 37, 50)
    assert (net(x) - net(later)).abs().mean() > 1e-4


def test_the_average_is_used_if_there_is_one(strips, capsys):
    argv = ("--model", "bridge", "--dataroot", strips, "--netG", "adm_small", "--ngf", "4", "--steps", "2")
    run_train(*argv, "--ema", "0", "--name", "without")
    run_train(*argv, "--name", "with")
    for name, file in (("without", "latest_net_G.pth"), ("with", "latest_net_G_ema.pth")):
        assert run_test("--dataroot", f"{strips}/test", "--name", name) == 0
        assert f"loaded checkpoints/{name}/{file}" in capsys.readouterr().out.replace("./", "")
    with pytest.raises(UsageError, match="the run was trained without --ema; leave --ema out"):
        run_test("--dataroot", f"{strips}/test", "--name", "without", "--ema")
    named = load("checkpoints/with/latest_net_G.pth", device="cpu").model.netG.state_dict()
    assert all(torch.equal(value, named[key]) for key, value in torch.load("checkpoints/with/latest_net_G.pth").items())


def test_channels_and_steps_that_do_not_fit_are_refused(strips):
    with pytest.raises(UsageError, match="--input_nc 1 and --output_nc 3 must be equal"):
        run_train("--model", "bridge", "--dataroot", strips, "--netG", "adm_small", "--input_nc", "1")
    with pytest.raises(UsageError, match="--steps 1001 is more than the 1000"):
        run_train("--model", "bridge", "--dataroot", strips, "--netG", "adm_small", "--steps", "1001")
    with pytest.raises(UsageError, match="--netG unet_64 takes no timed"):
        run_train("--model", "bridge", "--dataroot", strips)
