"""Super-resolution: pairs made on the fly or given, networks that enlarge, and larger outputs wherever they go."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, run_on, run_test, run_train, train_options, write
from PIL import Image
from test_tiles import both, relative

from data import find_dataset_using_name
from data.degradation import Degradation
from image_translation import load
from image_translation.export import main as export
from models import create_model
from networks import define_G
from util.errors import UsageError

RUN = ("--model", "super_resolution", "--dataroot", "photos", "--netG", "srresnet_1blocks", "--scale", "4")
IMAGES = Path("results/experiment_name/test_latest/images")


@pytest.fixture
def photos(tmp_path):
    for phase in ("train", "test"):
        for i in range(3):
            write(tmp_path / "photos" / phase / f"{i}.png", picture(99, 74, seed=i))


@pytest.mark.parametrize("name", ["srresnet_2blocks", "rrdb_1blocks"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_network_begins_as_bicubic_interpolation_and_its_tiles_are_the_whole(name, scale):
    net = define_G(3, 3, 8, name, scale=scale)
    x = torch.rand(1, 3, 70, 97) * 2 - 1
    bicubic = torch.nn.functional.interpolate(x, scale_factor=scale, mode="bicubic")
    assert torch.equal(net(x), bicubic)
    torch.nn.init.normal_(net.head[-1].weight)
    whole, tiled = both(net, x, 64)
    assert whole.shape == tiled.shape == (1, 3, 70 * scale, 97 * scale)
    assert (whole - bicubic).abs().max() > 0.1
    assert relative(whole, tiled) < 1e-5


def test_rrdb_is_the_paper():
    """A block: x + 0.2 of three dense blocks, each x + 0.2 of its fifth convolution; growth ngf / 2."""
    net = define_G(3, 3, 8, "rrdb_1blocks", scale=2)
    block, x = net.body[0], torch.randn(1, 8, 5, 5)
    y = x
    for dense in block.layers:
        seen = y
        for layer in dense.layers:
            found = torch.nn.functional.conv2d(seen, layer.weight, layer.bias, padding=1)
            seen = torch.cat((seen, found.where(found > 0, 0.2 * found)), 1)
        y = y + 0.2 * torch.nn.functional.conv2d(seen, dense.last.weight, dense.last.bias, padding=1)
    assert torch.allclose(block(x), x + 0.2 * y, atol=1e-6)
    assert [layer.weight.shape[:2] for layer in block.layers[0].layers] == [(4, 8), (4, 12), (4, 16), (4, 20)]
    assert len(define_G(3, 3, 2, "rrdb", scale=4).body) == 24


@pytest.mark.usefixtures("photos")
def test_pairs_are_made_of_photographs():
    opt = train_options(*RUN, "--crop_size", "32")
    dataset = find_dataset_using_name("super_resolution")(opt)
    sample = dataset[1]
    assert (sample["A"].shape, sample["B"].shape) == ((3, 8, 8), (3, 32, 32))
    small = torch.nn.functional.interpolate(sample["B"][None], (8, 8), mode="bicubic", antialias=True)
    assert (sample["A"] - small[0].clamp(-1, 1)).abs().max() < 2.1 / 255
    opt.isTrain, opt.preprocess, opt.phase = False, "none", "test"
    sample = find_dataset_using_name("super_resolution")(opt)[1]
    assert (sample["A"].shape, sample["B"].shape) == ((3, 18, 24), (3, 72, 96))
    whole = torch.from_numpy(picture(99, 74, seed=1)[:72, :96].copy()).permute(2, 0, 1)
    assert torch.allclose(sample["B"], whole / 127.5 - 1, atol=1e-6)


@pytest.mark.usefixtures("photos")
def test_given_pairs_are_cut_at_the_same_place():
    for i in range(2):
        small = picture(30, 22, seed=i)
        write(Path(f"pairs/trainA/{i}.png"), small)
        write(Path(f"pairs/trainB/{i}.png"), small.repeat(4, 0).repeat(4, 1))
    opt = train_options(*RUN, "--dataroot", "pairs", "--crop_size", "32", "--blur", "3")
    dataset = find_dataset_using_name("super_resolution")(opt)
    for index in (0, 1, 0, 1):
        sample = dataset[index]
        assert torch.equal(sample["A"].repeat_interleave(4, 1).repeat_interleave(4, 2), sample["B"])
    write(Path("pairs/trainB/1.png"), picture(100, 88))
    with pytest.raises(UsageError, match="pairs/trainB/1.png: is 100x88, not --scale 4 times its partner .*, 30x22"):
        find_dataset_using_name("super_resolution")(opt)[1]


def test_each_degradation_is_seen_and_drawn_within_its_bounds():
    random.seed(3)
    image = picture(64, 64)
    plain = Degradation(2)(image).astype(float)
    blurred, noisy, stored = (Degradation(2, **{name: value})(image).astype(float)
                              for name, value in (("blur", 4), ("noise", 20), ("jpeg", 5)))
    assert all(found.shape == plain.shape == (32, 32, 3) for found in (blurred, noisy, stored))
    rough = [np.abs(np.diff(found, axis=0)).mean() for found in (plain, blurred, noisy)]
    assert rough[1] < rough[0]
    assert 0 < np.abs(noisy - plain).mean() < 20
    assert np.abs(stored - plain).mean() > 0
    deep = Degradation(2, blur=1, noise=2)(picture(64, 64)[:, :, :1].astype(np.uint16) * 257)
    assert (deep.dtype, deep.shape) == (np.uint16, (32, 32, 1))
    with pytest.raises(UsageError, match="JPEG stores 8-bit grey or colour, not 1 channels of uint16"):
        Degradation(2, jpeg=50)(deep)


@pytest.mark.usefixtures("photos")
def test_in_two_stages_with_pages_metrics_and_the_file(capsys, visit):
    run_train(*RUN, "--crop_size", "32", "--name", "first", "--val_freq", "0")
    assert not Path("checkpoints/first/latest_net_D.pth").exists()
    run_train(*RUN, "--crop_size", "32", "--lambda_GAN", "0.01", "--init_from", "first", "--val_freq", "0", "--lr", "0")
    assert "network G: 100.0%" in capsys.readouterr().out
    first, second = (torch.load(f"checkpoints/{name}/latest_net_G.pth") for name in ("first", "experiment_name"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert Path("checkpoints/experiment_name/latest_net_D.pth").exists()
    assert run_test("--model", "super_resolution", "--dataroot", "photos", "--metrics", "auto") == 0
    sizes = [Image.open(IMAGES / f"1_{label}.png").size for label in ("real_A", "bicubic_B", "fake_B", "real_B")]
    assert sizes == [(24, 18), (96, 72), (96, 72), (96, 72)]
    metrics = json.loads((IMAGES.parent / "metrics.json").read_text())["images"]["1"]
    assert {"fake_B/psnr", "bicubic_B/psnr"} <= set(metrics)
    assert run_test("--name", "experiment_name", "--dataroot", "photos/test") == 0  # photographs of one's own
    assert Image.open(IMAGES / "1_fake_B.png").size == (396, 296)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("kind", ["torchscript", *(pytest.param(kind, marks=pytest.mark.slow)
                                                   for kind in ("onnx", "pt2"))])
def test_from_python_in_tiles_and_as_a_file(kind, capsys):
    run_train(*RUN, "--crop_size", "32", "--val_freq", "0")
    image = picture(90, 70)
    large = load("checkpoints/experiment_name", device="cpu")(image)
    tiled = load("checkpoints/experiment_name", device="cpu", tile=64)(image)
    assert large.shape == tiled.shape == (280, 360, 3)
    assert np.abs(large.astype(int) - tiled).max() <= 1
    pytest.importorskip("onnxruntime")
    assert export(["checkpoints/experiment_name", "--format", kind]) == 0
    assert "differs from the run by at most" in capsys.readouterr().out


@pytest.mark.usefixtures("photos")
def test_another_scale_or_loss_than_trained_with_is_named():
    run_train(*RUN, "--scale", "2")
    for more in (("--scale", "4"), ("--lambda_GAN", "0.1")):
        with pytest.raises(UsageError, match=f"; the run was trained with {more[0]} .* \\(here: {more[1]}\\)$"):
            run_on("--n_epochs", "2", *more)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("more", "message"), [
    (("--crop_size", "30"), "--crop_size 30 is no multiple of --scale 4"),
    (("--crop_size", "200"), "is smaller than --crop_size 200"),
    (("--more_data", "nowhere"), "nowhere"),
    (("--label_nc", "3"), "super_resolution enlarges images"),
    (("--direction", "BtoA"), "super-resolution goes from A, small, to B, large"),
    (("--jpeg", "100"), "--jpeg 100 is no quality from 1 to 95"),
    (("--output_nc", "1"), "--input_nc 3 and --output_nc 1 must be equal"),
    (("--netG", "unet_32"), "--netG unet_32 takes no scale"),
    (("--model", "pix2pix", "--dataset_mode", "aligned"), "--netG srresnet_1blocks needs scale"),
    (("--model", "pix2pix", "--dataset_mode", "super_resolution", "--netG", "unet_32"), "pix2pix has no --scale"),
])
def test_one_line_for_what_can_not_be(more, message, strips):
    argv = RUN if "--model" not in more else ("--dataroot", strips, "--netG", "srresnet_1blocks")
    with pytest.raises(UsageError, match=message):
        opt = train_options(*argv, *more)
        dataset = find_dataset_using_name(opt.dataset_mode)(opt)
        create_model(opt)
        dataset[0]
