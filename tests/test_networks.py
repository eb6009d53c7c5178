"""Every registered network: shapes, gradients, files, any size; a new one is tested the day it appears."""

import math

import pytest
import torch
from conftest import generator
from torch import nn

from networks import DISCRIMINATORS, GENERATORS, NORMS, define_D, define_G
from networks.architecture import describe, differences
from networks.fast import Choices, accelerate
from networks.fast.layers import Tanh
from networks.layers import INIT_TYPES, get_norm_layer, init_weights
from networks.per_image import translating
from networks.unet import UnetGenerator
from util.errors import UsageError
from util.registry import Registry

SMALL = [name for name in GENERATORS if name not in ("unet_512", "unet_1024")]
DESCRIBED = [name for name in SMALL if name.startswith(("resnet", "unet"))]


def side(name):
    return getattr(generator(1, 1, 1, name), "min_size", 32)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_keeps_the_size_and_every_parameter_learns(name):
    net = generator(2, 3, 1, name, "instance")
    size = max(32, side(name))
    y = net(torch.randn(1, 2, size, size))
    assert y.shape == (1, 3, size, size)
    assert y.abs().max() <= 1
    y.square().mean().backward()
    assert not [key for key, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(33, 47), (5, 64), (130, 129), (1, 1), (3, 4), (2, 50)])
def test_generator_takes_every_size(name, size):
    assert generator(3, 1, 1, name, "instance")(torch.randn(2, 3, *size)).shape == (2, 1, *size)


def test_padding_leaves_fitting_sizes_alone_and_reflects_others():
    net = define_G(3, 3, 2, "resnet_6blocks", "instance")
    x = torch.randn(1, 3, 30, 32)
    padded = torch.cat([x, x[:, :, [28, 27]]], 2)
    assert torch.equal(net(x), net(padded)[:, :, :30])


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("norm", NORMS)
def test_discriminator_scores_patches_and_every_parameter_learns(name, norm):
    net = define_D(4, 2, name, 2, norm)
    scales = net(torch.randn(2, 4, 64, 80), features=True)
    scores = net(torch.randn(2, 4, 64, 80))
    assert isinstance(scores, list) == (name == "multiscale")
    scores = scores if isinstance(scores, list) else [scores]
    assert [scale[-1].shape for scale in scales] == [y.shape for y in scores]
    assert all(y.shape[:2] == (2, 1) for y in scores)
    assert all(len(scale) > 2 for scale in scales)
    sum(y.square().mean() for y in scores).backward()
    assert not [key for key, p in net.named_parameters() if p.grad is None]


def test_seventy_pixels_are_seen_by_the_basic_discriminator():
    net = define_D(1, 2, "basic", norm="none")
    x = torch.zeros(1, 1, 128, 128, requires_grad=True)
    net(x)[0, 0, 7, 7].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert rows.max() - rows.min() + 1 == 70


@pytest.mark.parametrize("name", DESCRIBED)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dropout", [False, True])
def test_the_state_dict_tells_what_it_was_built_with(name, norm, dropout):
    with torch.device("meta"):
        net = define_G(2, 5, 6, name, norm, dropout)
    expected = {**net.arguments, "norm": "batch" if norm == "syncbatch" else norm}
    if name.startswith("unet"):
        del expected["no_dropout"]
    assert describe(net.state_dict()) == expected


def test_depths_that_nobody_registered_are_built_from_their_weights():
    from networks.resnet import ResnetGenerator

    state = ResnetGenerator(3, 3, 2, get_norm_layer("instance"), n_blocks=4).state_dict()
    known = list(GENERATORS)
    found = describe(state)
    assert found.pop("netG") == "resnet_4blocks"
    assert list(GENERATORS) == known  # reading a checkpoint changes nothing
    use_dropout = not found.pop("no_dropout")
    define_G(netG="resnet_4blocks", use_dropout=use_dropout, **found).load_state_dict(state)


@pytest.mark.parametrize(("name", "layers"), [("basic", 3), ("n_layers", 2), ("n_layers", 5), ("pixel", 3)])
def test_so_does_that_of_a_discriminator(name, layers):
    net = define_D(2, 6, name, layers, "batch")
    found = describe(net.state_dict())
    assert {key: net.arguments[key] for key in found if key != "n_layers_D"} == {
        k: v for k, v in found.items() if k != "n_layers_D"
    }
    assert differences(net.state_dict(), net.arguments) == []


def test_a_mismatch_names_the_options():
    state = define_G(3, 3, 8, "resnet_9blocks", "batch").state_dict()
    offered = define_G(3, 3, 4, "resnet_6blocks", "batch").arguments
    assert differences(state, offered) == ["--netG resnet_9blocks (here: resnet_6blocks)", "--ngf 8 (here: 4)"]


def test_weights_survive_a_file(tmp_path):
    for name in SMALL:
        net, other = (generator(3, 3, 1, name, "batch", True) for _ in range(2))
        torch.save(net.state_dict(), tmp_path / "w.pth")
        other.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
        assert all(
            torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True)
        )


@pytest.mark.parametrize("init_type", INIT_TYPES)
def test_initialisation(init_type):
    conv, norm = nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64)
    init_weights(nn.Sequential(conv, norm), init_type, 0.1)
    spread = {
        "normal": 0.1,
        "xavier": 0.1 * (2 / (9 * 96)) ** 0.5,
        "kaiming": (2 / (9 * 32)) ** 0.5,
        "orthogonal": 0.1 / (9 * 32) ** 0.5,
    }[init_type]
    assert conv.weight.std().item() == pytest.approx(spread, rel=0.05)
    assert not conv.bias.any()
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.05)
    with pytest.raises(UsageError, match="Unknown initialisation 'norml'. Did you mean 'normal'"):
        init_weights(conv, "norml")


def test_registry_suggests_lists_and_refuses_doubles():
    registry = Registry("thing")
    registry.register("one", n=1)(lambda n, m=0: (n, m))
    assert registry.build("one", m=2) == (1, 2)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("one")(print)
    with pytest.raises(UsageError, match="Unknown thing 'onne'. Did you mean 'one'. Known: one"):
        registry.build("onne")


def test_classes_take_the_established_positional_arguments():
    assert UnetGenerator(3, 2, 6, 4, nn.BatchNorm2d, use_dropout=True)(torch.randn(1, 3, 64, 64)).shape == (
        1,
        2,
        64,
        64,
    )


@pytest.mark.parametrize("name", ["unet_64", "resnet_6blocks"])
def test_translation_does_not_depend_on_the_batch_and_leaves_no_trace(name):
    net = define_G(3, 3, 4, name, "batch", use_dropout=True).train()
    x, seeds, device = torch.randn(3, 3, 64, 64), [5, 6, 7], torch.device("cpu")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad(), translating(net, seeds, device):
        together = net(x)
    alone = []
    for i in (2, 0, 1):
        with torch.no_grad(), translating(net, seeds[i : i + 1], device):
            alone.append(net(x[i : i + 1]))
    torch.testing.assert_close(together, torch.cat([alone[1], alone[2], alone[0]]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert net.training
    assert not any("forward" in vars(module) for module in net.modules())
    with torch.no_grad(), translating(net, [8, 6, 7], device):
        assert not torch.allclose(net(x)[0], together[0])  # another seed, another dropout


def test_a_batch_of_one_is_translated_as_in_training_mode():
    net = define_G(3, 3, 4, "resnet_6blocks", "batch").train()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), translating(net, [0], torch.device("cpu")):
        ours = net(x)
    torch.testing.assert_close(ours, net(x), rtol=1e-4, atol=1e-5)


def test_evaluation_uses_running_statistics():
    net = define_G(3, 3, 4, "resnet_6blocks", "batch", use_dropout=True)
    x = torch.randn(2, 3, 32, 32)
    net(x)
    with torch.no_grad(), translating(net, [0, 1], torch.device("cpu"), evaluate=True):
        ours = net(x)
    assert torch.equal(ours, net.eval()(x))


def test_saturated_outputs_have_a_gradient_in_bf16():
    """Also of a network that was written with torch's own layer."""
    slope = 1 - math.tanh(4) ** 2
    x = torch.full((1,), 4.0, dtype=torch.bfloat16, requires_grad=True)
    Tanh()(x).sum().backward()
    assert x.grad.item() == pytest.approx(slope, rel=0.01)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Tanh())
    torch.nn.init.ones_(net[0].weight), torch.nn.init.zeros_(net[0].bias)
    accelerate(net, Choices(torch.device("cpu"), torch.bfloat16))
    net(torch.full((1, 1, 1, 1), 4.0)).sum().backward()
    assert net[0].bias.grad.item() == pytest.approx(slope, rel=0.01)


def test_batch_norm_with_a_cumulative_average_translates_before_it_was_trained():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, momentum=None))
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), translating(net, [1, 2], torch.device("cpu")):
        both = net(x)
        torch.testing.assert_close(both[:1], net(x[:1]))
    assert net[1].num_batches_tracked == 0
