"""Validation while training: it scores what test.py would write, disturbs nothing, and finds the best checkpoint."""

import json
import random
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import equal, model_file, picture, run_on, run_test, run_train, train_options, weights, write
from PIL import Image

from data import create_dataset, create_validation_dataset
from models import create_model
from models.base_model import BaseModel
from models.engine.ema import WeightAverage
from models.engine.saving import network_states, restore_state
from models.engine.state import learning_rate, networks
from models.engine.validation import Followed, Validation, best_of, follow, undisturbed
from util.errors import UsageError
from util.metrics import pretrained
from util.metrics.scores import Figure
from util.sinks.log_file import read_curves

RUN = Path("checkpoints/experiment_name")


def figure(value):
    return Figure(value, value, value, 1)


@pytest.fixture
def with_val(strips, domains):
    """Both datasets have a validation set: what they are tested on."""
    shutil.copytree(f"{strips}/test", f"{strips}/val")
    for domain in "AB":
        shutil.copytree(f"{domains}/test{domain}", f"{domains}/val{domain}")
    return {"pix2pix": ("--model", "pix2pix", "--dataroot", strips),
            "cycle_gan": ("--model", "cycle_gan", "--dataroot", domains)}


@pytest.mark.parametrize("model", ("pix2pix", "cycle_gan"))
@pytest.mark.parametrize("more", ((), ("--ema", "0.5")))
def test_training_ends_with_the_same_bits_with_and_without_validation(with_val, model, more):
    """Dropout, batch norm's statistics, pools and the order of the images are not touched."""
    shared = (*with_val[model], "--n_epochs", 2, "--norm", "batch", *more)
    plain = weights(run_train(*shared, "--val_freq", 0, "--name", "plain"))
    validated = weights(run_train(*shared, "--val_freq", 1, "--name", "validated"))
    assert equal(plain, validated)
    assert not Path("checkpoints/plain/best_net_G.pth").exists()


@pytest.mark.parametrize("average", (False, True))
@pytest.mark.parametrize("norm", ("batch", "instance"))
def test_validation_says_what_test_says(with_val, norm, average):
    """One checkpoint, one image: U-Net with dropout, in another process, at another batch size."""
    shared = with_val["pix2pix"]
    run_train(*shared, "--val_freq", 1, "--norm", norm, *(("--ema", "0.9") if average else ()))
    logged = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()][-1]["metrics"]
    run_test(*shared, "--metrics", "auto", "--phase", "val", "--batch_size", 2, "--epoch", "best",
             *(("--ema",) if average else ()))
    tested = json.loads(Path("results/experiment_name/val_best/metrics.json").read_text())["figures"]
    assert logged == pytest.approx({key: value["value"] for key, value in tested.items()}, rel=1e-6)


@pytest.mark.parametrize("model", ("pix2pix", "cycle_gan"))
def test_the_pictures_of_a_training_are_those_of_a_test(with_val, model):
    """One checkpoint, one image, with dropout and batch norm, where a training neither flips nor crops."""
    shared = (*with_val[model], "--max_dataset_size", 1)
    run_train(*shared, "--load_size", 64, "--no_flip", "--norm", "batch", "--n_epochs", 2)
    run_test(*shared, "--phase", "train")
    for label in ("real_A", "fake_B"):
        shown, tested = (np.asarray(Image.open(path)) for path in (
            RUN / f"web/images/epoch002_{label}.png", f"results/experiment_name/train_latest/images/0_{label}.png"))
        assert np.array_equal(shown, tested)
    assert (RUN / "web/images/epoch002_idt_A.png").exists() == (model == "cycle_gan")  # which only a training makes


def test_a_model_that_cannot_be_tested_is_trained_and_shown(strips, capsys):
    body = "    def test(self):\n        raise AttributeError('netF is for tests')\n"
    run_train(*model_file("untestable", "Pix2Pix", body), "--dataroot", strips)
    told = capsys.readouterr().err
    assert "the model can't be tested, pictures are those of the last step: AttributeError, untestable_model.py" in told
    assert "netF is for tests" in told
    assert (RUN / "web/images/epoch001_fake_B.png").exists()


def test_a_visual_that_is_no_picture_is_left_out(strips, capsys):
    body = "    def forward(self):\n        super().forward()\n        self.code = self.fake_B.mean((2, 3))\n" \
           "        self.visual_names = ['fake_B', 'code']\n"
    run_train(*model_file("vis", "Pix2Pix", body), "--dataroot", strips)
    assert "visual code can't be shown" in capsys.readouterr().err
    assert (RUN / "web/images/epoch001_fake_B.png").exists()


def test_everything_of_the_model_and_the_generators_is_restored():
    model = create_model(train_options("--model", "pix2pix", "--dataroot", "x"))
    model.real_A = kept = torch.zeros(1)
    states = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with undisturbed(model):
        model.real_A, model.fake_B, model.isTrain = torch.ones(1), torch.ones(1), False
        random.random(), np.random.rand(), torch.rand(1)
    assert model.real_A is kept
    assert model.isTrain
    assert not hasattr(model, "fake_B")
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected != states


@pytest.mark.parametrize(("options", "epochs"), (((), [3]), (("--val_freq", 2), [2, 3]), (("--val_freq", 0), [])))
def test_every_so_many_epochs_and_at_the_end(with_val, options, epochs):
    run_train(*with_val["pix2pix"], "--n_epochs", 3, "--metrics", "l1", *options)
    points = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()]
    assert [point["epoch"] for point in points if "metrics" in point] == epochs
    assert (RUN / "best_net_G.pth").exists() == bool(epochs)


def test_no_data_to_validate_on_is_one_line(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    line, = [line for line in capsys.readouterr().out.splitlines() if line.startswith("no validation")]
    assert "needs val/" in line
    assert "--val_split" in line


@pytest.mark.parametrize("mode", ("pix2pix", "cycle_gan"))
def test_a_share_is_held_out(tmp_path, mode):
    for i in range(10):
        write(tmp_path / "data/trainA" / f"{i}.png", picture(seed=i))
        write(tmp_path / "data/trainB" / f"{i}.jpg", picture(seed=i))
    opt = train_options("--model", mode, "--dataroot", "data", "--val_split", 0.3)
    training = create_dataset(opt)
    loaders = training, create_validation_dataset(opt, training.dataset)
    stems = [{(key, Path(batch[f"{key}_paths"][0]).stem) for batch in loader for key in "AB"} for loader in loaders]
    assert len(loaders[1]) == 3
    assert not stems[0] & stems[1]
    assert len({stem for key, stem in stems[1] if key == "A"}) == 3
    if mode == "pix2pix":
        assert {stem for key, stem in stems[1] if key == "A"} == {stem for key, stem in stems[1] if key == "B"}
    with pytest.raises(UsageError, match="leaves none to train on"):
        create_dataset(train_options("--model", mode, "--dataroot", "data", "--val_split", 0.99))


def test_the_followed_figure():
    pairs = {"fake_B/l1": 0.3, "fake_B/psnr": 20, "rec_A/l1": 0.1, "fake_B/swd": 9}
    unpaired = {"fake_B/swd": 4, "fake_A/swd": 8, "rec_A/l1": 0.1, "rec_B/l1": 0.3}
    assert follow(pairs, "auto") == Followed("l1", 0.3, False)
    assert follow(pairs, "fake_B/psnr") == Followed("fake_B/psnr", 20, True)
    assert follow(unpaired, "auto") == Followed("swd", 6, False)
    assert follow(unpaired, "l1") == Followed("l1", 0.2, False)  # the cycle error
    assert follow({**unpaired, "fake_B/kid": 0.02}, "auto").name == "kid"
    assert follow(unpaired, "fid") is None
    assert follow({"rec_A/l1": 0.1}, "auto") is None  # too few images for the others
    assert follow({"mean/l1": 0.1, "fake_B/swd": 3}, "auto").name == "l1"  # an output of a model's own


@pytest.mark.parametrize(("higher", "curve", "best", "worse"), (
    (False, [5, 3, 4, 3, 6], [1, 2, 2, 2, 2], 3), (True, [5, 3, 4, 3, 6], [1, 1, 1, 1, 5], 0)))
def test_the_best_of_a_curve(higher, curve, best, worse):
    state, found = {}, []
    for epoch, value in enumerate(curve, start=1):
        state, better = best_of(state, Followed("x", value, higher), epoch)
        found.append(state["epoch"])
        assert better == (state["epoch"] == epoch)
    assert found == best
    assert state["worse"] == worse
    assert best_of(state, Followed("y", 100, False), 9) == ({"name": "y", "value": 100, "epoch": 9, "worse": 0}, True)


def test_what_is_no_number_is_never_the_best():
    state, found = {}, []
    for epoch, value in enumerate((float("nan"), 3, float("nan"), 4, 2), start=1):
        state, better = best_of(state, Followed("x", value, False), epoch)
        found.append((state["epoch"], better, state["worse"]))
    assert found == [(0, False, 1), (2, True, 0), (2, False, 1), (2, False, 2), (5, True, 0)]


def curve(monkeypatch, values):
    """Validations give these values of l1."""
    values = iter(values)
    monkeypatch.setattr(Validation, "__call__", lambda self, each: {"fake_B/l1": figure(next(values))})


def test_the_best_checkpoint_is_that_of_its_epoch_and_patience_stops(with_val, monkeypatch, capsys):
    curve(monkeypatch, [0.5, 0.3, 0.4, 0.35, 0.2, 0.1])
    shared = (*with_val["pix2pix"], "--n_epochs", 6, "--val_freq", 1, "--patience", 2, "--save_epoch_freq", 1)
    run_train(*shared)
    assert "no better validation 2 times (--patience): training stops" in capsys.readouterr().out
    best, second, fourth = (torch.load(RUN / f"{tag}_net_G.pth", weights_only=True) for tag in ("best", 2, 4))
    assert equal(best.values(), second.values())
    assert not equal(best.values(), fourth.values())
    assert not (RUN / "5_net_G.pth").exists()
    curves = read_curves(RUN)
    assert curves.best == 2
    assert curves.series["fake_B/l1"] == ([1, 2, 3, 4], [0.5, 0.3, 0.4, 0.35])
    assert (RUN / "web/index.html").read_text().count("&quot;best&quot;: 2") == len(curves.series)
    run_on()
    assert "stopped early, its best epoch is 2" in capsys.readouterr().out
    run_on("--patience", "9")  # goes on with what is known about the best
    assert read_curves(RUN).best == 6


def test_a_resumed_run_keeps_the_best(with_val, monkeypatch):
    curve(monkeypatch, [0.3, 0.4, 0.35])
    run_train(*with_val["pix2pix"], "--n_epochs", 1, "--val_freq", 1)
    first = (RUN / "best_net_G.pth").read_bytes()
    run_on("--n_epochs", "3")
    assert (RUN / "best_net_G.pth").read_bytes() == first


def test_plateau_follows_the_figure_and_waits_between_validations(with_val, monkeypatch):
    """Seven validations without a better one, every second epoch: the rate falls at the last."""
    curve(monkeypatch, [0.5] * 7)
    shared = (*with_val["pix2pix"], "--lr_policy", "plateau", "--val_freq", 2, "--max_dataset_size", 1)
    assert learning_rate(run_train(*shared, "--n_epochs", 12)) == pytest.approx(0.0002)
    run_on("--n_epochs", "14")
    assert learning_rate(run_on("--n_epochs", "15", "--val_freq", "0")) == pytest.approx(0.00004)


def test_plateau_follows_the_losses_where_nothing_is_scored(with_val, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.optim.lr_scheduler.ReduceLROnPlateau, "step", lambda self, metric: seen.append(metric))
    run_train(*with_val["pix2pix"], "--lr_policy", "plateau", "--val_freq", 1, "--n_epochs", 2, "--best_metric", "x/l1")
    assert len(seen) == 4  # two optimizers
    assert all(value > 1 for value in seen)


@pytest.mark.parametrize(("higher", "values"), (
    (True, [10, 20, 30]), (True, [0.1, 0.5, 0.9]), (False, [0.9, 0.5, 0.1])))
def test_plateau_sees_better_as_smaller(higher, values):
    costs = [Followed("x", value, higher).cost for value in values]
    assert costs == sorted(costs, reverse=True)
    assert min(costs) > 0


def test_the_average_follows_its_definition():
    net = torch.nn.Linear(2, 1)
    average = WeightAverage({"G": net, "D": torch.nn.Linear(1, 1)}, 0.5)
    assert average.names == ["G"]
    expected = None
    for step, value in enumerate((1.0, 3.0, -2.0)):
        with torch.no_grad():
            net.weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step)) if step else 0
        expected = value if expected is None else decay * expected + (1 - decay) * value
    place = net.weight.data_ptr()
    with average.in_place():
        assert net.weight[0].tolist() == pytest.approx([expected] * 2)
        assert net.weight.data_ptr() == place
    assert net.weight[0].tolist() == [-2.0, -2.0]


def test_the_average_is_saved_resumed_and_tested(with_val, capsys):
    shared = (*with_val["pix2pix"], "--ema", 0.9, "--norm", "batch")
    whole = weights(run_train(*shared, "--n_epochs", 2, "--name", "whole"))
    run_train(*shared)
    assert equal(whole, weights(run_on("--n_epochs", "2")))
    for tag in ("latest", "best"):
        files = [torch.load(Path("checkpoints") / run / f"{tag}_net_G_ema.pth", weights_only=True)
                 for run in ("whole", "experiment_name")]
        assert equal(files[0].values(), files[1].values())
    raw = torch.load(RUN / "latest_net_G.pth", weights_only=True)
    assert raw.keys() == files[0].keys()
    assert not equal(raw.values(), files[0].values())
    assert not (RUN / "latest_net_D_ema.pth").exists()
    run_test(*with_val["pix2pix"], "--ema")
    assert "loaded checkpoints/experiment_name/latest_net_G_ema.pth" in capsys.readouterr().out


def test_without_the_average_no_older_one_stays(with_val):
    run_train(*with_val["pix2pix"], "--ema", 0.9)
    assert (RUN / "latest_net_G_ema.pth").exists()
    run_on("--n_epochs", "2", "--ema", "0")
    assert not (RUN / "latest_net_G_ema.pth").exists()
    assert (RUN / "1_net_G_ema.pth").exists()  # beside the weights that it is the average of
    run_on("--n_epochs", "3", "--ema", "0.9")
    assert (RUN / "latest_net_G_ema.pth").exists()


def test_the_average_starts_from_the_weights_that_are_loaded(with_val, monkeypatch):
    """From a state without one, and from networks alone, whose first save is before the first step."""
    model = run_train(*with_val["pix2pix"])
    model._engine.average = WeightAverage(networks(model), 0.9)
    model._engine.average.steps = 7
    with torch.no_grad():
        model.netG.model.model[0].weight.fill_(torch.nan)
    restore_state(model)
    state = network_states(model)
    assert equal(state["G"].values(), state["G_ema"].values())
    assert model._engine.average.steps == 0

    (RUN / "latest_state.pth").unlink()
    saved = []
    monkeypatch.setattr(BaseModel, "save_networks", lambda self, tag: saved.append(deepcopy(network_states(self))))
    run_on("--lr", "0", "--ema", "0.9", "--epoch_count", "2", "--n_epochs", "2")
    assert equal(saved[0]["G"].values(), saved[0]["G_ema"].values())


def test_a_model_without_generators_has_no_average():
    with pytest.raises(UsageError, match="networks called G...; this model has D"):
        WeightAverage({"D": torch.nn.Linear(1, 1)}, 0.9)


def test_a_model_says_what_is_scored(with_val):
    body = "    def translations(self):\n        return {'mean': (self.fake_B.mean((2, 3), True), None),\n" \
           "                'fake_B': (self.fake_B, self.real_B)}\n"
    run_train(*model_file("other", "Pix2Pix", body), *with_val["pix2pix"][2:], "--metrics", "l1,colours")
    points = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()]
    assert points[-1]["metrics"].keys() == {"fake_B/l1", "fake_B/colours"}


def test_without_a_figure_best_is_off_and_says_so(with_val, capsys):
    run_train(*with_val["cycle_gan"], "--metrics", "l1", "--best_metric", "fake_B/psnr", "--patience", 1)
    assert "--best_metric fake_B/psnr has no figure here (rec_A/l1, rec_A/psnr" in (told := capsys.readouterr().err)
    assert "--patience stops nothing" in told
    assert not list(RUN.glob("best_*"))


def test_the_metric_that_is_followed_is_computed(with_val, monkeypatch):
    run_train(*with_val["pix2pix"], "--metrics", "l1", "--best_metric", "ssim")
    assert (RUN / "best_net_G.pth").exists()
    monkeypatch.setitem(pretrained.NETWORKS, "lpips", pretrained.Pretrained("w.pth", "no_such_library", None))
    with pytest.raises(UsageError, match="--best_metric lpips can't be followed"):
        run_train(*with_val["pix2pix"], "--best_metric", "lpips")


def test_patience_needs_images_to_validate_on(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    with pytest.raises(UsageError, match="--patience counts validations, and there are none"):
        run_train("--model", "pix2pix", "--dataroot", strips, "--patience", 1)
    assert (RUN / "latest_net_G.pth").exists()  # what is refused moves no earlier run aside


OLD_DATASET = """
import os
from data.base_dataset import BaseDataset, get_transform
from data.image_folder import make_dataset
from PIL import Image

class OldDataset(BaseDataset):
    def __init__(self, opt):
        BaseDataset.__init__(self, opt)
        folder = os.path.join(opt.dataroot, {folder})
        assert os.path.isdir(folder), f"{{folder}} is not a valid directory"
        self.files = sorted(make_dataset(folder))
    def __getitem__(self, i):
        image = get_transform(self.opt)(Image.open(self.files[i]).convert("RGB"))
        return {{"A": image, "B": image{paths}}}
    def __len__(self):
        return len(self.files)
"""


@pytest.mark.parametrize(("folder", "paths", "told"), (
    ("opt.phase + 'A'", True, "no validation: domains/valA is not a valid directory; --val_split 0.1"),
    ("'trainA'", True, "no validation: --dataset_mode old finds only the images of the training"),
    ("'trainA'", False, "no validation: its samples do not name their files (A_paths)"),
    ("opt.phase.replace('val', 'test') + 'A'", True, "validation of epoch 1: ")))
def test_datasets_of_the_reference_are_validated_on_where_that_can_be(domains, capsys, folder, paths, told):
    names = ", 'A_paths': self.files[i], 'B_paths': self.files[i]" if paths else ""
    Path("old_dataset.py").write_text(OLD_DATASET.format(folder=folder, paths=names))
    body = "    def set_input(self, batch):\n        self.real_A, self.real_B = batch['A'], batch['B']\n"
    run_train(*model_file("mine", "Pix2Pix", body), "--dataset_mode", "old", "--dataroot", domains)
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("more", (("--val_freq", "0"), ("--metrics", "")))
def test_patience_needs_validations(more):
    with pytest.raises(UsageError, match="--patience counts validations, and .* turns them off"):
        train_options("--dataroot", "x", "--patience", "2", *more)


def test_a_run_stopped_while_it_validates_loses_nothing(with_val, monkeypatch):
    from util.errors import Stopped

    def stopped(self, each):
        raise Stopped(15)

    shared = (*with_val["pix2pix"], "--n_epochs", 2, "--val_freq", 1)
    whole = weights(run_train(*shared, "--name", "whole"))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Validation, "__call__", stopped)
        run_train(*shared)
    assert equal(whole, weights(run_on()))
    assert [point["epoch"] for point in map(json.loads, (RUN / "loss_log.jsonl").read_text().splitlines())
            if "metrics" in point] == [1, 2]
