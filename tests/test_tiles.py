"""Tiles give the result of the whole image, for every generator, norm, size and side of a tile."""

import copy

import pytest
import torch
from conftest import generator, picture, run_test, run_train, write
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from networks import GENERATORS, define_G
from networks.fast import Choices, accelerate, tiles
from networks.fast.layers import InstanceNorm2d, Statistics
from networks.fast.tiles import Tiled
from networks.per_image import translating
from util.errors import UsageError

CPU = torch.device("cpu")


def both(net, x, side, evaluate=False, precision=None):
    """What a network makes of images whole and in tiles, as in a test."""
    tiled = Tiled(net.forward, net, side, precision, False)
    results = []
    for run in (net, tiled):
        with torch.no_grad(), translating(net, list(range(len(x))), CPU, evaluate):
            results.append(run(x))
    return results


def relative(whole, tiled):
    return ((whole - tiled).abs().max() / whole.abs().max()).item()


WHOLE = ("unet_512", "unet_1024", "santa", "vit_unet",         # too slow here, or a layer needs all of the image
         "adm", "srresnet", "rrdb", "spade")                   # see below, test_super_resolution.py, test_label_maps.py


@pytest.mark.parametrize("name", [name for name in GENERATORS if not name.startswith(WHOLE)])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_every_generator(name, norm):
    net = generator(3, 2, 4, name, norm, norm == "batch", "xavier", 1.0)
    x = torch.randn(1, 3, 150, 201)
    for evaluate in (False, True):
        assert relative(*both(net, x, 64, evaluate)) < 1e-4


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.sampled_from(["resnet_2blocks", "unet_32", "unet_64"]), st.integers(1, 180), st.integers(1, 180),
       st.sampled_from([64, 80, 129]), st.booleans())
def test_any_size(name, height, width, side, dropout):
    net = define_G(2, 1, 2, name, "instance", dropout, "xavier", 1.0)
    x = torch.randn(1, 2, height, width)
    if x.numel() > 8:  # a plane of one value has no variance
        whole, tiled = both(net, x, side)
        assert (whole - tiled).abs().max() < 1e-4


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
def test_paddings(padding):
    from networks.resnet import ResnetGenerator

    net = ResnetGenerator(1, 1, 4, nn.InstanceNorm2d, n_blocks=2, padding_type=padding)
    assert relative(*both(net, torch.randn(1, 1, 130, 90), 64)) < 2e-5


def test_dropout_of_each_image_of_a_batch():
    net = define_G(3, 3, 4, "unet_64", "batch", True, "xavier", 1.0)
    whole, tiled = both(net, torch.randn(3, 3, 100, 140), 64)
    assert relative(whole, tiled) < 2e-5
    assert relative(whole[:1], whole[1:2]) > 0.1


def test_what_does_not_fit_is_computed_again_or_stored_in_half(monkeypatch):
    net = define_G(3, 3, 8, "resnet_2blocks", "instance", init_type="xavier", init_gain=1.0)
    x = torch.randn(1, 3, 256, 256)
    whole, stored = both(net, x, 64)
    monkeypatch.setattr(tiles, "STORED", 1)  # nothing but the smallest layers fits
    _, again = both(net, x, 64)
    assert relative(whole, stored) < 2e-5
    assert relative(whole, again) < 3e-3
    assert not torch.equal(stored, again)


def test_little_is_computed_again(monkeypatch):
    """When only the layers reduced four times are stored: the first ones, which take a fifth of so narrow a network."""
    counted = []
    convolution = nn.Conv2d._conv_forward

    def counting(self, x, *rest):
        y = convolution(self, x, *rest)
        counted.append(0 if y.is_meta else y.numel() * self.weight[0].numel())
        return y

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", counting)
    net = define_G(3, 3, 4, "resnet_9blocks", "instance")
    x = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        net(x)
        whole = sum(counted)
        counted.clear()
        monkeypatch.setattr(tiles, "STORED", 1)
        Tiled(net.forward, net, 512, None, False)(x)
    assert sum(counted) < 1.35 * whole


def test_memory_is_bounded(monkeypatch):
    """No tensor but those of the image's and the smallest layers' size is larger than a tile needs."""
    sizes = []
    store = tiles.Bands.put

    def watched(self, region, value, width):
        sizes.append(value.numel())
        store(self, region, value, width)

    monkeypatch.setattr(tiles.Bands, "put", watched)
    monkeypatch.setattr(tiles, "STORED", 1)
    net = define_G(3, 3, 4, "resnet_2blocks", "instance")
    with torch.no_grad():
        Tiled(net.forward, net, 64, None, False)(torch.randn(1, 3, 512, 512))
    assert max(sizes) <= 16 * 18 ** 2  # a core of a tile, reduced four times, of 4 ngf channels


class Plugin(nn.Module):
    """A network as plugins write them."""

    def __init__(self, *layers):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return torch.tanh(self.model(x)) + x


def test_a_network_of_a_plugin():
    net = Plugin(nn.ZeroPad2d(2), nn.Conv2d(3, 3, 5, bias=False), nn.LocalResponseNorm(3), nn.SiLU())
    with pytest.raises(UsageError, match="LocalResponseNorm in Plugin can't be computed in tiles"):
        both(net, torch.randn(1, 3, 100, 100), 64)
    net = Plugin(nn.ReplicationPad2d((1, 1, 0, 2)), nn.Conv2d(3, 4, 3, dilation=2, padding_mode="reflect", padding=2),
                 nn.InstanceNorm2d(4, affine=True), nn.PReLU(4), nn.Conv2d(4, 4, 3, 2, 1), nn.Upsample(scale_factor=2),
                 nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1), nn.ConstantPad2d((-1, -1, 0, -2), 0.0))
    assert relative(*both(net, torch.randn(1, 3, 90, 110), 64)) < 2e-5


def refused(net, message):
    with pytest.raises(UsageError, match=message):
        both(net, torch.randn(1, 3, 100, 100), 64)


def test_what_has_no_tiles_is_refused():
    hooked = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3))
    hooked[1].register_forward_hook(lambda module, inputs, output: output * 2)
    refused(hooked, "hooks change what it does")
    refused(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")), "its padding is circular")
    refused(nn.Sequential(nn.Conv2d(3, 3, 2, 2), nn.ConvTranspose2d(3, 3, 1, 2, output_padding=1)), "stride is larger")

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, (1, 100))

        def forward(self, x):
            return self.conv(x) * self.gate(x)

    refused(Gated(), "its inputs differ in size")


def test_sizes_methods_and_dropout_of_plugins():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.conv = nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.Conv2d(4, 3, 3)
            self.drop = nn.Dropout(0.5, inplace=True)

        def forward(self, x):
            return self.drop(self.conv(self.up(x).mul(2.0).add(1.0, alpha=2)))

    whole, tiled = both(Odd(), torch.randn(2, 3, 90, 70), 64)
    assert whole.shape == tiled.shape == (2, 3, 178, 138)
    assert relative(whole, tiled) < 2e-5


def test_an_activation_in_place_that_others_see_is_refused():
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(True)

        def forward(self, x):
            x = self.conv(x)
            return self.relu(x) + x

    refused(Seen(), "in place")


def test_auto_divides_what_does_not_fit(monkeypatch):
    net = define_G(3, 3, 2, "resnet_2blocks", "instance")
    x, runs = torch.randn(1, 3, 600, 520), []
    monkeypatch.setattr(tiles.Run, "translate", lambda self: runs.append(self.side) or self.image)
    tiled = Tiled(net.forward, net, "auto", None, False)
    with torch.no_grad():
        tiled(x)
        assert runs == []
        monkeypatch.setattr(tiles, "available_memory", lambda: 10 ** 6)
        tiled(x)
        assert runs == [tiles.SIDE]
        tiled(x[..., :300, :300])
        assert len(runs) == 1


def test_accelerated_and_bf16():
    net = define_G(3, 3, 8, "resnet_2blocks", "instance", init_type="xavier", init_gain=1.0)
    plain = copy.deepcopy(net)
    x = torch.randn(1, 3, 200, 300)
    accelerate(net, Choices(CPU, torch.bfloat16, channels_last_weights=True, tile=64), training=False)
    with torch.no_grad():
        tiled, whole = net(x), plain(x)
    assert tiled.dtype == torch.float32
    assert (tiled - whole).abs().mean() < 0.02


def test_statistics_of_millions_of_pixels():
    """In float32, torch's own lose four digits on channels-last images of this size."""
    x = (torch.randn(1, 8, 1024, 1024) * 3 + 5).contiguous(memory_format=torch.channels_last)
    statistics = Statistics()
    statistics.add(x)
    mean, variance = statistics.found()
    assert (mean - x.double().mean((0, 2, 3))).abs().max() < 1e-5
    assert (variance / x.double().var((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    with torch.no_grad():
        y = InstanceNorm2d(8)(x)
    assert (y.double().var((0, 2, 3), correction=0) - 1).abs().max() < 1e-4


def test_test_py_in_tiles(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "batch")
    write("in/large.png", picture(300, 200))
    for folder, tile in (("whole", "off"), ("tiles", "64")):
        assert run_test("--dataroot", "in", "--preprocess", "none", "--results_dir", folder, "--tile", tile) == 0
    import numpy as np
    from PIL import Image

    one, other = (np.asarray(Image.open(f"{folder}/experiment_name/test_latest/images/large_fake.png")).astype(int)
                  for folder in ("whole", "tiles"))
    assert abs(one - other).max() <= 1
    with pytest.raises(UsageError, match="'63' is not auto, off, or a whole number from 64"):
        run_test("--dataroot", "in", "--tile", "63")


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_attention_group_norms_and_a_time_that_scales_channels(scale):
    net = define_G(7, 3, 8, "adm_small", timed=True)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x = torch.cat((torch.randn(2, 6, 150, 101), torch.full((2, 1, 150, 101), scale)), 1)
    x[1, 6] = 0.7
    whole, tiled = both(net, x, 64)
    assert relative(whole, tiled) < 1e-4
    assert relative(whole, both(net, torch.cat((x[:, :6], x[:, 6:] * 0.5), 1), 64)[1]) > 1e-3


def test_the_code_of_a_translation():
    net = define_G(3 + 4, 3, 4, "latent_unet_32", "instance", init_type="xavier", init_gain=1.0, latent=4)
    x = torch.cat((torch.randn(1, 3, 150, 101), torch.randn(1, 4, 1, 1).expand(-1, -1, 150, 101)), 1)
    assert relative(*both(net, x, 64)) < 1e-4
