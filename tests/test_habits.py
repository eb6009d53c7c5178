"""Habits of other people's plugins and files that the tests of single parts would not meet."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import picture, run_on, run_test, run_train, train_options, write
from PIL import Image
from torchvision.transforms import InterpolationMode

from data.base_dataset import get_transform
from data.image_folder import make_dataset
from data.reading import read_image
from models import find_model_using_name
from options.train_options import TrainOptions
from util.errors import UsageError
from util.images import ValueRange

HEAD = """
import argparse
import torch
from torch import nn
from models.base_model import BaseModel
from models.pix2pix_model import Pix2PixModel
from models.cycle_gan_model import CycleGANModel
from models.template_model import TemplateModel
"""


def plugin(name, body):
    """Write `<name>_model.py` into the working folder; returns the arguments that use it."""
    Path(f"{name}_model.py").write_text(HEAD + body)
    return ("--model", name, "--plugin_dir", ".")


def test_lists_and_negatable_flags_survive_a_record_and_a_config(strips):
    argv = plugin("lists", """
class ListsModel(TemplateModel):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        TemplateModel.modify_commandline_options(parser, is_train)
        parser.add_argument("--layers", type=lambda word: [int(w) for w in word.split(",")], default=[0])
        parser.add_argument("--weights", type=float, nargs="+", default=[1.0])
        parser.add_argument("--attn", action=argparse.BooleanOptionalAction, default=True)
        parser.add_argument("--tag", action="append", default=None)
        parser.add_argument("-w", "--warm", action="count", default=0)
""")

    def lists(opt):
        return opt.layers, opt.weights, opt.attn, opt.tag, opt.warm

    run_train(*argv, "--dataroot", strips, "--dataset_mode", "aligned", "--layers", "1,2,3", "--weights", "4", "-5",
              "--no-attn", "--tag", "a", "--tag", "b", "-w", "-w")
    expected = ([1, 2, 3], [4.0, -5.0], False, ["a", "b"], 2)
    assert lists(TrainOptions().parse(["--continue_train"])) == expected
    Path("c.json").write_text('{\n\t"layers": [1, 2, 3],\n\t"weights": [4, -5],\n\t"attn": false,\n\t"seed": null,\n'
                              '\t"tag": ["a", "b"], "warm": 2\n}')
    opt = TrainOptions().parse([*argv, "--dataset_mode", "aligned", "--dataroot", strips, "--config", "c.json"])
    assert lists(opt) == expected


@pytest.mark.parametrize("net", [
    "nn.Sequential()", "nn.DataParallel(nn.Conv2d(3, 3, 1))", "nn.BatchNorm2d(3, affine=False)",
    "nn.InstanceNorm2d(3, track_running_stats=True)", "nn.AvgPool2d(1)",
])
def test_networks_of_every_make_are_saved_loaded_and_resumed(strips, net):
    argv = plugin("own", f"""
class OwnModel(BaseModel):
    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["y"]
        self.netF = {net}
        self.netG = nn.Conv2d(3, 3, 1)
        if self.isTrain:
            self.adam("G", self.netG)
    def forward(self):
        self.y = self.netG(self.netF(self.real_A))
    def optimize_parameters(self):
        self.forward()
        self.minimize("G", self.record(G=(self.y - self.real_B).abs().mean()))
""")
    run_train(*argv, "--dataroot", strips, "--dataset_mode", "aligned")
    assert run_test(*argv, "--dataroot", strips) == 0
    run_on("--n_epochs", "2")


@pytest.mark.parametrize("where", ["replaced", "appended"])
def test_a_plugin_with_its_own_setup_and_schedulers_resumes(strips, where):
    change = {"replaced": "self.schedulers = [s]", "appended": "self.schedulers.append(s)"}[where]
    argv = plugin("sched", f"""
class SchedModel(TemplateModel):
    def setup(self, opt):
        BaseModel.setup(self, opt)
        if self.isTrain:
            s = torch.optim.lr_scheduler.StepLR(self.optimizer_G, 2, gamma=0.5)
            {change}
""")
    run_train(*argv, "--dataroot", strips, "--dataset_mode", "aligned", "--n_epochs", "2")
    run_on("--n_epochs", "4")
    lines = Path("checkpoints/experiment_name/loss_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines][-1] == 4
    assert json.loads(lines[-1])["total_iters"] == 12


def test_a_plugin_that_sets_no_paths_and_has_its_own_train_and_test(strips):
    argv = plugin("spare", """
class SpareModel(TemplateModel):
    def set_input(self, input):
        self.real_A, self.real_B = input["A"], input["B"]
    def train(self):
        return nn.Module.train(self)
    def test(self):
        with torch.no_grad():
            self.forward()
        assert self.training != self.opt.eval
""")
    run_train(*argv, "--dataroot", strips, "--dataset_mode", "aligned")
    assert (Path("checkpoints/experiment_name/loss_log.jsonl")).stat().st_size > 0
    for more in ((), ("--eval",)):
        assert run_test(*argv, "--dataroot", strips, *more) == 0
    assert Path("results/experiment_name/test_latest/images/0_fake_B.png").exists()


def test_helpers_may_be_called_backward_something_and_lost_calls_are_refused():
    plugin("warp", """
class WarpModel(Pix2PixModel):
    def generator_loss(self):
        return self.backward_warp(super().generator_loss())
    def backward_warp(self, loss):
        return loss
""")
    plugin("calls", """
class CallsModel(CycleGANModel):
    def optimize_parameters(self):
        self.forward()
        self.backward_G()
""")
    train_options("--model", "warp", "--plugin_dir", ".", "--dataroot", "x")
    with pytest.raises(UsageError, match="CallsModel calls backward_G, which CycleGANModel does not have"):
        find_model_using_name("calls")


def test_a_plugin_whose_library_is_missing():
    plugin("lacking", "import no_such_library\n")
    with pytest.raises(UsageError, match="'lacking' can't be imported: No module named 'no_such_library'"):
        train_options("--model", "lacking", "--plugin_dir", ".", "--dataroot", "x")


def test_plateau_counts_every_loss_where_all_are_called_d_something(strips):
    argv = plugin("dist", """
class DistModel(TemplateModel):
    def optimize_parameters(self):
        self.forward()
        self.minimize("G", self.record(Dist=(self.fake_B - self.real_B).abs().mean()))
""")
    model = run_train(*argv, "--dataroot", strips, "--dataset_mode", "aligned", "--lr_policy", "plateau")
    assert model.metric > 0.01


def test_penalty_and_pool_with_sizes_that_differ(tmp_path):
    for i, side in enumerate((40, 48)):
        for domain in "AB":
            write(tmp_path / "v" / f"train{domain}" / f"{i}.png", picture(side, side + 8 * (domain == "B")))
    with pytest.raises(UsageError, match="gradient penalty needs .* one size"):
        run_train("--model", "cycle_gan", "--dataroot", "v", "--preprocess", "none", "--gan_mode", "wgangp")


def test_links_in_a_circle_are_walked_once(tmp_path):
    write("s/x.png", picture())
    for name in ("loop", "loop2"):
        os.symlink(".", f"s/{name}")
    assert make_dataset("s") == ["s/x.png"]


def test_unusual_tiffs(tmp_path):
    grey = (np.random.default_rng(0).random((20, 30)) * 60000).astype(np.uint16)
    tifffile.imwrite("zero.tif", 65535 - grey, photometric="miniswhite")
    np.testing.assert_array_equal(read_image("zero.tif", 1)[:, :, 0], grey)
    Image.fromarray(grey).save("lzw.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image("lzw.tif", 1)[:, :, 0], grey)
    Image.fromarray(picture()).convert("1").save("g4.tif", compression="group4")
    assert set(np.unique(read_image("g4.tif", 1))) == {0, 255}
    Image.fromarray(picture()).convert("LA").save("la.tif")
    assert read_image("la.tif", 1).shape == (64, 64, 1)
    tifffile.imwrite("two.tif", picture()[:, :, :2], planarconfig="contig", photometric="minisblack")
    np.testing.assert_array_equal(read_image("two.tif", 2), picture()[:, :, :2])


def test_pixels_without_a_value_do_not_spread(strips, capsys):
    for domain in "AB":
        Path(f"d/train{domain}").mkdir(parents=True)
        array = picture()[:, :, 0].astype(np.float32)
        array[:5] = np.nan
        tifffile.imwrite(f"d/train{domain}/0.tif", array)
    model = run_train("--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1")
    assert all(np.isfinite(value) for value in model.get_current_losses().values())
    assert "pixels without data" in capsys.readouterr().err


def test_a_tensor_is_no_view_of_the_file():
    array = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32)
    before = array.copy()
    ValueRange("float32", 0, 1).to_tensor(array)
    np.testing.assert_array_equal(array, before)


def test_classic_transforms_of_other_modes():
    opt = train_options("--model", "pix2pix", "--dataroot", "x", "--load_size", "72", "--crop_size", "64", "--no_flip")
    image = Image.fromarray(picture())
    one = get_transform(opt, None, method=InterpolationMode.NEAREST)(image.convert("1"))
    assert {one.min().item(), one.max().item()} == {-1.0, 1.0}
    floating = Image.fromarray(np.full((64, 64), 0.5, np.float32))
    assert get_transform(opt)(floating).abs().max() < 1e-6
    opt.preprocess = "crop"
    assert get_transform(opt)(image.resize((20, 30))).shape == (3, 30, 20)


def test_names_at_the_limit_and_siblings_of_a_stem(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    long = "x" * 230
    for name in (f"{long}.png", "a.png", "a.b.png"):
        write(f"in/{name}", picture())
    assert run_test("--dataroot", "in") == 0
    images = Path("results/experiment_name/test_latest/images")
    assert {path.name for path in images.glob("*_fake.png")} == {f"{long}_fake.png", "a_fake.png", "a.b_fake.png"}


def test_names_that_are_not_utf8(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    Path("in").mkdir()
    with open(b"in/caf\xe9.png", "wb") as file:
        file.write(Path(write("x.png", picture())).read_bytes())
    assert run_test("--dataroot", "in") == 0
    assert os.path.exists(b"results/experiment_name/test_latest/images/caf\xe9_fake.png")


def test_a_suffix_means_the_direction_and_so_the_depth(tmp_path):
    for i in range(2):
        path = tmp_path / "d/trainA" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.random.default_rng(i).random((64, 64)) * 4095).astype(np.uint16)).save(path)
        write(tmp_path / "d/trainB" / f"{i}.png", picture(channels=1, seed=i))
    run_train("--model", "cycle_gan", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1")
    for suffix, folder, high in (("_A", "trainA", 255), ("_B", "trainB", 65535)):
        place = "test_latest" if suffix == "_A" else "test_latest_BtoA"
        assert run_test("--dataroot", f"d/{folder}", "--model_suffix", suffix) == 0
        fake = np.asarray(Image.open(f"results/experiment_name/{place}/images/0_fake.png"))
        assert fake.max() <= high
        assert (fake.max() > 255) == (high > 255)


def test_weights_of_a_related_family_are_told_in_one_line(domains):
    Path("checkpoints/other").mkdir(parents=True)
    state = {"model.1.weight": torch.zeros(4, 3, 7, 7), "model.16.conv_block.1.weight": torch.zeros(4, 4, 3, 3)}
    torch.save(state, "checkpoints/other/latest_net_G.pth")
    with pytest.raises(UsageError, match="does not fit the network"):
        run_test("--name", "other", "--dataroot", "domains/testA")


@pytest.mark.parametrize("argv", [("--lr", "-1"), ("--lr", "nan"), ("--beta1", "2"), ("--init_gain", "-1"),
                                  ("--model", ":X"), ("--model", ".foo:X")])
def test_numbers_and_names_out_of_bounds(argv):
    with pytest.raises(UsageError):
        train_options("--model", "pix2pix", "--dataroot", "x", *argv)


def test_a_suffix_that_mentions_the_models_options_is_resumed(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--suffix", "{netG}_{lambda_L1}")
    run_train(*argv)
    assert Path("checkpoints/experiment_name_unet_64_100.0/latest_state.pth").exists()
    run_train(*argv, "--continue_train", "--n_epochs", "2")
    assert Path("checkpoints/experiment_name_unet_64_100.0/2_net_G.pth").exists()
