"""Plugins: native, classic as they are, out of the tree, named by a path; and errors that say what is wrong."""

import json
import multiprocessing
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_on, run_test, run_train, train_options

from models import find_model_using_name
from models.engine.state import optimizers
from util.errors import UsageError

PLUGINS = str(ROOT / "tests" / "plugins")
RUN = Path("checkpoints/experiment_name")


def test_a_classic_plugin_trains_tests_saves_and_resumes_unmodified(strips):
    argv = ("--model", "classic", "--plugin_dir", PLUGINS, "--dataroot", strips, "--num_threads", "2")
    model = run_train(*argv, "--lambda_edge", "3", "--pool_size", "2")
    assert {path.name for path in RUN.glob("latest*")} == {"latest_net_D.pth", "latest_net_G.pth", "latest_state.pth"}
    points = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()]
    assert list(points[0]["losses"]) == ["G_GAN", "G_edge", "D", "pool"]
    assert points[0]["losses"]["pool"] == 2
    assert (RUN / "web/images/epoch001_overlay.png").exists()
    assert list(optimizers(model)) == ["optimizer_G", "optimizer_D"]
    assert run_test("--model", "classic", "--dataroot", strips) == 0  # its folder and its dataset are recorded
    images = Path("results/experiment_name/test_latest/images")
    assert {path.name for path in images.iterdir()} == {
        f"{i}_{label}.png" for i in range(2) for label in ("real_A", "fake_B", "real_B", "overlay")
    }
    with pytest.raises(UsageError, match="overlay .* is one picture for a whole batch; use --batch_size 1"):
        run_test("--model", "classic", "--dataroot", strips, "--batch_size", "2")
    resumed = run_on("--n_epochs", "2")
    assert resumed.opt.lambda_edge == 3
    assert resumed.optimizer_G.state[resumed.netG.parameters().__next__()]["step"] == 6
    assert run_test("--dataroot", f"{strips}/test") == 0  # one-sided


@pytest.fixture
def sharp(tmp_path):
    """The model of docs/model_plugin.md, as a file in `my_plugins`."""
    page = (ROOT / "docs" / "model_plugin.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.S)[1]
    assert len(code.splitlines()) < 60
    (tmp_path / "my_plugins").mkdir()
    (tmp_path / "my_plugins" / "sharp_model.py").write_text(code)
    return tmp_path / "my_plugins" / "sharp_model.py"


def test_a_native_plugin_with_its_own_network_option_and_loss(strips, sharp):
    argv = ("--model", "sharp", "--plugin_dir", "my_plugins", "--dataroot", strips, "--netG", "shallow")
    run_train(*argv, "--lambda_sharp", "7")
    points = [json.loads(line) for line in (RUN / "loss_log.jsonl").read_text().splitlines()]
    assert points[0]["losses"]["G_sharp"] > 0
    assert run_test("--dataroot", f"{strips}/test") == 0  # --model test builds the registered network of its file
    assert run_test("--model", "sharp", "--dataroot", strips) == 0


def test_a_plugin_named_by_its_path(strips, sharp, tmp_path, monkeypatch):
    package = tmp_path / "lab" / "my_lab"
    package.mkdir(parents=True)
    shutil.copy(sharp, package / "sharp.py")
    monkeypatch.syspath_prepend(str(tmp_path / "lab"))
    run_train("--model", "my_lab.sharp:SharpModel", "--dataroot", strips, "--netG", "shallow")
    assert run_test("--model", "my_lab.sharp:SharpModel", "--dataroot", strips) == 0
    for wrong in ("my_lab.sharp:Shallow", "my_lab.sharp:Nothing"):
        with pytest.raises(UsageError, match="is not a subclass of BaseModel; write package.module:Class"):
            find_model_using_name(wrong)
    sys.modules.pop("my_lab.sharp")


@pytest.mark.slow
def test_a_plugin_file_in_the_tree_is_found(sharp, tmp_path):
    """As after dropping it in: a copy of the tree with one more file."""
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".git", "tests", "checkpoints", "results", "datasets", "docs")
    )
    shutil.copy(sharp, tree / "models")
    done = subprocess.run(
        [sys.executable, "train.py", "--help", "--model", "sharp"], cwd=tree, capture_output=True, text=True
    )
    assert "--lambda_sharp" in done.stdout
    assert "sharp" in done.stdout.split("--model", 2)[1]


def load_in_a_spawned_process(payload, queue):
    queue.put(type(payload[(1, 0)].value["A"]).__name__)


@pytest.mark.slow
def test_spawned_workers_find_plugins(strips):
    from data import create_dataset

    opt = train_options("--model", "classic", "--plugin_dir", PLUGINS, "--dataroot", strips)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=load_in_a_spawned_process, args=(create_dataset(opt).workers.samples, queue))
    process.start()
    assert queue.get(timeout=120) == "Tensor"
    process.join()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "must define one subclass of BaseModel.*found: none"),
        ("from models.template_model import TemplateModel as T\nclass A(T): pass\nclass B(T): pass\n", "found: A, B"),
    ],
)
def test_a_file_that_leaves_open_which_class(tmp_path, code, message):
    (tmp_path / "open_model.py").write_text(code)
    with pytest.raises(UsageError, match=message):
        train_options("--model", "open", "--plugin_dir", ".", "--dataroot", "x")


def test_of_several_classes_the_one_called_like_the_file(tmp_path):
    (tmp_path / "two_part_model.py").write_text(
        "from models.template_model import TemplateModel as T\nclass Helper(T): pass\nclass TwoPartModel(T): pass\n"
    )
    train_options("--model", "two_part", "--plugin_dir", ".", "--dataroot", "x")
    assert find_model_using_name("two_part").__name__ == "TwoPartModel"


def test_a_subclass_with_a_step_that_is_never_called_is_refused(tmp_path):
    (tmp_path / "lost_model.py").write_text(
        "from models.cycle_gan_model import CycleGANModel\n"
        "class LostModel(CycleGANModel):\n    def backward_G(self): pass\n"
    )
    with pytest.raises(UsageError, match="LostModel overrides backward_G, which CycleGANModel does not have"):
        train_options("--model", "lost", "--plugin_dir", ".", "--dataroot", "x")


def test_what_classic_files_import():
    import util.util as util
    from data.base_dataset import BaseDataset, get_params, get_transform
    from data.image_folder import make_dataset
    from models import networks

    for name in (
        "define_G",
        "define_D",
        "GANLoss",
        "init_net",
        "init_weights",
        "get_norm_layer",
        "get_scheduler",
        "cal_gradient_penalty",
        "Identity",
        "ResnetGenerator",
        "ResnetBlock",
        "UnetGenerator",
        "UnetSkipConnectionBlock",
        "NLayerDiscriminator",
        "PixelDiscriminator",
    ):
        assert hasattr(networks, name), name
    for name in ("tensor2im", "save_image", "mkdirs", "mkdir"):
        assert hasattr(util, name), name
    assert callable(BaseDataset) and callable(get_params) and callable(get_transform) and callable(make_dataset)
    net = networks.init_net(networks.UnetGenerator(3, 3, 5, 2), "normal", 0.02, [])
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    util.mkdirs(["a/b", "c"])
    assert Path("a/b").is_dir()
