"""Files whose bytes are sound but whose content is not: any structure ends in a result or in one line."""

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import run_test, run_train, train_options
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz import fuzz

from models import create_model
from models.engine import saving
from models.engine.fit import check_state
from options.passes import read_config
from options.record import read_record
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util import notices
from util.checkpoint import clean_state_dict
from util.compare import read_pictures
from util.errors import UsageError
from util.metrics.report import read_figures
from util.run_files import PICTURES, RECORD
from util.sinks.log_file import parse

ODD = st.sampled_from([None, True, -1, 0, 2 ** 70, 1.5, float("nan"), "", "x", "../..", "-1", [], {}, [[]], {"a": {}},
                       ["x", 1], {1: 2}])
TENSORS = st.sampled_from([torch.zeros(()), torch.zeros(3), torch.full((2, 2), torch.nan), torch.zeros(1, 2, 3, 4),
                           torch.zeros(4, dtype=torch.int64)])


def places(value, path=()):
    """The path of every value inside nested dictionaries and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def bent(draw, value, odd=ODD):
    """The same structure with up to three values replaced, removed or added."""
    value, odd = copy.deepcopy(value), odd.map(copy.deepcopy)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in places(value) if path] or [()]))
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        if not path or isinstance(inner, tuple):
            return draw(odd)
        kind = draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "replace":
            inner[path[-1]] = draw(odd)
        elif kind == "remove":
            del inner[path[-1]]
        elif isinstance(inner, dict):
            inner[draw(st.sampled_from(["extra", 7]))] = draw(odd)
        else:
            inner.append(draw(odd))
    return value


def in_one_line(work):
    """Run; what it raises must be for the user."""
    notices._seen.clear()
    try:
        work()
    except UsageError as error:
        assert str(error)
        assert "\n" not in str(error)


def small_run():
    model = create_model(train_options("--model", "pix2pix", "--dataroot", "x", "--pool_size", "2", "--ema", "0.9"))
    model.setup(model.opt)
    images = {domain: torch.zeros(1, 3, 64, 64) for domain in "AB"}
    model.set_input({**images, "A_paths": ["a"], "B_paths": ["b"]})
    model.optimize_parameters()
    Path(model.save_dir).mkdir(parents=True, exist_ok=True)
    saving.save_state(model, {"epoch": 1, "iters": 1, "total_iters": 1, "best": {"epoch": 1, "worse": 0},
                              "means": [(["G"], [[1.0], [1.0]])]})
    return model, torch.load(saving.state_file(model), weights_only=True)


RUN = {}


@fuzz(1500)
@given(st.data())
def test_states(data):
    if not RUN:
        RUN["model"], RUN["state"] = small_run()
    model, state = RUN["model"], data.draw(bent(RUN["state"], st.one_of(ODD, TENSORS)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("util.checkpoint.load", lambda path: state)
        notices._seen.clear()
        try:
            saving.resume(model)
        except UsageError as error:
            assert "\n" not in str(error)
            assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        else:
            model.optimize_parameters()  # which crashed the interpreter


def record():
    run_train_options = vars(train_options("--model", "cycle_gan", "--dataroot", "x", "--crop_size", "64x32"))
    return {"options": {key: value if isinstance(value, (bool, int, str, list)) else str(value)
                        for key, value in run_train_options.items()},
            "networks": {"G_A": {"input_nc": 3, "output_nc": 3, "ngf": 2, "netG": "unet_64", "norm": "batch",
                                 "no_dropout": False}}}


@fuzz(1500)
@given(st.data(), st.booleans())
def test_records(data, training):
    if "record" not in RUN:
        RUN["record"] = record()
    path = Path("checkpoints/r") / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data.draw(bent(RUN["record"]))))
    words = ["--continue_train"] if training else ["--dataroot", "y"]
    in_one_line(lambda: (TrainOptions if training else TestOptions)().parse(["--name", "r", "--device", "cpu", *words]))
    in_one_line(lambda: read_record("checkpoints", "r"))


@fuzz(1000)
@given(bent({"a/1": {"real": ["r.png", "r.tif"], "fake": ["f.png", "f.png"]}, "2": {"fake": ["x.png", "x.png"]}}))
def test_pictures(images):
    Path(PICTURES).write_text(json.dumps(images))
    in_one_line(lambda: read_pictures(Path()))


@fuzz(1000)
@given(bent({"model": "pix2pix", "lr": 0.1, "metrics": ["l1", "ssim"], "no_flip": True, "crop_size": 64}))
def test_configurations(config):
    Path("c.json").write_text(json.dumps(config))
    in_one_line(lambda: read_config("c.json"))
    in_one_line(lambda: TrainOptions().parse(["--config", "c.json", "--dataroot", "x", "--device", "cpu"]))


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml"])
def test_deep_files(name):
    Path(name).write_text("[" * 100000)
    with pytest.raises(UsageError, match=f"--config {name} is neither YAML nor JSON"):
        read_config(name)
    folder = Path("checkpoints/r")
    folder.mkdir(parents=True)
    (folder / RECORD).write_text('{"options": ' * 100000)
    with pytest.raises(UsageError, match="is damaged"):
        read_record("checkpoints", "r")


WEIGHTS = {"a.weight": torch.zeros(2), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize("state", [
    {f"{prefix}{key}": value for key, value in WEIGHTS.items()}
    for prefix in ("", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.module.")
] + [{key: WEIGHTS} for key in ("state_dict", "model", "generator")] + [{"epoch": 3, "model": {"state_dict": WEIGHTS}}])
def test_weights_of_other_tools(state):
    assert clean_state_dict(state).keys() == WEIGHTS.keys()


@pytest.mark.parametrize(("state", "message"), [
    ({1: torch.zeros(2)}, "is not the state_dict of one network"), (torch.zeros(2), "is not the state_dict"),
    ({"a": torch.tensor([1.0, torch.inf])}, r"has weights that are not finite \(a\); take an earlier checkpoint")])
def test_weights_that_are_none(state, message):
    with pytest.raises(UsageError, match=message):
        clean_state_dict(state)


def test_a_state_of_a_newer_version_does_not_fit(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    path = Path("checkpoints/experiment_name/latest_state.pth")
    state = torch.load(path, weights_only=True)
    state["progress"]["phase_of_the_moon"] = 1
    torch.save(state, path)
    with pytest.raises(UsageError, match="does not fit this model"):
        run_train("--continue_train", "--name", "experiment_name", "--n_epochs", "2")


LOOP: dict = {}
LOOP["state_dict"] = LOOP


@pytest.mark.parametrize("value", [
    torch.zeros(4).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(1).expand(10 ** 13),
    torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)])
def test_tensors_that_are_not_all_there(value):
    for state in ({"a": value}, LOOP):
        with pytest.raises(UsageError, match="is not the state_dict of one network"):
            clean_state_dict(state)


def test_weights_of_another_kind_do_not_fit():
    net = torch.nn.Linear(2, 1)
    for dtype in (torch.complex64, torch.bool):
        with pytest.raises(UsageError, match="does not fit the network"):
            saving.load_network(net, {key: value.to(dtype) for key, value in net.state_dict().items()}, "x")


@pytest.mark.parametrize(("key", "value"), [("averaged", -5), ("averaged", "7"), ("metric", "x"), ("metric", None)])
def test_numbers_of_a_state(key, value):
    model, state = small_run()
    state[key] = value
    with pytest.raises(ValueError, match="its metric, or its number of steps, is no number"):
        check_state(model, state, Path("x"))


def test_schedulers_of_a_state(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--lr_policy", "plateau")
    path = Path("checkpoints/experiment_name/latest_state.pth")
    state = torch.load(path, weights_only=True)
    for key in ("threshold", "last_epoch", "patience", "mode", "threshold_mode", "best"):
        bent_state = copy.deepcopy(state)
        bent_state["schedulers"][0][key] = [1]
        torch.save(bent_state, path)
        with pytest.raises(UsageError, match=f"does not fit this model .a scheduler's {key} is list"):
            run_train("--continue_train", "--name", "experiment_name", "--n_epochs", "2")


@pytest.mark.parametrize("line", ['"learning_rate": "x"', f'"learning_rate": {"9" * 400}', '"note": 3'])
def test_lines_of_a_log_that_are_no_points(line):
    assert parse('{"epoch": 1, "iters": 1, "losses": {}, ' + line + "}") is None
    assert parse('{"epoch": 1, "iters": 1, "losses": {}, "learning_rate": 0.1, "note": "x"}') is not None


@pytest.mark.parametrize("content", [{"a": {"fake": ["\0", "x"]}}, {"a": {"fake": ["\ud800.png", "x"]}}, {"a": None}])
def test_a_list_of_an_earlier_test_ends_no_test(strips, content, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    folder = Path("results/experiment_name/test_latest")
    folder.mkdir(parents=True)
    (folder / PICTURES).write_text(json.dumps(content))
    assert run_test("--dataroot", f"{strips}/test") == 0
    assert (folder / "index.html").exists()
    assert "notice: " in capsys.readouterr().err


@pytest.mark.parametrize("figure", [{"value": "x"}, {"low": None}, {"n": []}])
def test_figures_that_are_no_numbers(figure):
    content = {"figures": {"fake_B/l1": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 3, **figure}}}
    Path("metrics.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"metrics.json is damaged \(a figure is no number\)"):
        read_figures(".")


def test_numbers_that_no_network_has():
    with pytest.raises(UsageError, match="is not a whole number from 1"):
        train_options("--model", "pix2pix", "--dataroot", "x", "--ngf", str(10 ** 30))


def test_an_optimizer_without_a_name(strips):
    model, state = small_run()
    state["optimizers"][7] = []
    with pytest.raises(TypeError, match="a network or optimizer in it has no name"):
        check_state(model, state, Path("x"))
