"""Several images at once give what one after the other gives."""

import copy
import threading

import pytest
import torch
from conftest import equal, model_file, train_options, weights
from torch import nn

from models import create_model
from models.engine.hardware import ONE_CORE, takes_one_core
from models.engine.translation import translated
from networks import define_G
from networks.fast import Choices, accelerate
from networks.fast.compiled import Compiled

PIX2PIX = ("--model", "pix2pix", "--norm", "batch", "--dataroot", "x")
CYCLE = ("--model", "cycle_gan", "--netG", "resnet_6blocks", "--no_dropout", "--dataroot", "x")


@pytest.fixture
def cores():
    """Set how many there are for this test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def batches(count=6, size=64):
    """One pair each; every other image is larger."""
    for i in range(count):
        shape = (1, 3, size, size * (1 + i % 2))
        A, B = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (i, 99 - i))
        yield {"A": A, "B": B, "A_paths": [f"{i}.png"], "B_paths": [f"{i}.png"]}


def made(argv):
    opt = train_options(*argv)
    model = create_model(opt)
    model.setup(opt)
    return model


def fakes(model, **kwargs):
    return [(tested.get_image_paths(), tested.fake_B) for tested, _ in translated(model, batches(**kwargs))]


@pytest.mark.parametrize("more", [PIX2PIX, CYCLE, (*PIX2PIX, "--amp", "bf16")])
def test_the_number_of_cores_changes_no_bit(more, cores):
    """Also with batch norm and dropout, whose layers know the seeds of one batch at a time."""
    model = made(more)
    before = weights(model)
    results = []
    for count in (1, 2, 3):
        cores(count)
        results.append(fakes(model))
        assert torch.get_num_threads() == count
    for found in results:
        assert [paths for paths, _ in found] == [[f"{i}.png"] for i in range(6)]
        assert equal([fake for _, fake in found], [fake for _, fake in results[0]])
    assert equal(weights(model), before)


def test_copies_work_side_by_side(cores):
    """Two images at once are inside the network, after the first one alone."""
    cores(2)
    model, both, calls = made(PIX2PIX), threading.Barrier(2, timeout=60), []

    def meet(module, args):
        calls.append(threading.get_ident())
        if len(calls) > 1:
            both.wait()

    model.netG.register_forward_pre_hook(meet)
    assert len(fakes(model, count=5)) == 5
    assert len(set(calls)) == 3


BODIES = {
    "a hook that keeps what it sees": "    def __init__(self, opt):\n        super().__init__(opt)\n"
        "        self.netG.register_forward_hook(self.keep)\n"
        "    def keep(self, net, args, out):\n        self.seen = out\n"
        "    def forward(self):\n        super().forward()\n        self.fake_B = self.fake_B + self.seen\n",
    "random numbers": "    capturable = True\n"
        "    def forward(self):\n        super().forward()\n        self.fake_B = self.fake_B + torch.randn(1)\n",
    "a network that learns while it translates": "    capturable = True\n"
        "    def __init__(self, opt):\n        super().__init__(opt)\n"
        "        self.netG = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 3, 3))\n",
    "one that can't be copied": "    capturable = True\n"
        "    def __init__(self, opt):\n        super().__init__(opt)\n"
        "        self.locks = [__import__('threading').Lock()]\n",
    "a network that stores its features": "    capturable = True\n"
        "    def __init__(self, opt):\n        super().__init__(opt)\n"
        "        class Store(torch.nn.Module):\n"
        "            def forward(self, x):\n                self.kept = [x * 2]\n"
        "                torch.randn(200, 200, generator=torch.Generator()).inverse()\n"
        "                return self.kept.pop() / 4\n"
        "        self.netG = torch.nn.Sequential(Store(), torch.nn.Conv2d(3, 3, 1))\n",
    "networks in a list": "    capturable = True\n    def __init__(self, opt):\n        super().__init__(opt)\n"
        "        self.stages = [self.netG]\n"
        "    def forward(self):\n        self.fake_B = self.stages[0](self.real_A)\n",
}


@pytest.mark.parametrize("what", BODIES)
def test_a_plugin_gives_the_same_with_any_number_of_cores(what, cores, capsys):
    argv = (*model_file("ordered", "Pix2Pix", BODIES[what]), "--norm", "batch", "--dataroot", "x")
    results = []
    for count in (1, 2):
        cores(count)
        torch.manual_seed(5)
        results.append([fake for _, fake in fakes(made(argv))])
    assert equal(*results)
    assert ("can't be copied" in capsys.readouterr().err) == ("copied" in what)


def test_large_images_have_all_cores(cores):
    cores(2)
    model, side, seen = made(PIX2PIX), int(ONE_CORE ** 0.5), []
    assert takes_one_core(model, {"A": torch.empty(4, 3, side // 2, side // 2)})
    assert not takes_one_core(model, {"A": torch.empty(8, 3, side // 2, side // 2)})
    assert not takes_one_core(model, {"A": torch.empty(1, 3, 8, side, side)})
    assert not takes_one_core(model, {"A": [torch.empty(1, 3, 8, 8)]})
    model.netG.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    model.netG.forward = lambda x: x
    for size, expected in ((side // 2, 1), (side, 2)):
        seen.clear()
        fakes(model, count=4, size=size)  # of which half are twice as wide
        assert seen[:2] == [1, expected]


def test_what_a_copy_raises_is_raised(cores):
    cores(2)
    odd = [*batches(3), {"A": torch.zeros(1, 5, 8, 8), "B": torch.zeros(1, 3, 8, 8), "A_paths": ["odd.png"],
                         "B_paths": ["odd.png"]}, *batches(3)]
    with pytest.raises(RuntimeError, match="5 channels"):
        list(translated(made((*PIX2PIX, "--norm", "instance")), odd))


def test_a_copy_of_a_compiled_network_is_the_network_it_was(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda part, **_: part)
    net = define_G(3, 3, 4, "resnet_6blocks", "instance")
    x = torch.rand(1, 3, 32, 32)
    expected = net(x)
    accelerate(net, Choices(torch.device("cpu"), compiled=True))
    assert isinstance(net.encode, Compiled)
    del net.forward  # the boundary
    twin = copy.deepcopy(net)
    assert not any(isinstance(value, Compiled) for module in twin.modules() for value in vars(module).values())
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert torch.equal(net(x), expected)
    assert not torch.equal(twin(x), expected)
    assert isinstance(twin.encode.__self__, nn.Module)
    assert twin.encode.__self__ is twin


def test_networks_in_evaluation_mode_stay_in_it_while_threads_translate(cores):
    """Threads that switch the mode of shared modules would race."""
    cores(2)
    body = ("    capturable = True\n    def __init__(self, opt):\n        super().__init__(opt)\n"
            "        self.netF = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 1) for _ in range(30))).eval()\n")
    model = made((*model_file("resting", "Pix2Pix", body), "--norm", "batch", "--dataroot", "x"))
    for _ in range(5):
        fakes(model, count=12)
        assert not any(module.training for module in model.netF.modules())
        assert all(module.training for module in model.netG.modules())
