"""Accelerated networks give the numbers of plain ones: outputs, and the gradient of every parameter."""

import copy
import time
import traceback

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, equal, generator, run_on, run_train, train_options, weights
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from models import create_model
from models.engine.saving import align_state
from models.engine.state import MicroBatch, networks
from networks import DISCRIMINATORS, GENERATORS, define_D, define_G, together
from networks.fast import NAMES, Choices, accelerate, convolutions, plain, table, winograd
from networks.fast.boundary import Wrapped
from networks.fast.compiled import Compiled
from networks.fast.layers import InstanceNorm2d, ReflectionPad2d
from networks.fast.precision import cpu_seconds, dtype_of, pick_amp
from networks.layers import init_weights
from networks.losses import GANLoss
from util.errors import UsageError

CPU = torch.device("cpu")
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def gradients(net, *batches, seed=0):
    """The output, and the gradient of every parameter, of one pass each over the batches."""
    torch.manual_seed(seed)
    net.zero_grad()
    outputs = [y for x in batches for out in [net(x)] for y in (out if isinstance(out, list) else [out])]
    sum(((y - 0.3) ** 2).mean() for y in outputs).backward()
    return outputs, {name: p.grad.clone() for name, p in net.named_parameters()}


def assert_same(one, two, bound):
    """Each gradient differs by at most this share of the largest length among all of them."""
    largest = max(g.double().norm() for g in two.values())
    assert one.keys() == two.keys()
    for name in two:
        assert (one[name].double() - two[name].double()).norm() <= bound * largest, name


def images(n=2, size=64, channels=3):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(n)) * 2 - 1


def without_dropout(net):
    """Which is drawn in the order of memory, so that it differs between layouts."""
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


NETS = {
    "resnet": lambda: define_G(3, 3, 8, "resnet_6blocks", "instance"),
    "resnet_batch": lambda: define_G(3, 3, 8, "resnet_6blocks", "batch", True),
    "unet": lambda: define_G(3, 3, 8, "unet_64", "instance"),
    "unet_batch": lambda: define_G(3, 3, 8, "unet_64", "batch", True),
    "patchgan": lambda: define_D(3, 8, "basic", norm="instance"),
    "patchgan_batch": lambda: define_D(3, 8, "basic", norm="batch"),
    "pixel": lambda: define_D(3, 8, "pixel", norm="batch"),
}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("x_layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("g_layout", LAYOUTS, ids=str)
def test_instance_norm_is_right_in_every_layout(n, x_layout, g_layout):
    x, g = torch.randn(n, 8, 9, 7), torch.randn(n, 8, 9, 7)
    exact = x.double().requires_grad_()
    variance, mean = torch.var_mean(exact, (2, 3), correction=0, keepdim=True)
    y = (exact - mean) / (variance + 1e-5).sqrt()
    wanted, = torch.autograd.grad(y, exact, g.double())
    x = x.contiguous(memory_format=x_layout).requires_grad_()
    found = InstanceNorm2d(8)(x)
    gradient, = torch.autograd.grad(found, x, g.contiguous(memory_format=g_layout))
    torch.testing.assert_close(found.double(), y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(InstanceNorm2d(8)(x), found, rtol=1e-5, atol=1e-5)


@pytest.fixture
def small(monkeypatch):
    """Rows for large convolutions apply to small ones too."""
    monkeypatch.setattr(table, "MANY_WEIGHTS", 1)
    monkeypatch.setattr(convolutions, "MANY_BLOCKS", 1)


def faster(net, precision=None, rows=NAMES, **more):
    """The network, accelerated by these rows alone."""
    return accelerate(net, Choices(CPU, precision, without=frozenset(NAMES) - set(rows), **more))


FAMILIES = [*((GENERATORS, name) for name in GENERATORS if name != "local"),  # a deeper `global`: amplifies rounding
            *((DISCRIMINATORS, name) for name in DISCRIMINATORS)]


def registered(registry, name, norm):
    """A small network of the registry, and images of a size it takes."""
    torch.manual_seed(0)
    net = generator(3, 3, 2, name, norm) if registry is GENERATORS else define_D(3, 2, name, norm=norm)
    for module in net.modules():
        if isinstance(module, ParametrizationList):
            module.eval()  # spectral norm would go on estimating
    side = max(32, getattr(net, "min_size", 1), 2 * getattr(net, "smallest", 1))  # norms of few pixels amplify rounding
    return net, images(2 if side < 512 else 1, side)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("registry", "name"), FAMILIES, ids=lambda x: x if isinstance(x, str) else "")
def test_each_row_of_the_table_gives_the_numbers_of_plain_torch(registry, name, norm):
    net, x = registered(registry, name, norm)
    classes = [type(module) for module in net.modules()]
    (y, *_), wanted = gradients(net, x)
    for row in table.TABLE:
        other = copy.deepcopy(net)
        faster(other, rows=(row.name, "instance_norm"))  # without which channels-last is not allowed
        if [type(module) for module in other.modules()] == classes and "forward" not in vars(other):
            continue  # the row does not apply
        (z, *_), found = gradients(other, x)
        assert (z - y).norm() <= row.bound * y.norm(), row.name
        assert_same(found, wanted, row.bound)
        assert list(other.state_dict()) == list(net.state_dict())
        plain(other)
        assert [type(module) for module in other.modules()] == classes
        assert not any(isinstance(value, Wrapped) for module in other.modules() for value in vars(module).values())


def test_every_row_applies_somewhere_and_says_why():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(256, 256, 3), nn.Conv2d(256, 256, 3, 2), nn.Conv2d(8, 3, 7), nn.ReflectionPad2d(1),
                        nn.BatchNorm2d(3), nn.InstanceNorm2d(3), nn.Tanh(), define_G(3, 3, 2, "unet_64", "batch"))
    replaced = {kind for one in (net, NETS["resnet"]())
                for kind in table.replacements(one, Choices(CPU, processes=2)).values()}
    for row in table.TABLE:
        assert row.because and (ROOT / row.shown_by.split()[0]).exists(), row.name
        assert set(row.replaces.values()) & replaced or row.name == "channels_last", row.name


def test_plain_takes_everything_off():
    net = define_G(3, 3, 8, "resnet_6blocks", "instance")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    faster(net, torch.bfloat16, recompute=True, compiled=True, channels_last_weights=True)
    assert plain(net) is net
    assert all(type(m).__module__.startswith(("torch.nn", "networks.resnet")) for m in net.modules())
    assert not {"forward", "encode", "decode"} & {key for module in net.modules() for key in vars(module)}
    assert all(value.is_contiguous() and torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(("argv", "most"), [((), 2), (("--plain",), 0)])
def test_from_the_call_to_the_first_layer_there_is_little_to_step_through(argv, most):
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--netG", "resnet_6blocks", *argv)
    model = create_model(opt)
    model.setup(opt)
    frames = []
    next(m for m in model.netG_A.modules() if isinstance(m, nn.ReflectionPad2d)).register_forward_pre_hook(
        lambda *_: frames.extend(frame.filename for frame in traceback.extract_stack()))
    model.netG_A(images(1, 32))
    ours = [f for f in frames if f"{ROOT}/networks/fast" in f or f"{ROOT}/models" in f or f"{ROOT}/util" in f]
    assert len(ours) <= most


def test_a_bias_before_instance_norm_changes_nothing_and_stays():
    net = NETS["resnet"]().double()
    other = faster(copy.deepcopy(net), rows=("unused_bias", "instance_norm"))
    unused = [m for m in other.modules() if isinstance(m, (convolutions.WithoutBias,
                                                           convolutions.TransposedWithoutBias))]
    assert len(unused) == 3 + 2 * 6 + 2
    for conv in unused:
        conv.bias.data.normal_()
    (y,), wanted = gradients(net, images().double())
    (z,), found = gradients(other, images().double())
    torch.testing.assert_close(z, y)
    assert_same(found, wanted, 1e-9)
    assert not any(conv.bias.grad.any() for conv in unused)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("conv", [nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.ConvTranspose2d(4, 4, 3, 2),
                                  nn.Conv2d(4, 2, 5), nn.Conv2d(4, 4, 3, padding="same"),
                                  nn.Conv2d(4, 4, 3, dilation=2)])
def test_replaced_convolutions_accept_what_torch_s_do(conv):
    """Images without a batch, and batches without an image."""
    other = faster(copy.deepcopy(conv))
    for shape in ((4, 9, 9), (0, 4, 9, 9), (2, 4, 9, 9)):
        x = torch.randn(shape)
        y, z = conv(x), other(x)
        torch.testing.assert_close(z, y, rtol=1e-4, atol=1e-5)
        if z.numel():
            z.sum().backward()


def test_without_the_instance_norm_of_ours_images_stay_contiguous(monkeypatch):
    monkeypatch.setattr(table, "TABLE", tuple(row for row in table.TABLE if row.name != "instance_norm"))
    assert "forward" not in vars(accelerate(NETS["unet"](), Choices(CPU)))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("ours", [convolutions.FewPositions, convolutions.FewPositionsTransposed])
def test_few_positions_give_the_same_convolution(ours, n):
    conv = ours(6, 5, 4, 2, 1)
    theirs = ours.__base__(6, 5, 4, 2, 1)
    theirs.load_state_dict(conv.state_dict())
    x = torch.randn(n, 6, 4, 6)
    found, wanted = conv(x), theirs(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for one, two in zip(two_derivatives(found, conv), two_derivatives(wanted, theirs), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def two_derivatives(y, net):
    first = torch.autograd.grad(y.square().sum(), tuple(net.parameters()), create_graph=True)
    return *first, *torch.autograd.grad(sum(g.square().sum() for g in first), tuple(net.parameters()))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kernel", winograd.KERNELS)
@pytest.mark.parametrize(("padding", "size"), [(0, (18, 34)), (1, (17, 30)), ((0, 2), (23, 21))])
def test_winograd_gives_the_same_convolution_and_derivatives(padding, size, kernel, monkeypatch):
    ours = convolutions.Winograd(6, 5, kernel, padding=padding)
    theirs = nn.Conv2d(6, 5, kernel, padding=padding).double()
    theirs.load_state_dict(ours.state_dict())
    monkeypatch.setattr(ours, "_conv_forward", None)  # not torch's own
    found, wanted = [], []
    for conv, into in ((ours, found), (theirs, wanted)):
        x = images(2, 40, 6)[..., :size[0], :size[1]].to(conv.weight.dtype).requires_grad_()
        y = conv(x)
        first = torch.autograd.grad(y.square().sum(), (x, *conv.parameters()), create_graph=True)
        second = torch.autograd.grad(sum(g.pow(3).sum() for g in first), (x, *conv.parameters()))
        into += [y, *first, *second]
    for one, two in zip(found, wanted, strict=True):
        assert (one - two).norm() <= 1e-5 * two.norm()


@pytest.mark.usefixtures("small")
def test_an_activation_in_place_may_follow_winograd():
    net = faster(define_G(3, 3, 8, "resnet_6blocks", "none"))  # no norm, no bias: ReLU(True) changes the result itself
    assert any(isinstance(module, convolutions.Winograd) for module in net.modules())
    _, found = gradients(net, images(1, 64))
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.usefixtures("small")
def test_winograd_stays_in_float32_under_autocast_and_recomputes():
    net, x = faster(NETS["resnet"](), recompute=True), images(1, 64)
    wanted = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    y = net(x).square().mean()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(y, list(net.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("padding", [0, 1])
def test_winograd_sends_contiguous_inputs_contiguous_gradients(padding):
    """Otherwise F.instance_norm of a plugin before it would have a wrong gradient."""
    conv, x = convolutions.Winograd(8, 4, 3, padding=padding), images(1, 32, 8)
    wanted, found = [], []
    for norm, into in ((F.instance_norm, found), (InstanceNorm2d(8), wanted)):
        into += torch.autograd.grad(conv(norm(y := x.clone().requires_grad_())).pow(3).sum(), y)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kernel", "size"), [(3, (8, 12)), (4, (9, 6))])
def test_winograd_describes_itself_rightly(kernel, size):
    height, width = (side + kernel - 1 for side in size)
    x, weight, y = (torch.randn(shape, requires_grad=True)
                    for shape in ((2, 3, height, width), (5, 3, kernel, kernel), (2, 5, *size)))
    torch.library.opcheck(winograd.convolved, (x, weight))
    torch.library.opcheck(winograd.gradient_of_x, (y, weight))
    torch.library.opcheck(winograd.gradient_of_weight, (x, y))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_winograd_gives_the_same_gradients_of_a_compiled_network(monkeypatch):
    torch.manual_seed(1)
    net, x = NETS["resnet"](), images(2, 64)
    (_,), wanted = gradients(copy.deepcopy(net).double(), x.double())
    used = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *arguments: used.append(1) or convolve(*arguments))
    torch._dynamo.reset()
    faster(net, compiled=True, channels_last_weights=True)
    (_,), found = gradients(net, x)
    assert used
    assert_same(found, wanted, 2e-3)  # usually 1e-6; a ReLU near zero that falls on the other side makes it 1e-3


@pytest.mark.parametrize("ours", [convolutions.FewPositions, convolutions.FewPositionsTransposed])
def test_under_autocast_the_product_is_about_as_close_as_the_convolution(ours):
    conv, theirs = ours(64, 64, 4, 2, 1), ours.__base__(64, 64, 4, 2, 1)
    theirs.load_state_dict(conv.state_dict())
    for side in (8, 16, 32):  # few positions, some, many
        x = torch.randn(1, 64, side, side)
        with torch.autocast("cpu", torch.bfloat16):
            found, cast = conv(x.bfloat16()), theirs(x.bfloat16())
        wanted = theirs(x)
        assert found.dtype == cast.dtype
        assert (found - wanted).norm() <= 2 * (cast - wanted).norm()


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_channels_last_gives_the_same_gradients(name, n):
    net = without_dropout(NETS[name]().double())
    _, wanted = gradients(net, images(n).double())
    _, found = gradients(faster(net, channels_last_weights=True), images(n).double())
    assert_same(found, wanted, 1e-10)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_bf16_stays_within_its_rounding(name, n):
    """8 bits of mantissa: a few percent of the largest gradient, and outputs in float32."""
    net = without_dropout(NETS[name]())
    (y,), wanted = gradients(net, images(n))
    (z,), found = gradients(faster(net, torch.bfloat16), images(n))
    assert z.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in found.values())
    assert_same(found, wanted, 0.1)
    assert (y - z).abs().mean() < 0.02 * y.abs().mean() + 0.01


@pytest.mark.parametrize("name", NETS)
def test_recomputing_gives_the_same_gradients_statistics_and_dropout(name):
    net = NETS[name]()
    other = faster(copy.deepcopy(net), rows=(), recompute=True)
    (_, wanted), (_, found) = gradients(net, images()), gradients(other, images())
    assert_same(found, wanted, 1e-6)
    for one, two in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.slow
def test_compiled_gives_the_same_gradients():
    """In float64, to 1e-12: one compilation for the blocks, in tens of seconds, and the same keys."""
    torch._dynamo.reset()
    for name in ("resnet", "patchgan"):
        net = NETS[name]().double()
        keys, x = list(net.state_dict()), images(2, 32).double()
        x.requires_grad_()
        (_,), wanted = gradients(net, x)
        slope, x.grad = x.grad, None
        faster(net, compiled=True, channels_last_weights=True)
        (_,), found = gradients(net, x)
        assert_same(found, wanted, 1e-12)
        torch.testing.assert_close(x.grad, slope)
        assert list(net.state_dict()) == keys
        if name == "patchgan":  # a second derivative, which compiled code does not have
            loss, terms = GANLoss("wgangp").discriminator(net, x[:1].detach(), -x[:1].detach())
            loss.backward()
            assert terms["gp"] > 0


def one_step(opt, batches, double=True):
    """The networks' tensors after one step, and the losses."""
    torch.manual_seed(1)
    model = create_model(opt)
    model = model.double() if double else model
    model.setup(opt)
    sizes = [len(batch["A"]) for batch in batches]
    for i, batch in enumerate(batches):
        model._engine.begin(MicroBatch(i == 0, sizes[i] / sum(sizes), i == len(batches) - 1))
        model.set_input(batch)
        model.optimize_parameters()
    return {f"{n}.{k}": v for n, net in networks(model).items() for k, v in net.state_dict().items()}, model


def batch(n, start=0, double=True):
    dtype = torch.float64 if double else torch.float32
    return {key: images(8)[start:start + n].to(dtype) * sign for key, sign in (("A", 1), ("B", -1))} | {
        f"{key}_paths": ["x"] * n for key in "AB"}


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_batches_share_a_call_only_where_no_image_can_tell(norm):
    net = define_D(3, 8, "pixel", norm=norm).double()
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    batches = images(1).double(), images(3).double()
    for one, two in zip(together(net, *batches), [net(x) for x in batches], strict=True):
        torch.testing.assert_close(one, two)
    assert len(calls) == 2 + (1 if norm == "instance" else 2)
    together(net, images(1).double(), images(1, 32).double())
    assert len(calls) == 2 + (3 if norm == "instance" else 4)
    together(net.eval(), *batches)
    assert len(calls) == 2 + (4 if norm == "instance" else 5)


def test_accumulated_batches_are_one_large_batch():
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--pool_size", "0", "--accumulate", "3")
    whole, _ = one_step(opt, [batch(5)])
    parts, _ = one_step(opt, [batch(2), batch(2, 2), batch(1, 4)])
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], rtol=1e-7, atol=1e-9)


def test_anomaly_detection_changes_no_step():
    opt = train_options("--model", "template", "--dataroot", "x", "--accumulate", "2")
    usual, _ = one_step(opt, [batch(3), batch(1, 3)])
    with torch.autograd.set_detect_anomaly(True):
        watched, _ = one_step(opt, [batch(3), batch(1, 3)])
    assert all(torch.equal(usual[key], watched[key]) for key in usual)


def test_accumulation_counts_images_and_goes_on_where_it_was_saved(domains):
    model = run_train("--model", "cycle_gan", "--dataroot", domains, "--accumulate", "2", "--n_epochs", "2")
    steps = model.optimizer_G.state_dict()["state"][0]["step"]
    assert steps == 4  # 3 images: 2 + 1, twice


def test_a_continued_run_in_bf16_ends_with_the_same_bits(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--amp", "bf16")
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole")
    run_train(*argv, "--n_epochs", "1", "--name", "parts")
    assert equal(weights(whole), weights(run_on("--name", "parts", "--n_epochs", "2")))


def test_a_state_from_another_layout_is_laid_out_anew():
    """Compiled networks keep their weights channels-last; the moments of Adam must lie as they do."""
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    net(images()).sum().backward()
    optimizer.step()
    other = nn.Conv2d(3, 4, 3)
    resumed = torch.optim.Adam(other.parameters(), fused=True)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    align_state(resumed)
    moment = resumed.state[other.weight]["exp_avg"]
    assert moment.stride() == other.weight.stride()
    assert torch.equal(moment, optimizer.state[net.weight]["exp_avg"])


def test_what_only_minimize_can_do_is_refused_elsewhere(strips):
    argv = ("--plugin_dir", ROOT / "tests" / "plugins", "--model", "classic", "--dataroot", strips)
    with pytest.raises(UsageError, match=r"--accumulate needs a model .* ClassicModel calls step\(\) itself"):
        run_train(*argv, "--accumulate", "2")
    with pytest.raises(UsageError, match="--amp fp16 is for CUDA"):
        run_train(*argv, "--amp", "fp16")
    assert dtype_of(pick_amp("off", CPU)) is None
    assert dtype_of(pick_amp("bf16", CPU)) == torch.bfloat16


@pytest.mark.parametrize(("quicker", "amp"), [(True, "bf16"), (False, "off")])
def test_auto_is_bf16_only_where_the_hardware_is_quicker_in_it(monkeypatch, quicker, amp):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr("networks.fast.precision._bf16_is_quicker", lambda: quicker)
    assert pick_amp("auto", CPU) == amp


def test_cpu_seconds_do_not_count_waiting():
    waiting, computing = cpu_seconds(lambda: time.sleep(0.05), lambda: sum(range(10 ** 6)))
    assert waiting < computing


def test_classic_plugins_run_in_bf16(strips):
    argv = ("--plugin_dir", ROOT / "tests" / "plugins", "--model", "classic", "--dataroot", strips)
    model = run_train(*argv, "--amp", "bf16")
    assert model.fake_B.dtype == torch.float32
    assert all(v.isfinite().all() and v.dtype == torch.float32 for v in model.netG.state_dict().values())


def test_instance_norm_of_a_plugin_is_replaced_too():
    raw = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4))
    assert type(faster(raw)[1]) is InstanceNorm2d
    assert "forward" in vars(raw)  # on channels-last images
    assert "forward" not in vars(faster(plain(raw), rows=("channels_last",)))  # torch's instance norm stays


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_network_that_calls_instance_norm_itself_has_right_gradients(strips, compiled, monkeypatch):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))

        def forward(self, x):
            y = self.first(x)
            return y + (lambda z: F.instance_norm(self.second(z)))(y)  # nowhere in a class's own code

    monkeypatch.setattr(table, "MANY_WEIGHTS", 1)
    monkeypatch.setattr("models.engine.hardware._repays", lambda *_: compiled)
    model = create_model(train_options("--model", "pix2pix", "--dataroot", strips))
    model.netG, x = Residual(), images(1, 64)
    model.netG.compiles_on = ("cpu",)
    _, wanted = gradients(copy.deepcopy(model.netG).double(), x.double())
    model.setup(model.opt)
    _, found = gradients(model.netG, x)
    assert_same(found, wanted, 1e-4)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_network_that_adds_its_own_instance_norm_has_right_gradients(kind):
    """Its skip would make what leaves the norm channels-last."""
    class Added(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.conv, self.tail = kind(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), kind(4, 4, 3)

        def forward(self, x):
            h = self.head(x)
            return self.tail(h + F.instance_norm(self.conv(h)))

    net, x = Added(), images(1, 32, 4)
    _, wanted = gradients(copy.deepcopy(net).double(), x.double())
    _, found = gradients(faster(net), x)
    assert_same(found, wanted, 1e-4)


def test_weights_of_five_dimensions_stay_as_they_are():
    net = faster(nn.Sequential(nn.Conv3d(2, 2, 3), nn.Conv2d(2, 2, 3)), channels_last_weights=True)
    assert net[0].weight.is_contiguous()
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_penalty_through_recomputed_parts_has_a_gradient():
    net = faster(define_D(3, 4, "basic", norm="batch"), recompute=True)
    loss, terms = GANLoss("wgangp").discriminator(net, images(1, 64), -images(1, 64))
    loss.backward()
    assert terms["gp"] > 0


def test_accelerated_layers_are_initialised_again():
    net = faster(define_G(3, 3, 8, "resnet_6blocks"))
    before = {name: value.clone() for name, value in net.named_parameters() if value.dim() == 4}
    init_weights(net, "xavier")
    assert not any(torch.equal(value, before[name]) for name, value in net.named_parameters() if name in before)


def test_layouts_that_have_wrong_gradients_are_known():
    class Bare(nn.Module):
        def forward(self, x):
            self.seen = x.is_contiguous(memory_format=torch.channels_last)
            return F.instance_norm(x)

    for precision in (None, torch.bfloat16):
        bare = faster(nn.Sequential(Bare()), precision)
        bare(images())
        assert not bare[0].seen
    assert bare(images().transpose(2, 3)).dtype == torch.float32  # also if it is not contiguous
    for norm in (type("Named", (nn.InstanceNorm2d,), {})(4), nn.InstanceNorm2d(4, track_running_stats=True)):
        assert "forward" not in vars(faster(nn.Sequential(norm)))


def test_without_a_precision_of_ours_a_plugin_may_have_its_own():
    net = faster(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(images()).dtype == torch.bfloat16


def test_what_leaves_a_network_is_contiguous():
    assert faster(NETS["resnet"]())(images(2, 64)).is_contiguous()


def test_a_compiler_that_fails_is_reported_in_one_line_and_the_step_is_taken(monkeypatch, capsys):
    def broken(*_, **__):
        def call(*_):
            raise RuntimeError("no\ncompiler")
        return call

    monkeypatch.setattr(torch, "compile", broken)
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--compile", "on")
    model = create_model(opt)
    model.setup(opt)
    assert opt.compile == "on"
    model.set_input(batch(1, double=False))
    model.optimize_parameters()
    told = capsys.readouterr()
    assert told.err.count("compiling failed, networks run uncompiled (no compiler)") == 1
    assert "compiling D_A, D_B" in told.out


@pytest.mark.parametrize(("images_planned", "expected"), [(10, "off"), (10**6, "on")])
def test_compilation_is_for_runs_that_repay_it(images_planned, expected):
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--netG", "resnet_6blocks", "--compile", "auto")
    model = create_model(opt)
    model._engine.planned_images, model._engine.planned_size = images_planned, (64, 64)
    model.setup(opt)
    assert opt.compile == expected


def test_a_wish_to_compile_that_helps_no_network_is_answered(capsys):
    opt = train_options("--model", "pix2pix", "--dataroot", "x", "--compile", "on", "--gpu_ids", "-1")
    create_model(opt).setup(opt)
    assert "nothing is compiled" in capsys.readouterr().err


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_convolution_to_few_channels_sends_back_the_memory_format_that_came(layout):
    x = images(2, 16, 8).contiguous(memory_format=layout).requires_grad_()
    slopes = []
    x.register_hook(slopes.append)
    convolutions.ToFewChannels(8, 3, 3)(x).sum().backward()
    assert slopes[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("out", (1, 3))
def test_a_convolution_to_few_channels_is_torch_s(out, bias):
    conv = convolutions.ToFewChannels(2, out, (5, 3), bias=bias).double()
    x = torch.rand(2, 2, 8, 7, dtype=torch.float64, requires_grad=True)
    y = F.conv2d(x, conv.weight, conv.bias)
    inputs, g = (x, *conv.parameters()), torch.rand_like(y)
    assert torch.allclose(conv(x), y, rtol=1e-14)
    for one, two in zip(torch.autograd.grad(conv(x), inputs, g), torch.autograd.grad(y, inputs, g), strict=True):
        assert torch.allclose(one, two, rtol=1e-12)
    assert torch.autograd.gradgradcheck(conv, x)


def test_reflection_is_the_same_when_compiled(monkeypatch):
    x = torch.randn(1, 2, 6, 7)
    wanted = ReflectionPad2d(3)(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(ReflectionPad2d(3)(x), wanted)


def test_a_copy_of_a_compiled_network_is_the_network_it_was(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda part, **_: part)
    net = define_G(3, 3, 4, "resnet_6blocks", "instance")
    x = torch.rand(1, 3, 32, 32)
    expected = net(x)
    accelerate(net, Choices(torch.device("cpu"), compiled=True))
    assert isinstance(net.encode, Compiled)
    del net.translate  # the boundary
    twin = copy.deepcopy(net)
    assert not any(isinstance(value, Compiled) for module in twin.modules() for value in vars(module).values())
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert torch.equal(net(x), expected)
    assert not torch.equal(twin(x), expected)
    assert isinstance(twin.encode.__self__, nn.Module)
    assert twin.encode.__self__ is twin


@pytest.mark.parametrize("more", [{"spectral_norm": True}, {"netD": "deviation"}], ids=str)
def test_what_a_forward_pass_changes_is_not_changed_twice_by_recomputation(more):
    net = define_D(3, 4, more.pop("netD", "basic"), norm="none", **more)
    other = faster(copy.deepcopy(net), rows=(), recompute=True)
    past = {"past": "real", "learning": True} if hasattr(net, "remembers") else {}
    for _ in range(2):
        for one in (net, other):
            one.zero_grad()
            one(images(1, 64), **past).mean().backward()
    assert equal([p.grad for p in net.parameters()], [p.grad for p in other.parameters()])
    assert equal(net.buffers(), other.buffers())
