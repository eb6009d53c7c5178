"""What the documentation tells people to do, done."""

import os
import re
import shlex
from pathlib import Path

import pytest
import torch
from conftest import ROOT, cli, picture, run_test, run_train, train_options, write

from data import create_dataset
from data.transforms import trained_size
from models import create_model
from models.engine.state import networks
from networks.architecture import describe
from networks.layers import check_size
from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.errors import UsageError

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


def test_the_classic_model_of_the_page_trains_and_translates(strips):
    classic = next(block for block in code("model_plugin.md") if "from .base_model import" in block)
    Path("my_plugins").mkdir()
    Path("my_plugins/listed_model.py").write_text(classic)
    run_train("--model", "listed", "--plugin_dir", "my_plugins", "--dataroot", strips)
    assert "G_pixel" in Path("checkpoints/experiment_name/loss_log.txt").read_text()
    assert run_test("--dataroot", f"{strips}/test") == 0


@pytest.mark.slow
def test_the_sweep_of_the_page_trains_twice(tmp_path, monkeypatch):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    text = next(block for block in code("model_plugin.md") if "import train" in block)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("sweep.py").write_text(text.replace('"--name"', '"--max_dataset_size", "2", "--name"'))
    done = cli("-c", "exec(open('sweep.py').read())")
    assert done.returncode == 0, done.stderr
    assert all(Path(f"checkpoints/lr_{lr}/latest_net_G.pth").exists() for lr in ("0.0002", "0.0005"))


def test_the_norm_of_the_page_trains_and_translates(strips):
    Path("my_plugins").mkdir()
    Path("my_plugins/grouped_model.py").write_text(next(b for b in code("model_plugin.md") if "group_norm" in b))
    run_train("--model", "grouped", "--plugin_dir", "my_plugins", "--dataroot", strips, "--norm", "group", "--ngf", "4",
              "--ndf", "4")
    assert run_test("--dataroot", f"{strips}/test") == 0
    assert describe(torch.load("checkpoints/experiment_name/latest_net_G.pth", weights_only=True)) == {}


def test_the_dataset_of_the_page_is_the_template(tmp_path):
    assert code("dataset_plugin.md")[0] == (ROOT / "data" / "template_dataset.py").read_text()
    write(tmp_path / "photos/train/x.png", picture())
    opt = train_options("--model", "template", "--dataset_mode", "template", "--dataroot", "photos")
    sample = create_dataset(opt).dataset[0]
    assert (sample["A"] - sample["B"]).std().item() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def fits(opt):
    """Raises UsageError if the networks are made for other images, or for other options."""
    opt.reconstruction = ["l1"]                        # others may download weights
    if opt.model == "stargan":
        opt.attributes, opt.exclusive = ["blue", "red"], True  # which the dataset finds
    with torch.device("meta"):
        model = create_model(opt)
    for net in networks(model).values():
        if size := trained_size(opt):
            check_size(net, *size)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_parse(page, tmp_path):
    """Every `python train.py` and `python test.py` line is accepted by the parser, and its networks by the size."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    Path("my_plugins").mkdir()
    Path("my_plugins/sharp_model.py").write_text(code("model_plugin.md")[0])
    for script, arguments in re.findall(r"python (train|test)\.py ([^`\n#&]*)", page.read_text()):
        argv = [*shlex.split(arguments.replace("$again", "")), "--dataroot", "somewhere"]
        if "--help" in argv:
            continue
        try:
            opt = (TrainOptions() if script == "train" else TestOptions()).parse(argv)
            if script == "train" and not opt.continue_train:
                fits(opt)
        except UsageError as error:
            unknown = "no recorded run", "--instances needs them"  # which are recorded with a run
            assert any(word in str(error) for word in unknown), (arguments, error)


@pytest.mark.slow
def test_the_walk_through_works_on_small_data(tmp_path):
    """Every command of docs/first_own_data.md in order, with options that make it short."""
    pytest.importorskip("av")
    from test_film import write_video

    for first, phase, count in ((0, "train", 3), (1000, "val", 2), (2000, "test", 2)):
        for domain in "AB":
            for i in range(count):
                write(f"photos/{phase}{domain}/{i}.jpg", picture(80, 72, seed=first + 10 * i + ord(domain)))
    write_video("clip.mp4", count=5)
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "docs/first_own_data.md").read_text(), re.S | re.M)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("image-")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        small = ["--netG", "resnet_1blocks", "--ngf", "4", "--ndf", "4", "--n_epochs", "2", "--n_epochs_decay", "0",
                 "--display_id", "0", "--val_freq", "1"] if words[1] == "train" else []
        device = [] if words[1] == "check" else ["--device", "cpu"]
        done = cli("-m", "image_translation", *words[1:], *small, *device,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, (command, done.stderr)
    assert Path("results/mine/test_best/index.html").exists()
    assert sorted(path.name for path in Path("translated").glob("*.jpg")) == ["0.jpg", "1.jpg"]
    assert Path("film/clip.mp4").exists() and "clip.mp4" in Path("film/index.html").read_text()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    done = cli("-m", "mkdocs", "build", "--strict", "-q", "-f", ROOT / "mkdocs.yml", "-d", tmp_path / "site",
               env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = {path.name for path in (tmp_path / "site").glob("*.html")}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= pages
    assert "fonts.googleapis" not in (tmp_path / "site/index.html").read_text()


def test_every_recipe_is_made_of_options():
    for recipe in (ROOT / "docs").glob("*.yaml"):
        opt = TrainOptions().parse(["--config", str(recipe), "--dataroot", "somewhere"])
        assert opt.name.startswith("demo")
