"""The established options, the order of precedence, and plugins' ways with the parser."""

import json
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN, cli, run_train

from options.test_options import TestOptions
from options.train_options import TrainOptions
from util.device import pick_device
from util.errors import UsageError

OPTIONS = json.loads((GOLDEN / "options.json").read_text())
DELIBERATE = {"--num_test": "inf"}  # all images, not 50


@pytest.mark.parametrize("case", OPTIONS)
def test_established_names_defaults_and_types(case):
    script, _, model = case.split()
    options = TrainOptions() if script == "train.py" else TestOptions()
    opt = options.parse(["--dataroot", "somewhere", "--model", model])
    for name, fact in OPTIONS[case].items():
        if name in ("--dataroot", "--model"):
            continue
        expected = DELIBERATE.get(name, fact["default"])
        assert str(getattr(opt, name[2:])) == str(expected), name
        assert isinstance(getattr(opt, name[2:]), (bool, float, int, str)), name


def parse(*argv, train=True):
    return (TrainOptions() if train else TestOptions()).parse([*argv, "--dataroot", "somewhere"])


def test_command_line_over_config_over_dataset_over_model_over_base(tmp_path):
    assert parse("--model", "pix2pix").norm == "batch"  # model over base
    assert parse("--model", "colorization").input_nc == 1  # and its own
    Path("c.yaml").write_text(
        "norm: none\nlr: 2e-4\nno_flip: on\nno_dropout: off\nmodel: cycle_gan\ncrop_size: 128x64\n"
    )
    opt = parse("--config", "c.yaml")
    assert (opt.norm, opt.lr, opt.no_flip, opt.no_dropout, opt.crop_size) == ("none", 0.0002, True, False, (128, 64))
    assert parse("--config", "c.yaml", "--norm", "instance").norm == "instance"
    Path("c.json").write_text('{"n_epochs": 7, "no_html": true}')
    assert (parse("--config", "c.json").n_epochs, parse("--config", "c.json").no_html) == (7, True)


def test_a_dataset_overrides_its_model(tmp_path):
    Path("x_dataset.py").write_text(
        "from data.base_dataset import BaseDataset\n"
        "class XDataset(BaseDataset):\n"
        "    @staticmethod\n"
        "    def modify_commandline_options(parser, is_train):\n"
        "        opt, _ = parser.parse_known_args()\n"  # a bare call reads our command line, not pytest's
        "        parser.set_defaults(norm='none', ngf=opt.ndf)\n"
        "        return parser\n"
    )
    opt = parse("--model", "pix2pix", "--dataset_mode", "x", "--plugin_dir", ".", "--ndf", "5")
    assert (opt.norm, opt.ngf) == ("none", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lambda_l1: 3", "unknown option '--lambda_l1' for c.yaml. Did you mean '--lambda_L1'"),
        ("init_type: norml", "Unknown value for --init_type 'norml'. Did you mean 'normal'"),
        ("no_flip: maybe", "--no_flip is on or off, not 'maybe'"),
        ("- a list", "flat list"),
        ("a: [1", "neither YAML nor JSON"),
    ],
)
def test_config_errors(tmp_path, text, message):
    Path("c.yaml").write_text(text)
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse("--model", "pix2pix", "--config", "c.yaml")


def test_help_lists_the_models_own_options_and_every_choice(capsys):
    shown = help_of("cycle_gan", capsys)
    for word in ("--lambda_identity", "resnet_9blocks", "unet_1024", "syncbatch", "plateau", "colorization", "wgangp"):
        assert word in shown
    assert "--lambda_L1" not in shown
    shown = help_of("pix2pix", capsys)
    for option in ("lambda_L1", "init_from", "save_minutes", "keep", "grad_clip", "nan_patience", "max_bad_images",
                   "stall_minutes"):
        assert f"--{option} " in shown


def help_of(model, capsys):
    with pytest.raises(SystemExit):
        TrainOptions().parse(["--model", model, "--help"])
    return capsys.readouterr().out


def test_no_abbreviations():
    with pytest.raises(UsageError, match="unknown option '--lambda' for"):
        parse("--model", "pix2pix", "--lambda", "3")


def test_flags_of_files_can_be_turned_off(tmp_path):
    Path("c.yaml").write_text("no_flip: true\n")
    assert parse("--config", "c.yaml").no_flip is True
    assert parse("--config", "c.yaml", "--no_flip=false").no_flip is False
    assert parse("--model", "cycle_gan", "--no_dropout=off").no_dropout is False  # the model's default is on
    assert parse("--no_flip=off", "--no_flip").no_flip is True


@pytest.mark.slow
def test_help_lists_what_a_plugin_folder_adds(tmp_path):
    Path("foo_model.py").write_text(
        "from models.template_model import TemplateModel\nfrom networks import GENERATORS\n"
        "GENERATORS.register('mine')(object)\nclass FooModel(TemplateModel): pass\n"
    )
    shown = cli("train.py", "--plugin_dir", ".", "--model", "foo", "--help").stdout
    assert "dualgan, foo, masked, pix2pix" in " ".join(shown.split())
    assert "mine" in shown


def test_a_plugin_folder_that_is_gone_is_told(strips, tmp_path, capsys):
    Path("plugins").mkdir()
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "r", "--plugin_dir", "plugins")
    Path("plugins").rmdir()
    assert parse("--name", "r", train=False).plugin_dir is None
    assert "no longer exists" in capsys.readouterr().err


def test_suffix_and_seed():
    assert parse("--name", "a", "--suffix", "{model}_{ngf}", "--model", "pix2pix").name == "a_pix2pix_64"
    assert parse("--seed", "4").seed == 4
    assert parse().seed != parse().seed
    assert parse(train=False).seed == 0
    with pytest.raises(UsageError, match="nope"):
        parse("--suffix", "{nope}")


def test_older_spellings():
    assert pick_device("auto", "-1") == ([], torch.device("cpu"))
    opt = parse(
        "--gpu_ids",
        "-1",
        "--display_id",
        "0",
        "--display_server",
        "http://h",
        "--display_port",
        "1",
        "--display_env",
        "e",
        "--display_ncols",
        "2",
    )
    assert (opt.gpu_ids, opt.device.type, opt.display_id, opt.display_ncols) == ([], "cpu", 0, 2)
    for device in ("cuda:99", "tpu", "meta"):
        with pytest.raises(UsageError, match="--device"):
            pick_device(device, None)


def test_an_option_of_the_base_may_be_replaced(tmp_path, capsys):
    Path("y_model.py").write_text(
        "from models.template_model import TemplateModel\n"
        "class YModel(TemplateModel):\n"
        "    @staticmethod\n"
        "    def modify_commandline_options(parser, is_train):\n"
        "        parser.add_argument('--beta1', type=str, default='mine')\n"
        "        return parser\n"
    )
    assert parse("--model", "y", "--plugin_dir", ".").beta1 == "mine"
    assert "--beta1 is replaced" in capsys.readouterr().err


def test_a_run_is_described_by_its_record(strips):
    run_train(
        "--model",
        "pix2pix",
        "--dataroot",
        strips,
        "--name",
        "r",
        "--norm",
        "instance",
        "--no_dropout",
        "--direction",
        "BtoA",
    )
    opt = parse("--name", "r", train=False)
    assert (opt.netG, opt.ngf, opt.norm, opt.no_dropout, opt.direction, opt.crop_size, opt.load_size, opt.seed) == (
        "unet_64",
        2,
        "instance",
        True,
        "BtoA",
        64,
        64,
        3,
    )
    assert parse("--name", "r", "--crop_size", "128", train=False).load_size == 128
    assert parse("--name", "r", "--model", "pix2pix", train=False).dataset_mode == "aligned"
    record = json.loads(Path("checkpoints/r/train_opt.json").read_text())
    assert record["networks"]["G"]["netG"] == "unet_64"
    assert "lambda_L1: 100.0" in Path("checkpoints/r/train_opt.txt").read_text()
    resumed = TrainOptions().parse(["--continue_train", "--name", "r", "--n_epochs", "4"])
    assert (resumed.model, resumed.direction, resumed.dataroot, resumed.n_epochs, resumed.lr_policy) == (
        "pix2pix",
        "BtoA",
        strips,
        4,
        "linear",
    )
    with pytest.raises(UsageError, match="run r was trained BtoA and resumes only so; .* --init_from r"):
        TrainOptions().parse(["--continue_train", "--name", "r", "--direction", "AtoB"])
    with pytest.raises(UsageError, match="trained with --direction BtoA and has one generator"):
        parse("--name", "r", "--direction", "AtoB", train=False)
    Path("checkpoints/r/train_opt.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        parse("--name", "r", train=False)
