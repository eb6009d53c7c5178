"""A run received from a stranger runs none of its code, changes no file outside, and crashes nothing."""

import json
import os
from pathlib import Path

import pytest
from conftest import run_on, run_test, run_train

from options.test_options import TestOptions
from options.train_options import TrainOptions
from util import notices
from util.errors import UsageError

RUN = Path("checkpoints/experiment_name")
EVIL = "open('stolen', 'w').close()\n"
PLUGIN = """
from models.pix2pix_model import Pix2PixModel
class {}Model(Pix2PixModel):
    pass
"""


def received(strips, monkeypatch, **options):
    """A run of pix2pix from another user, whose record says these options."""
    run_train("--model", "pix2pix", "--dataroot", strips)
    record = json.loads((RUN / "train_opt.json").read_text())
    record["options"] |= options
    (RUN / "train_opt.json").write_text(json.dumps(record))
    notices._seen.clear()


def folder(name, **files):
    Path(name).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (Path(name) / f"{file}.py").write_text(text)
    return name


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("file", ["pix2pix_model", "evil_model", "aligned_dataset", "l1_metric"])
def test_a_recorded_plugin_folder_is_not_imported(strips, monkeypatch, capsys, absolute, file):
    place = folder(str(RUN / "plugins"), **{file: EVIL})
    place = os.path.abspath(place) if absolute else place
    model = "evil" if file == "evil_model" else "pix2pix"
    received(strips, monkeypatch, plugin_dir=place, model=model)
    folder(str(RUN / "plugins"), **{file: EVIL})
    with pytest.raises(UsageError, match=f"which you have not trained with before; --plugin_dir {place} runs it"):
        run_on("--n_epochs", "2")
    assert run_test("--dataroot", f"{strips}/test") == 0
    assert f"--plugin_dir {place} runs it" in capsys.readouterr().err
    assert not Path("stolen").exists()


def test_a_recorded_module_is_not_imported(strips, monkeypatch, capsys):
    monkeypatch.syspath_prepend(".")
    Path("evil_module.py").write_text(EVIL + PLUGIN.format("Evil"))
    received(strips, monkeypatch, model="evil_module:EvilModel")
    with pytest.raises(UsageError, match="--model evil_module:EvilModel runs it"):
        run_on("--n_epochs", "2")
    assert run_test("--dataroot", f"{strips}/test") == 0
    assert not Path("stolen").exists()
    received(strips, monkeypatch, dataset_mode="evil_module:EvilDataset")
    with pytest.raises(UsageError, match="--dataset_mode evil_module:EvilDataset runs it"):
        run_on("--n_epochs", "2")
    assert not Path("stolen").exists()


def test_nobodys_own_run_has_to_be_told_twice(strips, capsys, monkeypatch):
    folder("mine", my_model=PLUGIN.format("My"))
    run_train("--model", "my", "--plugin_dir", "mine", "--dataroot", strips)
    run_on("--n_epochs", "2")
    assert run_test("--dataroot", f"{strips}/test") == 0
    err = capsys.readouterr().err
    assert "trained with before" not in err
    assert "has changed since" not in err
    with open("mine/my_model.py", "a", encoding="utf-8") as file:
        file.write("\n# another line\n")
    notices._seen.clear()
    TestOptions().parse(["--name", "experiment_name", "--dataroot", strips])
    assert "mine/my_model.py has changed since this user last trained with it" in capsys.readouterr().err
    monkeypatch.setenv("XDG_DATA_HOME", "other_user")
    with pytest.raises(UsageError, match="which you have not trained with before"):
        TrainOptions().parse(["--name", "experiment_name", "--continue_train"])
    assert TrainOptions().parse(["--name", "experiment_name", "--continue_train", "--plugin_dir", "mine"]).model == "my"


def test_a_home_that_cannot_be_written_stops_nothing(strips, capsys, monkeypatch):
    Path("file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", "file")
    folder("mine", my_model=PLUGIN.format("My"))
    run_train("--model", "my", "--plugin_dir", "mine", "--dataroot", strips)
    assert "trusted_plugins.json can't be written" in capsys.readouterr().err


def test_recorded_networks_set_no_option_but_their_own(strips, monkeypatch):
    received(strips, monkeypatch)
    record = json.loads((RUN / "train_opt.json").read_text())
    record["networks"]["G"] |= {"results_dir": "/elsewhere", "plugin_dir": "/", "metric_weights": "x"}
    (RUN / "train_opt.json").write_text(json.dumps(record))
    opt = TestOptions().parse(["--name", "experiment_name", "--dataroot", strips])
    assert (opt.results_dir, opt.plugin_dir, opt.metric_weights) == ("./results/", None, None)
    assert (opt.ngf, opt.netG) == (2, "unet_64")


def test_a_suffix_hides_no_code(strips, monkeypatch, capsys):
    monkeypatch.syspath_prepend(".")
    Path("evil_module.py").write_text(EVIL)
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "a_x")
    path = Path("checkpoints/a_x/train_opt.json")
    record = json.loads(path.read_text())
    record["options"]["dataset_mode"] = "evil_module:Evil"
    path.write_text(json.dumps(record))
    argv = ["--name", "a", "--suffix", "x", "--model", "pix2pix", "--dataroot", str(strips)]
    with pytest.raises(UsageError, match="--dataset_mode evil_module:Evil runs it"):
        TrainOptions().parse([*argv, "--continue_train"])
    assert TestOptions().parse(argv).dataset_mode == "aligned"
    assert not Path("stolen").exists()


def test_another_file_of_a_trusted_name_is_not_trusted(strips, monkeypatch):
    folder("one", lab=PLUGIN.format("My"))
    monkeypatch.syspath_prepend("one")
    run_train("--model", "lab:MyModel", "--dataset_mode", "aligned", "--dataroot", strips)
    words = ["--name", "experiment_name", "--continue_train"]
    assert TrainOptions().parse(words).model == "lab:MyModel"
    folder("two", lab=EVIL + PLUGIN.format("My"))
    monkeypatch.syspath_prepend("two")
    with pytest.raises(UsageError, match="which you have not trained with before"):
        TrainOptions().parse(words)
    assert not Path("stolen").exists()


@pytest.mark.parametrize("name", [".lock", "loss_log.txt", "web"])
def test_links_in_a_received_run_are_not_followed(strips, name):
    run_train("--model", "pix2pix", "--dataroot", strips)
    place = Path("mine")
    place.mkdir() if name == "web" else place.write_text("precious\n")
    here = RUN / name
    here.unlink(missing_ok=True) if name != "web" else here.rename("elsewhere")
    here.symlink_to(place.resolve())
    with pytest.raises(UsageError, match=f"{name} is a link, and training would write where it leads; remove it"):
        run_on("--n_epochs", "2")
    assert not list(place.iterdir()) if name == "web" else place.read_text() == "precious\n"
