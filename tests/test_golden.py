"""Numbers of the reference: keys and shapes, outputs in float32, six training steps in float64."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from models import create_model
from models.engine.state import networks
from networks import define_D, define_G
from networks.fast import Choices, accelerate

STATE_DICTS = json.loads((GOLDEN / "state_dicts.json").read_text())
TRAINING = json.loads((GOLDEN / "training.json").read_text())

NO_KIT = {"spectral_norm": False, "r1": 0, "gp": 0, "penalty_every": 16, "diffaugment": [], "lambda_feature": 0,
          "began_gamma": 0.5, "n_critic": 1, "lr_D": None, "reconstruction": ["l1"], "metric_weights": None,
          "beta2": 0.999}


@pytest.mark.parametrize("case", STATE_DICTS)
def test_state_dict_keys_order_and_shapes(case):
    kind, name, *rest = case.split()
    with torch.device("meta"):
        if kind == "G":
            net = define_G(3, 3, 64, name, rest[0], rest[1] == "dropout=True")
        else:
            net = define_D(3, 64, name, int(rest[0].removeprefix("n_layers=")), rest[1])
    assert [(key, list(value.shape)) for key, value in net.state_dict().items()] == [*STATE_DICTS[case].items()]


@pytest.mark.parametrize("case", ["G_resnet_9blocks_batch_dropout1", "D_pixel_3_instance"])
def test_forward(case):
    net = (
        define_G(3, 1, 4, "resnet_9blocks", "batch", True) if case[0] == "G" else define_D(3, 8, "pixel", 3, "instance")
    )
    net.load_state_dict(torch.load(GOLDEN / f"{case}.pth", weights_only=True))
    numbers = np.load(GOLDEN / f"{case}.npz")
    for run in (net.eval(), accelerate(net, Choices(torch.device("cpu")))):
        y = run(torch.from_numpy(numbers["x"])).detach().numpy()
        np.testing.assert_allclose(y, numbers["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("run", TRAINING)
def test_six_steps(run, plain, tmp_path):
    """Adam turns rounding noise into steps of the learning rate, so this is float64: losses and weights to 1e-6."""
    facts = TRAINING[run]
    opt = SimpleNamespace(
        **facts["options"],
        isTrain=True,
        device=torch.device("cpu"),
        gpu_ids=[],
        seed=0,
        load_iter=0,
        amp="off",
        compile="off",
        plain=plain,
        without=[],
        ema=0,
        checkpoints_dir=str(tmp_path),
        name="run",
        epoch="latest",
        lr_decay_iters=50,
        **NO_KIT,
        model=run.split("_lsgan")[0].split("_vanilla")[0],
    )
    model = create_model(opt)
    for name, state in torch.load(GOLDEN / f"{run}_init.pth", weights_only=True).items():
        networks(model)[name].load_state_dict(state)
    model.double().setup(opt)
    generator = torch.Generator().manual_seed(facts["seed"])
    A, B = ((torch.rand(facts["shape"], generator=generator) * 2 - 1).double() for _ in "AB")
    for step in range(len(A)):
        model.set_input({"A": A[step], "B": B[step], "A_paths": [""], "B_paths": [""]})
        model.optimize_parameters()
        losses = model.get_current_losses()
        assert set(losses) == set(facts["losses"])
        for name, values in facts["losses"].items():
            assert losses[name] == pytest.approx(values[step], abs=1e-6), (step, name)
    for name, tensors in facts["final"].items():
        state = networks(model)[name].state_dict()
        assert list(state) == list(tensors)
        for key, (total, projected, squares) in tensors.items():
            value = state[key].double().flatten()
            scale = max(1.0, len(value) ** 0.5)
            direction = torch.cos(torch.arange(len(value), dtype=torch.float64))
            assert value.sum().item() == pytest.approx(total, abs=1e-6 * scale), key
            assert (value * direction).sum().item() == pytest.approx(projected, abs=1e-6 * scale), key
            assert value.square().sum().item() == pytest.approx(squares, rel=1e-6, abs=1e-9), key
