"""What people met: runs that start wrong, plugins with a slip, results that collide, outputs that are closed."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, equal, model_file, picture, run_on, run_test, run_train, train_options, weights, write

import train
from data import create_dataset
from data.check import main as check
from data.image_folder import ImageFolder, default_loader
from models import create_model, get_option_setter
from models.engine.results import ResultNames
from networks.layers import check_size
from options.train_options import TrainOptions
from util import notices
from util.compare import differing
from util.errors import UsageError
from util.html import HTML
from util.metrics.__main__ import main as score
from util.metrics.scores import Figure
from util.metrics.set_metrics import patches, swd
from util.util import diagnose_network, print_numpy, str2bool
from util.visualizer import Visualizer, save_images

RUN = Path("checkpoints/experiment_name")
IMAGES = Path("results/experiment_name/test_latest/images")


def start(*argv):
    train.train(train.parse([*TINY, *map(str, argv)]))


# Starts.

def test_a_failed_start_takes_nothing_away(strips, domains):
    kept = weights(run_train("--model", "pix2pix", "--dataroot", strips))
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    for i, width in enumerate((64, 66, 70)):
        write(f"odd/train/{i}.png", picture(2 * width))
    for wrong in (("--dataroot", "odd", "--preprocess", "none", "--batch_size", "3"),
                  ("--dataroot", strips, "--input_nc", "7"), ("--dataroot", domains, "--dataset_mode", "unaligned")):
        with pytest.raises(UsageError):
            start("--model", "pix2pix", *wrong)
        after = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
        assert {path: content for path, content in after.items() if path.name != ".lock"} == {
            path: content for path, content in before.items() if path.name != ".lock"}
    assert equal(kept, weights(run_on("--n_epochs", "2"))[:len(kept)]) is False  # it went on


@pytest.mark.parametrize(("model", "mode", "message"), [
    ("pix2pix", "unaligned", "--model pix2pix needs pairs, and --dataset_mode unaligned has none; use"),
    ("pix2pix", "single", "--model pix2pix needs a second domain, and --dataset_mode single has none"),
    ("cycle_gan", "single", "--model cycle_gan needs a second domain.*; use --dataset_mode unaligned"),
])
def test_models_say_what_they_need(domains, model, mode, message):
    with pytest.raises(UsageError, match=message):
        start("--model", model, "--dataset_mode", mode, "--dataroot", domains)


def test_pairs_for_a_model_without_pairs_are_told(strips, capsys):
    run_train("--model", "cycle_gan", "--dataset_mode", "aligned", "--dataroot", strips)
    assert "--model cycle_gan learns without pairs; --dataset_mode aligned shows it each image with its partner" in (
        capsys.readouterr().err)


# Plugins.

def test_a_loss_that_is_none_names_the_method_and_its_line(strips):
    argv = model_file("slip", "Pix2Pix", "    def generator_loss(self):\n        super().generator_loss()\n")
    with pytest.raises(UsageError, match=r"SlipModel\.generator_loss \(.*slip_model\.py line \d+\) gives "
                                         r"minimize\('G', \.\.\.\) None; it must return the loss"):
        start(*argv, "--dataroot", strips)


def test_a_misspelt_visual_is_told_once(strips, capsys):
    body = ("    def __init__(self, opt):\n        super().__init__(opt)\n"
            "        self.visual_names = ['real_A', 'fake_b']\n")
    argv = model_file("misspelt", "Pix2Pix", body)
    run_train(*argv, "--dataroot", strips)
    told = "MisspeltModel has 'fake_b' in visual_names, but sets no such attribute. Did you mean 'fake_B'?"
    assert capsys.readouterr().err.count(told) == 1


@pytest.mark.parametrize("word", ["nan", "-1", "inf"])
def test_weights_of_losses_are_numbers_from_0(word):
    with pytest.raises(UsageError, match="--lambda_L1"):
        train_options("--model", "pix2pix", "--dataroot", "x", f"--lambda_L1={word}")


def test_a_penalty_of_recomputed_activations_has_the_right_gradient(strips):
    found = []
    for more in ((), ("--checkpoint_activations",)):
        opt = train_options("--model", "pix2pix", "--dataroot", "x", "--gan_mode", "wgangp", *more)
        torch.manual_seed(0)
        model = create_model(opt)
        model.setup(opt)
        torch.manual_seed(1)
        images = {domain: torch.rand(1, 3, 64, 64) for domain in "AB"}
        model.set_input({**images, "A_paths": ["a"], "B_paths": ["b"]})
        model.forward()
        torch.manual_seed(2)
        model.discriminator_loss().backward()
        found.append([p.grad for p in model.netD.parameters()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_steps_that_are_all_skipped_end_the_run(strips):
    body = "    def generator_loss(self):\n        return super().generator_loss() * float('nan')\n"
    body += "    def discriminator_loss(self):\n        return super().discriminator_loss() * float('nan')\n"
    argv = model_file("hopeless", "Pix2Pix", body)
    with pytest.raises(UsageError, match="no step (was finite, nothing is trained|is finite any more)"):
        start(*argv, "--dataroot", strips)


# Results.

def test_two_inputs_never_share_a_name(tmp_path):
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png"):
        write(Path("x") / name, picture())
    for folder in ("test", "testA"):
        write(Path(folder) / "same.png", picture())
    names = ResultNames(None, [])
    found = [names.of(f"x/{name}", ["x"]) for name in ("a.jpg", "a.png", "a.jpg.png", "b.png")]
    assert found == ["a.jpg", "a.png", "a.jpg.png", "b"]
    assert [names.of(f"{folder}/same.png", ["test", "testA"]) for folder in ("test", "testA")] == ["same", "testA/same"]


def test_results_of_an_earlier_test_do_not_stay(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    for i in range(2):
        write(f"one/{i}.png", picture(seed=i))
    assert run_test("--dataroot", "one") == 0
    (IMAGES / "mine.txt").touch()
    os.remove("one/0.png")
    assert run_test("--dataroot", "one") == 0
    assert {path.name for path in IMAGES.iterdir()} == {"1_real.png", "1_fake.png", "mine.txt"}
    listed = IMAGES.parent / "images.json"
    listed.write_text(json.dumps({"x": {"fake": ["../../../../one/1.png"] * 2}}))
    assert run_test("--dataroot", "one") == 0
    assert "leads out of" in capsys.readouterr().err
    assert Path("one/1.png").exists()


def test_both_directions_of_a_cycle_have_results(domains):
    run_train("--model", "cycle_gan", "--dataroot", domains)
    for direction, folder in (("AtoB", "test_latest"), ("BtoA", "test_latest_BtoA")):
        assert run_test("--dataroot", domains, "--direction", direction) == 0
        assert list(Path(f"results/experiment_name/{folder}/images").glob("*_fake.png"))


def test_a_result_that_cannot_be_written_is_named_and_passed_over(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    write(f"x/{'a' * 250}.png", picture())
    write("x/b.png", picture())
    assert run_test("--dataroot", "x") == 1
    done = capsys.readouterr()
    assert "aaa.png: its result can't be written: " in done.err
    assert "1 images translated, 1 skipped: results/" in done.out
    assert (IMAGES / "b_fake.png").exists()


def test_no_page_is_named_if_there_is_none(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    Path("x").mkdir()
    Path("x/a.png").write_bytes(b"no image")
    assert run_test("--dataroot", "x") == 1
    assert capsys.readouterr().out.rstrip().endswith("0 images translated, 1 skipped")


def test_strips_given_to_a_run_of_pairs_are_recognised(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    assert run_test("--dataroot", f"{strips}/test") == 0
    assert "is twice as wide as high, like the strips {A|B}" in capsys.readouterr().err


# Outputs that are closed.

@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&- 2>&-"])
def test_a_closed_output_stops_nothing(strips, closed):
    words = " ".join([sys.executable, str(ROOT / "train.py"), "--model", "pix2pix", "--dataroot", str(strips), *TINY])
    done = subprocess.run(f"{words} {closed}", shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (RUN / "latest_net_G.pth").exists()


def test_a_list_may_be_cut_off():
    command = f"{sys.executable} -m data.download list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Metrics.

def test_swd_of_plain_pictures_is_a_number_of_their_size():
    plain = torch.full((3, 3, 32, 32), 0.5)
    noise = torch.as_tensor(np.random.default_rng(0).random((3, 3, 32, 32)))
    assert swd(patches(plain), patches(plain)) == 0
    assert 0 < swd(patches(noise), patches(plain)) < 1e6


def test_one_pixel_is_refused_by_name():
    with pytest.raises(UsageError, match="--netD pixel needs images of at least 2x2, not 1x1"):
        opt = train_options("--model", "cycle_gan", "--dataroot", "x", "--netD", "pixel", "--netG", "resnet_6blocks",
                            "--crop_size", "1", "--load_size", "1")
        check_size(create_model(opt).netD_A, 1, 1)


# Going back, comparing, checking.

def test_going_back_keeps_the_best(strips, capsys):
    write(f"{strips}/val/0.png", picture(128))
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "4", "--val_freq", "1", "--best_metric", "l1",
              "--save_epoch_freq", "1")
    kept = torch.load(RUN / "best_net_G.pth")
    state = torch.load(RUN / "latest_state.pth", weights_only=True)
    state["progress"]["best"] |= {"value": 0.0001, "epoch": 3}
    torch.save(state, RUN / "latest_state.pth")
    notices._seen.clear()
    run_on("--epoch", "2", "--epoch_count", "3", "--n_epochs", "4")
    assert equal(kept.values(), torch.load(RUN / "best_net_G.pth").values())
    assert "checkpoints of later epochs (3, 4) will be overwritten; another --name with" in capsys.readouterr().err


def test_one_image_has_no_interval():
    assert str(Figure(0.25, 0.25, 0.25, 1)) == "0.25, n = 1"
    assert str(Figure(0.25, 0.2, 0.3, 2)) == "0.25 [0.2, 0.3], n = 2"


def test_numbers_are_compared_as_numbers():
    text = str(differing({"a": {"lr": "0.0", "x": 1}, "b": {"lr": 0, "x": 2}}))
    assert "--x" in text
    assert "--lr" not in text


def test_a_run_that_was_moved_is_named(strips, domains):
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_train("--model", "cycle_gan", "--dataroot", domains)
    (moved,) = RUN.glob("previous_*")
    with pytest.raises(UsageError, match=f"an earlier run is --name experiment_name/{moved.name}"):
        run_test("--dataroot", strips, "--epoch", "7")


def test_recommended_commands_run(capsys):
    for i in range(4):
        for domain in "AB":
            write(f"d/train{domain}/{i}.png", picture(seed=i + ord(domain)))
    Path("d/trainB/3.png").unlink()
    write(f"d/trainA/{'n' * 250}.png", picture(seed=77))
    assert check(["d", "--num_threads", "0"]) == 1
    out = capsys.readouterr().out
    assert "for pix2pix each image needs one partner; without pairs:" in out
    assert "of a name too long for a result:\n  d/trainA/nnn" in out
    command = out.strip().splitlines()[-1].removeprefix("python train.py ").split()
    train.train(train.parse([*TINY, "--netG", "resnet_6blocks", *command, "--load_size", "72", "--crop_size", "64"]))


# Plugins of strangers.

def test_networks_that_only_a_plugin_knows_are_trained_resumed_and_tested(strips):
    body = ("    @staticmethod\n    def modify_commandline_options(parser, is_train):\n"
            "        Pix2PixModel.modify_commandline_options(parser, is_train)\n"
            "        parser.set_defaults(netD='sigmoid')\n        return parser\n"
            "    def __init__(self, opt):\n"
            "        netD, netG, opt.netD, opt.netG = opt.netD, opt.netG, 'basic', 'unet_64'\n"
            "        super().__init__(opt)\n        opt.netD, opt.netG = netD, netG\n")
    argv = model_file("stranger", "Pix2Pix", body)
    run_train(*argv, "--dataroot", strips, "--netG", "our")
    assert json.loads((RUN / "train_opt.json").read_text())["options"]["netG"] == "our"
    run_on("--n_epochs", "2")
    assert run_test("--dataroot", strips) == 0
    with pytest.raises(UsageError, match="Unknown generator 'our'"):
        start("--model", "pix2pix", "--dataroot", strips, "--netG", "our")


def test_a_plugin_needs_only_the_networks_it_lists_to_translate(strips):
    body = ("    def __init__(self, opt):\n        super().__init__(opt)\n        self.model_names = ['G']\n"
            "        self.netExtra = torch.nn.Conv2d(3, 3, 1)\n")
    argv = model_file("lister", "Pix2Pix", body)
    run_train(*argv, "--dataroot", strips)
    (RUN / "latest_net_Extra.pth").unlink()
    assert run_test("--model", "lister", "--dataroot", strips) == 0


def test_recorded_options_come_back_as_they_were(strips):
    body = ("    @staticmethod\n    def modify_commandline_options(parser, is_train):\n"
            "        Pix2PixModel.modify_commandline_options(parser, is_train)\n        from pathlib import Path\n"
            "        two = lambda s: tuple(map(float, s.split(',')))\n"
            "        parser.add_argument('--pair', type=two, default=(1.5, 2.5))\n"
            "        parser.add_argument('--set', type=lambda s: set(map(float, s.split(','))), default={1.0})\n"
            "        parser.add_argument('--many', type=float, nargs='+', default=[0.5])\n"
            "        parser.add_argument('--file', type=Path, default=Path('x/y'))\n        return parser\n")
    argv = model_file("typist", "Pix2Pix", body)
    for more in ((), ("--pair", "3.5,4.5", "--set", "2.5,7.0", "--many", "1.5", "2.5", "--file", "a b/c")):
        run_train(*argv, "--dataroot", strips, *more)
        first = train_options(*argv, "--dataroot", strips, *more)
        for _ in range(2):
            again = TrainOptions().parse(["--name", "experiment_name", "--continue_train"])
            for key in ("pair", "set", "many", "file"):
                assert getattr(again, key) == getattr(first, key), (key, more)
            run_on("--n_epochs", "2")


def test_subclasses_find_what_they_use(domains):
    model = create_model(train_options("--model", "cycle_gan", "--dataroot", "x"))
    assert [type(optimizer).__name__ for optimizer in model.optimizers] == ["Adam", "Adam"]
    for name in ("criterionCycle", "criterionIdt", "fake_A_pool", "fake_B_pool"):
        assert getattr(model, name) is not None


def test_what_scripts_of_the_reference_import(capsys):
    write("x/a.png", picture())
    assert [str2bool(word) for word in ("Yes", "0", True)] == [True, False, True]
    with pytest.raises(UsageError, match="neither true nor false"):
        str2bool("perhaps")
    assert ImageFolder("x", return_paths=True)[0][1] == "x/a.png"
    assert default_loader("x/a.png").size == (64, 64)
    net = torch.nn.Linear(2, 1, bias=False)
    net(torch.ones(1, 2)).sum().backward()
    diagnose_network(net, "D")
    print_numpy(np.array([[1, 2]]), shp=True)
    out = capsys.readouterr().out
    assert "D: mean absolute gradient 1\n" in out
    assert "shape, (1, 2)\nmean = 1.500, min = 1.000, max = 2.000, median = 1.500, std = 0.500" in out
    assert get_option_setter("pix2pix").__name__ == "modify_commandline_options"


def test_the_visualizer_logs_and_shows():
    options = Namespace(checkpoints_dir="c", name="r", display_winsize=64)
    shown = Visualizer(options)
    shown.reset()
    shown.print_current_losses(1, 100, {"G": 0.5}, 0.1, 0.01)
    shown.plot_current_losses(1, 0.5, {"G": 0.5})
    shown.display_current_results({"fake_B": torch.zeros(1, 3, 8, 8)}, 1, True)
    assert "(epoch: 1, iters: 100, time: 0.100, data: 0.010) G: 0.500" in Path("c/r/loss_log.txt").read_text()
    assert Path("c/r/web/images/epoch001_fake_B.png").exists()
    page = HTML("w", "results")
    save_images(page, {"fake_B": torch.zeros(1, 3, 8, 8)}, ["x/a.jpg"])
    assert Path("w/images/a_fake_B.png").exists()


def test_networks_that_need_the_first_batch(strips):
    body = ("    def data_dependent_initialize(self, batch):\n"
            "        assert batch['A'].shape == (2, 3, 64, 64)\n"
            "        self.netF = torch.nn.Conv2d(batch['A'].shape[1], 3, 1)\n        self.adam('F', self.netF)\n"
            "    def forward(self):\n        self.fake_B = self.netF(self.netG(self.real_A)) if self.isTrain else "
            "self.netG(self.real_A)\n"
            "    def optimize_parameters(self):\n        super().optimize_parameters()\n        self.forward()\n"
            "        self.minimize('F', self.record(F=self.fake_B.square().mean()))\n"
            "    def __init__(self, opt):\n        super().__init__(opt)\n        self.model_names = ['G']\n")
    argv = model_file("late", "Pix2Pix", body)
    whole = weights(run_train(*argv, "--dataroot", strips, "--batch_size", "2", "--n_epochs", "2", "--name", "whole"))
    run_train(*argv, "--dataroot", strips, "--batch_size", "2")
    assert equal(whole, weights(run_on("--n_epochs", "2")))
    assert "optimizer_F" in torch.load(RUN / "latest_state.pth", weights_only=True)["optimizers"]
    assert run_test("--model", "late", "--dataroot", strips) == 0


def test_fewer_cores_than_data_workers_are_our_own_decision(strips, monkeypatch, recwarn):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    loader = create_dataset(train_options("--model", "pix2pix", "--dataroot", strips, "--num_threads", "4"))
    assert loader.workers.workers == 1
    assert len(list(loader)) == 3
    loader.close()
    assert not [warning for warning in recwarn if "DataLoader" in str(warning.message)]


def test_going_back_that_fails_leaves_the_state(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--n_epochs", "3", "--save_epoch_freq", "1")
    before = (RUN / "latest_state.pth").read_bytes()
    Path("broken/train").mkdir(parents=True)
    for i in range(3):
        Path(f"broken/train/{i}.png").write_bytes(b"no image")
    with pytest.raises(UsageError):
        start("--continue_train", "--epoch", "1", "--epoch_count", "2", "--dataroot", "broken")
    assert (RUN / "latest_state.pth").read_bytes() == before
    run_on("--epoch", "1", "--epoch_count", "2", "--n_epochs", "2")
    assert TrainOptions().parse(["--name", "experiment_name", "--continue_train"]).epoch_count == 1


def test_deep_results_can_be_scored(capsys):
    array = np.linspace(0, 900, 64 * 64).reshape(64, 64).astype(np.float32)
    for domain in "AB":
        for i in range(2):
            Path(f"d/train{domain}").mkdir(parents=True, exist_ok=True)
            np.save(f"d/train{domain}/{i}.npy", array + i)
    run_train("--model", "pix2pix", "--dataroot", "d", "--input_nc", "1", "--output_nc", "1")
    assert run_test("--dataroot", "d/trainA", "--preprocess", "none") == 0
    assert score([str(IMAGES), "d/trainB", "--metrics", "l1", "--range", "0:901", "--device", "cpu"]) == 0
    assert "2 images of results/experiment_name/test_latest/images against 2 of d/trainB, 2 of them pairs by name" in (
        capsys.readouterr().out)
