"""A recorded step: what differs between two steps reaches it, and where recording fails the plain step stays."""

import copy
import re

import pytest
import torch
from conftest import equal, run_train, train_options

from models import create_model
from models.engine.cuda_graph import COMPARED, WARM_UP, CapturedStep, changed_tensors, cuda_graph, why_not
from models.engine.state import networks, optimizers
from models.engine.step import Guard
from util.image_pool import ImagePool
from util.seed import seed_all


def batches(count, size=64, n=1):
    generator = torch.Generator().manual_seed(0)
    return [{key: torch.rand(n, 3, size, size, generator=generator) * 2 - 1 for key in "AB"}
            | {"A_paths": ["a"] * n, "B_paths": ["b"] * n} for _ in range(count)]


def trained(opt, data, record=None, device="cpu"):
    """The weights after a step on each batch, and the captured step if any; on the CPU in float64.

    In float32 Adam amplifies the rounding errors of small gradients.
    """
    seed_all(0)
    model = create_model(opt)
    if device == "cpu":
        model.double()
        data = [{key: value.double() if torch.is_tensor(value) else value for key, value in batch.items()}
                for batch in data]
    model.setup(opt)
    model._engine.guarded = True
    with Guard() as guard:
        step = record and CapturedStep(model, guard, record)
        for i, batch in enumerate(data):
            if i == len(data) - 2:
                for optimizer in optimizers(model).values():
                    optimizer.param_groups[0]["lr"] = 0.001
            inputs = changed_tensors(model, lambda batch=batch: model.set_input(batch))
            step(inputs) if step else model.optimize_parameters()
            model._engine.end_step()
            guard.end_step([])
        assert guard.read() == []
        assert guard.taken == len(data)
    kept = [value.clone() for net in networks(model).values() for key, value in net.state_dict().items()
            if not key.endswith("bias")]  # before a norm they have no effect, and move by rounding errors
    return kept, step, model


@pytest.mark.parametrize("more", [("pix2pix", "--norm", "batch"), ("cycle_gan", "--norm", "batch", "--pool_size", "2"),
                                  ("cycle_gan", "--norm", "batch", "--pool_size", "0", "--gan_mode", "wgangp")])
def test_a_replayed_step_is_the_step(more, capsys):
    """Recorded here as the call itself: what is tested is its surroundings, inputs, pools, rates, random draws."""
    opt = train_options("--model", more[0], "--dataroot", "x", *more[1:])
    data = batches(9)
    plain, _, _ = trained(opt, data)
    replayed, step, model = trained(opt, data, record=rerun)
    assert step.recorded
    assert_close(plain, replayed)
    assert re.search(r"the step is one CUDA graph \(weights within [0-4]\.\d%", capsys.readouterr().out)
    assert model.get_current_losses().keys() == set(model.loss_names)


def test_another_shape_is_trained_on_as_it_is():
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--pool_size", "3", "--batch_size", "2", "--norm",
                        "batch")
    data = [*batches(3, n=2), *batches(1, n=1), *batches(3, n=2), *batches(1, n=1), *batches(3, n=2)]
    plain, _, _ = trained(opt, data)
    replayed, step, _ = trained(opt, data, record=rerun)
    assert step.recorded
    assert_close(plain, replayed)


def assert_close(one, two):
    """The rate of a captured step is a float32, so not the same bits."""
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def rerun(step):
    """Runs Python again, but as a graph it does not change what a pool knows of its plan."""
    step()
    return step


def broken(step):
    raise RuntimeError("operation not permitted when stream is capturing")


def frozen(step):
    return lambda: None


@pytest.mark.parametrize(("record", "reason"), [(broken, "operation not permitted"), (frozen, "weights are off by")])
def test_a_step_that_can_not_be_recorded_is_told_and_taken_as_it_is(record, reason, capsys):
    opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--pool_size", "2")
    data = batches(7)
    plain, _, _ = trained(opt, data)
    replayed, step, _ = trained(opt, data, record=record)
    assert not step.recorded
    assert equal(plain, replayed)
    assert reason in capsys.readouterr().err


def test_a_pool_in_one_tensor_is_the_pool():
    for seed in range(5):
        drawn = []
        for hold in (False, True):
            pool, out = ImagePool(4), []
            seed_all(seed)
            for step in range(20):
                if hold and step == 3:
                    pool.hold(3, torch.zeros(1))
                out.append(pool.query(torch.randn(3 if step % 5 else 2, 1, 2, 2)))
            drawn.append((out, pool.images))
        assert equal(drawn[0][0], drawn[1][0])
        assert equal(drawn[0][1], drawn[1][1])


def test_the_reason_is_the_first_that_holds(strips, capsys):
    opt = train_options("--model", "pix2pix", "--dataroot", strips)
    model = create_model(opt)
    model.setup(opt)
    assert why_not(model, opt, 1) == "cpu has no CUDA graphs"
    gpu = copy.copy(opt)
    gpu.device = torch.device("cuda")
    assert why_not(model, gpu, 1) == "images differ in size"
    model._engine.planned_size = (64, 64)
    assert why_not(model, gpu, 1) == ""
    assert why_not(model, gpu, 2) == "several processes communicate in the step"

    class Own(type(model)):
        """May keep Python state, so it has to say that it does not."""

    other = Own(opt)
    assert why_not(other, gpu, 1) == "Own does not say capturable = True"
    run_train("--model", "pix2pix", "--dataroot", strips, "--cuda_graph", "on")
    assert "steps are not captured, cpu has no CUDA graphs" in capsys.readouterr().err
    assert WARM_UP > 0 < COMPARED


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("more", [("pix2pix", "--norm", "batch", "--no_dropout"), ("cycle_gan", "--pool_size", "2")])
def test_a_cuda_graph_trains_as_eager_does(more):
    argv = ("--model", more[0], "--dataroot", "x", "--device", "cuda", "--amp", "off", *more[1:])
    opt = train_options(*argv)
    data = batches(12)
    plain, _, _ = trained(opt, data, device="cuda")
    replayed, step, _ = trained(opt, data, record=cuda_graph, device="cuda")
    assert step.recorded
    moved = sum((a.float() - b.float()).norm() ** 2 for a, b in zip(plain, replayed, strict=True)) ** 0.5
    assert moved < 0.05 * sum(a.float().norm() ** 2 for a in plain) ** 0.5
