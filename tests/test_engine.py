"""What drives a model: its one attribute, `minimize` outside train.py, `auto`, two trainings in one process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, equal, run_on, run_test, run_train, train_options, weights
from torch.optim.optimizer import _global_optimizer_pre_hooks

import data
import models
import train
from models import create_model
from networks import DISCRIMINATORS, GENERATORS, NORMS, OBJECTIVES
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import UsageError
from util.notices import fresh, notice

RUN = Path("checkpoints/experiment_name")
OWNER = """
from models.template_model import TemplateModel


class OwnerModel(TemplateModel):
    def __init__(self, opt):
        super().__init__(opt)
        self.progress, self.average, self.compiled, self.scalers = [1], "mean", {"x": 1}, None
        self.passes, self.record_, self.step, self.pools, self.networks = 3, "r", 0, {}, ["a"]
        self.learning_rate, self.resume, self.paired, self.planned_size, self.take = 0.1, True, 1, 2, 3
        self.part, self.guarded, self.minimizing, self.losses, self.state = 4, 5, 6, 7, 8

    def optimize_parameters(self):
        self.step += 1
        super().optimize_parameters()
"""
HELPER = """
from models.template_model import TemplateModel


def go(optimizer):
    optimizer.step()


class HelperModel(TemplateModel):
    def optimize_parameters(self):
        self.forward()
        self.optimizer_G.zero_grad()
        self.record(G=(self.fake_B - self.real_B).abs().mean())
        (self.fake_B - self.real_B).abs().mean().backward()
        go(self.optimizer_G)
"""


def plugin(name, text):
    Path(f"{name}_model.py").write_text(text)
    return ("--model", name, "--plugin_dir", ".", "--dataset_mode", "aligned")


@pytest.mark.parametrize("more", [(), ("--accumulate", "2")])
def test_a_plugin_owns_its_namespace(strips, more):
    argv = (*plugin("owner", OWNER), "--dataroot", strips, "--ema", "0.9", "--val_split", "0.3", *more)
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole")
    run_train(*argv, "--n_epochs", "1", "--name", "parts")
    assert equal(weights(whole), weights(run_on("--n_epochs", "2", "--name", "parts")))
    assert (whole.progress, whole.average, whole.compiled, whole.step > 0) == ([1], "mean", {"x": 1}, True)
    assert run_test("--model", "owner", "--dataroot", strips, "--name", "whole") == 0


def test_a_helper_that_steps_is_noticed_where_only_minimize_can(strips):
    argv = (*plugin("helper", HELPER), "--dataroot", strips)
    kept = weights(run_train(*argv))
    for more in (argv, ("--continue_train", "--n_epochs", "2")):
        with pytest.raises(UsageError, match=r"--accumulate needs a model .* HelperModel calls step\(\) itself"):
            train.train(train.parse([*TINY, *map(str, more), "--accumulate", "2"]))
        assert recorded()["accumulate"] == 1  # the run that was there is there again
        assert not list(RUN.glob("previous_*"))
    assert equal(kept[:1], [next(iter(torch.load(RUN / "latest_net_G.pth", weights_only=True).values()))])
    run_on("--n_epochs", "2")


def stepped(scale, **scaler):
    """A model after one step outside train.py, with the scaling of fp16 and a loss times `scale`."""
    model = create_model(train_options("--model", "template", "--dataroot", "x"))
    model.setup(model.opt)
    model._engine.scalers = {"G": torch.amp.GradScaler("cpu", **scaler)}
    before = weights(model)
    model.set_input({"A": torch.ones(1, 3, 64, 64), "B": torch.zeros(1, 3, 64, 64), "A_paths": ["a"], "B_paths": ["b"]})
    model.forward()
    model.minimize("G", (model.fake_B - model.real_B).abs().mean() * scale)
    return model, before


def test_in_a_loop_of_ones_own_an_overflow_is_skipped_and_the_scale_halved():
    model, before = stepped(1e30, init_scale=2.0 ** 30)
    assert equal(weights(model), before)
    assert model._engine.scalers["G"].get_scale() == 2.0 ** 29
    model, before = stepped(1.0, init_scale=2.0)
    assert not equal(weights(model), before)
    assert not _global_optimizer_pre_hooks


LOOP = """
import sys
import torch
from models import create_model
from train import parse
from util.distributed import joined, rank

opt = parse("--model template --dataroot x --netG unet_64 --ngf 2 --seed 3 --device cpu --amp off".split())
model = create_model(opt)
model.setup(opt)
def step():
    generator = torch.Generator().manual_seed(rank())
    A, B = (torch.rand(1, 3, 64, 64, generator=generator).double() for _ in range(2))
    model.double().set_input({"A": A, "B": B, "A_paths": ["a"], "B_paths": ["b"]})
    model.forward()
    model.minimize("G", (model.fake_B - model.real_B).square().mean())
if sys.argv[1] == "joined":
    with joined(opt.device):
        step()
    torch.save([p.grad for p in model.netG.parameters()], f"{rank()}.pt")
else:
    from util.cli import run
    run(lambda argv: step())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["joined", "alone"])
def test_under_torchrun_a_loop_of_ones_own_averages_or_is_refused(how):
    Path("loop.py").write_text(LOOP)
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "loop.py", how]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    if how == "joined":
        assert done.returncode == 0, done.stderr
        one, two = (torch.load(f"{i}.pt") for i in range(2))
        assert equal(one, two)
        assert any(gradient.any() for gradient in one)
    else:
        assert "the processes have not joined" in done.stderr
        assert "error: torchrun started this process" in done.stderr


def recorded(name="experiment_name"):
    return json.loads(Path("checkpoints", name, "train_opt.json").read_text())["options"]


def test_what_auto_chose_is_recorded_and_repeated(strips, monkeypatch):
    """On a machine where bf16 pays, and then on one where it does not."""
    argv = ("--model", "pix2pix", "--dataroot", strips, "--amp", "auto", "--compile", "auto", "--cuda_graph", "auto")
    monkeypatch.setattr("networks.fast.precision._multiplies_bf16", lambda device: True)
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole")
    run_train(*argv, "--n_epochs", "1", "--name", "parts")
    chosen = {key: recorded("parts")[key] for key in ("amp", "compile", "cuda_graph", "cache")}
    assert chosen == {"amp": "bf16", "compile": "off", "cuda_graph": "off", "cache": "ram"}
    monkeypatch.setattr("networks.fast.precision._multiplies_bf16", lambda device: False)
    assert equal(weights(whole), weights(run_on("--n_epochs", "2", "--name", "parts")))
    run_on("--n_epochs", "3", "--name", "parts", "--amp", "auto")
    assert recorded("parts")["amp"] == "off"


def test_a_run_of_another_kind_of_machine_is_told(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    record = json.loads((RUN / "train_opt.json").read_text())
    record["options"].update(device="cuda:0", cuda_graph="on")
    (RUN / "train_opt.json").write_text(json.dumps(record))
    run_on("--n_epochs", "2", "--device", "cpu")
    told = capsys.readouterr().err
    assert "was trained on cuda and continues on cpu with --amp off --compile off --cuda_graph on" in told
    assert "steps are not captured, cpu has no CUDA graphs" in told


def test_plain_trains_what_is_written_and_takes_up_any_run(strips):
    model = run_train("--model", "pix2pix", "--dataroot", strips, "--plain")
    modules = [module for net in (model.netG, model.netD) for module in net.modules()]
    assert not any(type(module).__module__.startswith("networks.fast") for module in modules)
    assert model.optimizer_G.param_groups[0]["fused"] is None
    run_train("--model", "pix2pix", "--dataroot", strips, "--amp", "bf16", "--name", "fast", "--without", "tanh,skip")
    assert recorded("fast")["without"] == ["tanh", "skip"]
    run_on("--name", "fast", "--n_epochs", "2", "--plain")
    assert run_test("--dataroot", f"{strips}/test", "--plain") == 0


def test_a_run_debugged_with_plain_runs_as_before_afterwards(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--amp", "bf16", "--without", "skip")
    run_on("--n_epochs", "2", "--plain")
    kept = {key: recorded()[key] for key in ("amp", "without", "plain")}
    assert kept == {"amp": "bf16", "without": ["skip"], "plain": False}
    run_on("--n_epochs", "3", "--amp", "off")
    assert recorded()["amp"] == "off"


TWICE = """
from models.template_model import TemplateModel


class TwiceModel(TemplateModel):
    def optimize_parameters(self):
        for _ in range(2):
            super().optimize_parameters()
"""


def test_two_steps_a_batch_are_refused_where_they_would_accumulate_wrongly(strips):
    argv = (*plugin("twice", TWICE), "--dataroot", strips)
    run_train(*argv)
    with pytest.raises(UsageError, match=r"--accumulate needs one minimize\('G', ...\) per batch, not several"):
        run_train(*argv, "--accumulate", "2")


@pytest.mark.parametrize(("argv", "message"), [
    (("--plain", "--amp", "bf16"), "--plain and --amp bf16 exclude each other"),
    (("--plain", "--without", "tanh"), "--plain and --without tanh exclude each other"),
    (("--plain", "--checkpoint_activations"), "--plain and --checkpoint_activations exclude each other"),
    (("--without", "winnograd"), "Unknown row of --without 'winnograd'. Did you mean 'winograd'?.*few_positions"),
])
def test_choices_that_can_not_be(argv, message):
    with pytest.raises(UsageError, match=message):
        train_options("--model", "pix2pix", "--dataroot", "x", "--amp", "auto", "--compile", "auto", *argv)
    if argv[-1] != "--checkpoint_activations":
        with pytest.raises(UsageError, match=message):
            TestOptions().parse(["--dataroot", "x", *argv])


@pytest.mark.parametrize(("module", "place"), [("util.guard", "models.engine.step"),
                                               ("models.training", "models.engine.training")])
def test_a_plugin_written_against_a_moved_module_is_told_where_it_is(module, place):
    argv = plugin("old", f"import {module}\n")
    with pytest.raises(UsageError, match=f"'old' imports {module}, which is now {place} and not part of the plugin"):
        train_options(*argv, "--dataroot", "x")


def process_state():
    """What a training could leave behind in its process."""
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "hooks": len(_global_optimizer_pre_hooks),
        "cudnn": torch.backends.cudnn.benchmark,
        "path": list(sys.path),
        "stance": torch._dynamo.eval_frame._stance.stance if "torch._dynamo" in sys.modules else "default",
        "registries": [list(registry) for registry in (GENERATORS, DISCRIMINATORS, NORMS, OBJECTIVES)],
        "packages": [list(package.__path__) for package in (models, data)],
        "torch threads": torch.get_num_threads(),
    }


def test_two_trainings_in_one_process_are_two_trainings(domains, capsys):
    opt = train_options("--model", "cycle_gan", "--dataroot", domains, "--netG", "resnet_6blocks", "--load_size", "36",
                        "--crop_size", "32", "--num_threads", "1", "--best_metric", "psnr")
    before, told, trained = process_state(), [], []
    for _ in range(2):
        with fresh():
            notice("anything", "which a training before may have said")
            capsys.readouterr()
            trained.append(weights(train.train(opt)))
        told.append([line.partition(";")[0] for line in "".join(capsys.readouterr()).splitlines()
                     if "the earlier run" not in line and not line.startswith(("(epoch", "memory", "end of"))])
        end = time.monotonic() + 20
        while (state := process_state()) != before and time.monotonic() < end:
            time.sleep(0.1)  # the queues of data workers close in threads of their own
        assert {**state, "stance": ""} == {**before, "stance": ""}
        assert state["stance"] == "default"
    assert told[0] == told[1]
    assert equal(*trained)


def test_a_sweep_over_plugin_folders_takes_each_from_its_own(strips):
    for name, weight in (("one", 1.0), ("two", 2.0)):
        Path(name).mkdir()
        Path(name, "twin_model.py").write_text(
            f"from models.template_model import TemplateModel as T\nclass TwinModel(T):\n    weight = {weight}\n")
    options = [train_options("--model", "twin", "--plugin_dir", name, "--dataroot", strips, "--dataset_mode", "aligned",
                             "--name", name) for name in ("one", "two")]
    assert [train.train(opt).weight for opt in options] == [1.0, 2.0]
    with pytest.raises(UsageError, match="Unknown model 'twin'"):
        train_options("--model", "twin", "--dataroot", strips)


def test_metrics_and_helpers_of_a_plugin_folder_are_those_of_the_run(strips):
    for name, value in (("one", 1.0), ("two", 2.0)):
        Path(name, "lib").mkdir(parents=True)
        Path(name, "lib/__init__.py").write_text(f"VALUE = {value}\n")
        Path(name, "mine_metric.py").write_text(
            "import torch\nfrom util.metrics import pair_metric\n\n\n@pair_metric('mine')\ndef mine(output, truth):\n"
            f"    return torch.full((len(output),), {value})\n")
        Path(name, "own_model.py").write_text(
            "import models.lib\nfrom models.template_model import TemplateModel as T\nclass OwnModel(T):\n"
            "    value = models.lib.VALUE\n")
    for name, value in (("one", 1.0), ("two", 2.0), ("one", 1.0)):
        argv = ("--model", "own", "--plugin_dir", name, "--dataset_mode", "aligned", "--name", name)
        model = run_train(*argv, "--dataroot", strips, "--val_split", "0.3", "--metrics", "mine", "--best_metric",
                          "mine")
        assert model.value == value
        points = [json.loads(line) for line in Path("checkpoints", name, "loss_log.jsonl").read_text().splitlines()]
        assert [p["metrics"]["fake_B/mine"] for p in points if p.get("metrics")] == [value]


def test_a_command_line_is_options_and_nothing_else(strips):
    assert vars(train.parse(["--model", "pix2pix", "--dataroot", strips, "--seed", "1"])) == vars(
        TrainOptions().parse(["--model", "pix2pix", "--dataroot", strips, "--seed", "1"]))
