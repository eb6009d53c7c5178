"""Quicker ways to the same numbers: gradients of every parameter, against the plain way."""

import copy
import time

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, equal, run_on, run_train, train_options, weights
from torch import nn

from models import create_model
from models.base_model import MicroBatch, align_state
from networks import define_D, define_G
from networks.fast import cpu as convolution
from networks.fast import products, winograd
from networks.fast.footprint import activation_bytes
from networks.fast.precision import pick_precision
from networks.fast.tuning import compile_parts, may_lie_channels_last, times, together, tune
from networks.layers import InstanceNorm2d, ReflectionPad2d
from networks.losses import GANLoss
from util.device import cpu_seconds
from util.errors import UsageError

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def gradients(net, *batches, seed=0):
    """The output, and the gradient of every parameter, of one pass each over the batches."""
    torch.manual_seed(seed)
    net.zero_grad()
    outputs = [net(x) for x in batches]
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


@pytest.fixture(params=["torch", "onednn"])
def library(request, monkeypatch):
    """Which one multiplies matrices in float32."""
    if request.param == "onednn" and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "_onednn_is_quicker", lambda: request.param == "onednn")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_few_positions_and_many_weights_give_the_same_convolution(kind, n, monkeypatch):
    ours = getattr(convolution, kind.__name__)(6, 5, 4, 2, 1)
    theirs = kind(6, 5, 4, 2, 1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(n, 6, 4, 6)
    for many in (1, 2**40):  # the matrix product, and torch's own
        monkeypatch.setattr(convolution, "MANY_WEIGHTS", many)
        found, wanted = ours(x), theirs(x)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
        for ours_grad, theirs_grad in zip(two_derivatives(found, ours), two_derivatives(wanted, theirs), strict=True):
            torch.testing.assert_close(ours_grad, theirs_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("turned", [False, True])
def test_the_gradient_of_weights_lies_as_they_do(turned):
    """Autograd copies another one."""
    a, w = torch.randn(5, 7), torch.randn(7, 3).t().contiguous().t() if turned else torch.randn(7, 3)
    gradient, = torch.autograd.grad(products.multiply(a, w.requires_grad_()), w, torch.ones(5, 3))
    assert gradient.stride() == w.stride()
    torch.testing.assert_close(gradient, a.sum(0)[:, None].expand(7, 3))


def two_derivatives(y, net):
    first = torch.autograd.grad(y.square().sum(), tuple(net.parameters()), create_graph=True)
    return *first, *torch.autograd.grad(sum(g.square().sum() for g in first), tuple(net.parameters()))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kernel", winograd.KERNELS)
@pytest.mark.parametrize(("padding", "size"), [(0, (18, 34)), (1, (17, 30)), ((0, 2), (23, 21))])
def test_winograd_s_way_gives_the_same_convolution_and_derivatives(padding, size, kernel, monkeypatch):
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    monkeypatch.setattr(convolution, "MANY_BLOCKS", 1)
    ours = convolution.Conv2d(6, 5, kernel, padding=padding)
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


def test_an_activation_in_place_may_follow_winograd_s_way(monkeypatch):
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    monkeypatch.setattr(convolution, "MANY_BLOCKS", 1)
    net = define_G(3, 3, 8, "resnet_6blocks", "none")  # no norm, no bias: ReLU(True) changes the result itself
    _, found = gradients(net, images(1, 64))
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_winograd_s_way_stays_in_float32_under_autocast_and_recomputes(monkeypatch):
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    monkeypatch.setattr(convolution, "MANY_BLOCKS", 1)
    net, x = NETS["resnet"](), images(1, 64)
    tune(net, None, channels_last=True, recompute=True)
    wanted = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    y = net(x).square().mean()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(y, list(net.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("padding", [0, 1])
def test_winograd_s_way_sends_contiguous_inputs_contiguous_gradients(padding, monkeypatch):
    """F.instance_norm of a plugin before it would have a wrong gradient else."""
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    monkeypatch.setattr(convolution, "MANY_BLOCKS", 1)
    conv, x = convolution.Conv2d(8, 4, 3, padding=padding), images(1, 32, 8)
    wanted, found = [], []
    for norm, into in ((F.instance_norm, found), (InstanceNorm2d(8), wanted)):
        into += torch.autograd.grad(conv(norm(y := x.clone().requires_grad_())).pow(3).sum(), y)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "unet"])
def test_memory_of_activations_is_estimated(name):
    assert activation_bytes(NETS[name](), (1, 3, 64, 64)) > 4 * 8 * 64 * 64


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("kernel", "size"), [(3, (8, 12)), (4, (9, 6))])
def test_winograd_s_way_describes_itself_rightly(kernel, size):
    height, width = (side + kernel - 1 for side in size)
    x, weight, y = (torch.randn(shape, requires_grad=True)
                    for shape in ((2, 3, height, width), (5, 3, kernel, kernel), (2, 5, *size)))
    torch.library.opcheck(winograd.convolved, (x, weight))
    torch.library.opcheck(winograd.gradient_of_x, (y, weight))
    torch.library.opcheck(winograd.gradient_of_weight, (x, y))


@pytest.mark.parametrize("compiled", [False, True])
def test_winograd_s_way_gives_the_same_gradients_of_a_network(compiled, monkeypatch):
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    monkeypatch.setattr(convolution, "MANY_BLOCKS", 1)
    torch.manual_seed(1)
    net, x = NETS["resnet"](), images(2, 64)
    (_,), wanted = gradients(copy.deepcopy(net).double(), x.double())
    used = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *arguments: used.append(1) or convolve(*arguments))
    if compiled:
        torch._dynamo.reset()
        compile_parts(net)
    tune(net, None, channels_last=True, recompute=False)
    (_,), found = gradients(net, x)
    assert used
    assert_same(found, wanted, 2e-3)  # usually 1e-6; a ReLU near zero that falls on the other side makes it 1e-3


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_under_autocast_the_product_is_about_as_close_as_the_convolution(kind, monkeypatch):
    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    ours, theirs = getattr(convolution, kind.__name__)(64, 64, 4, 2, 1), kind(64, 64, 4, 2, 1)
    theirs.load_state_dict(ours.state_dict())
    for side in (8, 16, 32):  # few positions, some, many
        x = torch.randn(1, 64, side, side)
        with torch.autocast("cpu", torch.bfloat16):
            found, cast = ours(x.bfloat16()), theirs(x.bfloat16())
        wanted = theirs(x)
        assert found.dtype == cast.dtype
        assert (found - wanted).norm() <= 2 * (cast - wanted).norm()


def test_a_bias_before_instance_norm_changes_nothing():
    net = NETS["resnet"]().double()
    x = images().double()
    (before,), _ = gradients(net, x)
    biases = [m.bias for m in net.modules() if getattr(m, "before_norm", False)]
    assert len(biases) == 3 + 2 * 6 + 2
    for bias in biases:
        bias.data.normal_()
    (after,), found = gradients(net, x)
    torch.testing.assert_close(before, after)
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if hasattr(module, "before_norm"):
            module.before_norm = False
    (y,), wanted = gradients(plain, x)
    torch.testing.assert_close(y, after)
    assert_same(found, wanted, 1e-9)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_channels_last_gives_the_same_gradients(name, n):
    net = without_dropout(NETS[name]().double())
    _, wanted = gradients(net, images(n).double())
    tune(net, None, channels_last=True, recompute=False)
    _, found = gradients(net, images(n).double())
    assert_same(found, wanted, 1e-10)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_bf16_stays_within_its_rounding(name, n):
    """8 bits of mantissa: a few percent of the largest gradient, and outputs in float32."""
    net = without_dropout(NETS[name]())
    (y,), wanted = gradients(net, images(n))
    tune(net, torch.bfloat16, channels_last=True, recompute=False)
    (z,), found = gradients(net, images(n))
    assert z.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in found.values())
    assert_same(found, wanted, 0.1)
    assert (y - z).abs().mean() < 0.02 * y.abs().mean() + 0.01


@pytest.mark.parametrize("name", NETS)
def test_recomputing_gives_the_same_gradients_statistics_and_dropout(name):
    net = NETS[name]()
    other = copy.deepcopy(net)
    tune(other, None, channels_last=False, recompute=True)
    (_, wanted), (_, found) = gradients(net, images()), gradients(other, images())
    assert_same(found, wanted, 1e-6)
    for one, two in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two)


def test_compiled_gives_the_same_gradients():
    """In float64, to 1e-12: one compilation for the blocks, in tens of seconds, and the same keys."""
    torch._dynamo.reset()
    for name in ("resnet", "patchgan"):
        net = NETS[name]().double()
        keys, x = list(net.state_dict()), images(2, 32).double()
        x.requires_grad_()
        (_,), wanted = gradients(net, x)
        slope, x.grad = x.grad, None
        compile_parts(net)
        tune(net, None, channels_last=True, recompute=False)
        (_,), found = gradients(net, x)
        assert_same(found, wanted, 1e-12)
        torch.testing.assert_close(x.grad, slope)
        assert list(net.state_dict()) == keys
        if name == "patchgan":  # a second derivative, which compiled code does not have
            loss, terms = GANLoss("wgangp").discriminator(net, x[:1].detach(), -x[:1].detach())
            loss.backward()
            assert terms["gp"] > 0
    before = [b.clone() for b in net.buffers()]
    assert all(seconds > 0 for seconds in times(net, x.detach())[1:])
    with torch.no_grad():
        assert all(seconds > 0 for seconds in times(net, x.detach())[1:])
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))


def one_step(opt, batches, double=True):
    """The networks' tensors after one step, and the losses."""
    torch.manual_seed(1)
    model = create_model(opt)
    model = model.double() if double else model
    model.setup(opt)
    sizes = [len(batch["A"]) for batch in batches]
    for i, batch in enumerate(batches):
        model.micro_batch = MicroBatch(i == 0, sizes[i] / sum(sizes), i == len(batches) - 1)
        model.set_input(batch)
        model.optimize_parameters()
    return {f"{n}.{k}": v for n, net in model.networks().items() for k, v in net.state_dict().items()}, model


def batch(n, start=0):
    return {key: images(8)[start:start + n].double() * sign for key, sign in (("A", 1), ("B", -1))} | {
        f"{key}_paths": ["x"] * n for key in "AB"}


@pytest.mark.parametrize("n", [1, 2])
def test_images_that_share_a_call_give_the_same_step(n, monkeypatch):
    opt = train_options("--model", "cycle_gan", "--dataroot", "x")
    shared, model = one_step(opt, [batch(n)])
    calls = []
    monkeypatch.setattr("models.cycle_gan_model.together", lambda net, *xs: calls.append(1) or tuple(map(net, xs)))
    monkeypatch.setattr("networks.losses.together", lambda net, *xs: calls.append(1) or tuple(map(net, xs)))
    apart, other = one_step(opt, [batch(n)])
    assert len(calls) == 4
    for key in apart:
        torch.testing.assert_close(shared[key], apart[key], rtol=1e-7, atol=1e-9)
    assert model.get_current_losses() == pytest.approx(other.get_current_losses())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_batches_that_share_a_call_keep_their_own_statistics(n, recompute):
    shared = NETS["patchgan_batch"]().double()
    tune(shared, None, channels_last=True, recompute=recompute)
    apart = copy.deepcopy(shared)
    batches = images(n).double(), images(3).double()
    calls = []
    shared.register_forward_hook(lambda *_: calls.append(1))
    found, wanted = together(shared, *batches), tuple(map(apart, batches))
    for y, z in zip(found, wanted, strict=True):
        torch.testing.assert_close(y, z)
    sum(y.square().mean() for y in (*found, *wanted)).backward()
    for one, two in zip(shared.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    assert all(torch.equal(one, two) for one, two in zip(shared.buffers(), apart.buffers(), strict=True))
    assert len(calls) == 1
    torch.testing.assert_close(shared(batches[0]), apart(batches[0]))  # one batch again


def test_unequal_sizes_and_a_batch_norm_of_a_plugin_get_a_call_each():
    calls = []
    net = NETS["pixel"]()
    tune(net, None, channels_last=False, recompute=False)
    net.register_forward_hook(lambda *_: calls.append(1))
    together(net, images(1), images(1, 32))
    assert len(calls) == 2
    net.extra = nn.ModuleList([type("Own", (nn.BatchNorm2d,), {})(3)])
    together(net, images(1), images(1))
    assert len(calls) == 4
    together(net.eval(), images(1), images(1))
    assert len(calls) == 5


def test_accumulated_batches_are_one_large_batch():
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--pool_size", "0", "--accumulate", "3")
    whole, _ = one_step(opt, [batch(5)])
    parts, _ = one_step(opt, [batch(2), batch(2, 2), batch(1, 4)])
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], rtol=1e-7, atol=1e-9)


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
    assert pick_precision("off", torch.device("cpu")) is None
    assert pick_precision("bf16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize(("quicker", "precision"), [(True, torch.bfloat16), (False, None)])
def test_auto_is_bf16_only_where_the_hardware_is_quicker_in_it(monkeypatch, quicker, precision):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr("networks.fast.precision._bf16_is_quicker", lambda: quicker)
    assert pick_precision("auto", torch.device("cpu")) == precision


def test_a_way_s_seconds_are_those_of_the_core_not_of_the_clock():
    waiting, computing = cpu_seconds(lambda: time.sleep(0.05), lambda: sum(range(10 ** 6)))
    assert waiting < computing


def test_classic_plugins_run_in_bf16(strips):
    argv = ("--plugin_dir", ROOT / "tests" / "plugins", "--model", "classic", "--dataroot", strips)
    model = run_train(*argv, "--amp", "bf16")
    assert model.fake_B.dtype == torch.float32
    assert all(v.isfinite().all() and v.dtype == torch.float32 for v in model.netG.state_dict().values())


def test_raw_instance_norm_of_a_plugin_is_mended():
    raw = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4))
    assert may_lie_channels_last(raw)
    tune(raw, None, channels_last=True, recompute=False)
    assert type(raw[1]) is InstanceNorm2d


@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_that_calls_instance_norm_itself_has_right_gradients(strips, compiled, monkeypatch):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (convolution.Conv2d(3, 3, 3, padding=1) for _ in range(2))

        def forward(self, x):
            y = self.first(x)
            return y + (lambda z: F.instance_norm(self.second(z)))(y)  # nowhere in a class's own code

    monkeypatch.setattr(convolution, "MANY_WEIGHTS", 1)
    monkeypatch.setattr("models.engine.hardware._repays", lambda *_: compiled)
    model = create_model(train_options("--model", "pix2pix", "--dataroot", strips))
    model.netG, x = Residual(), images(1, 64)
    model.netG.compiles_on = ("cpu",)
    _, wanted = gradients(copy.deepcopy(model.netG).double(), x.double())
    model.setup(model.opt)
    _, found = gradients(model.netG, x)
    assert_same(found, wanted, 1e-4)


def test_layouts_that_have_wrong_gradients_are_known():
    class Bare(nn.Module):
        def forward(self, x):
            self.seen = x.is_contiguous(memory_format=torch.channels_last)
            return F.instance_norm(x)

    bare = nn.Sequential(Bare())
    for precision in (None, torch.bfloat16):
        tune(bare, precision, may_lie_channels_last(bare), recompute=False)
        bare(images())
        assert not bare[0].seen
    assert bare(images().transpose(2, 3)).dtype == torch.float32  # also where it is not contiguous
    named = type("Named", (nn.InstanceNorm2d,), {})
    assert not may_lie_channels_last(nn.Sequential(named(4)))
    assert not may_lie_channels_last(nn.Sequential(nn.InstanceNorm2d(4, track_running_stats=True)))


def test_without_a_precision_of_ours_a_plugin_may_have_its_own():
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    tune(net, None, channels_last=True, recompute=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(images()).dtype == torch.bfloat16


def test_what_leaves_a_network_is_contiguous():
    net = NETS["resnet"]()
    tune(net, None, channels_last=True, recompute=False)
    assert net(images(2, 64)).is_contiguous()


def test_a_missing_compiler_is_told_in_one_line(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no\ncompiler")

    monkeypatch.setattr("models.engine.hardware.times", broken)
    monkeypatch.setattr("models.engine.hardware.compile_parts", lambda net: None)
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--compile", "on")
    try:
        create_model(opt).setup(opt)
    finally:
        torch.compiler.set_stance("default")
    assert "networks are not compiled (no compiler)" in capsys.readouterr().err


@pytest.mark.parametrize(("images_planned", "expected"), [(10, False), (10**6, True)])
def test_compilation_is_for_runs_that_repay_it(images_planned, expected, monkeypatch):
    compiled = []
    monkeypatch.setattr("models.engine.hardware.compile_parts", lambda net: compiled.append(net))
    monkeypatch.setattr("models.engine.hardware.compile_now", lambda model, nets: None)
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--compile", "auto")
    model = create_model(opt)
    model.planned_images, model.planned_size = images_planned, (64, 64)
    model.setup(opt)
    assert bool(compiled) is expected


def test_a_wish_to_compile_that_helps_no_network_is_answered(capsys):
    opt = train_options("--model", "pix2pix", "--dataroot", "x", "--compile", "on", "--gpu_ids", "-1")
    create_model(opt).setup(opt)
    assert "nothing is compiled" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d"])
def test_one_image_keeps_its_memory_order_past_an_unused_bias(kind):
    """Strides that only look like channels-last send the norm behind it down a slow way."""
    conv = getattr(convolution, kind)(8, 8, 3, before_norm=True)
    x = images(1, 16, 8).contiguous(memory_format=torch.channels_last)
    y = conv(x)
    assert y.stride() == torch.empty_like(y, memory_format=torch.channels_last).stride()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_convolution_to_few_channels_sends_back_the_memory_order_that_came(layout):
    x = images(2, 16, 8).contiguous(memory_format=layout).requires_grad_()
    slopes = []
    x.register_hook(slopes.append)
    convolution.ConvToFewChannels(8, 3, 3)(x).sum().backward()
    assert slopes[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("out", (1, 3, 5))
def test_a_convolution_to_few_channels_is_torch_s(out):
    conv = convolution.ConvToFewChannels(6, out, (7, 5)).double()
    x = torch.rand(2, 6, 12, 11, dtype=torch.float64, requires_grad=True)
    y = F.conv2d(x, conv.weight, conv.bias)
    inputs, g = (x, conv.weight, conv.bias), torch.rand_like(y)
    assert torch.allclose(conv(x), y, rtol=1e-14)
    for one, two in zip(torch.autograd.grad(conv(x), inputs, g), torch.autograd.grad(y, inputs, g), strict=True):
        assert torch.allclose(one, two, rtol=1e-12)
    assert torch.autograd.gradgradcheck(conv, x)


def test_reflection_is_the_same_when_compiled(monkeypatch):
    x = torch.randn(1, 2, 6, 7)
    wanted = ReflectionPad2d(3)(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(ReflectionPad2d(3)(x), wanted)
