"""Label maps: --label_nc, --instances, SPADE and pix2pixHD on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, run_test, run_train, train_options, write
from PIL import Image
from test_tiles import both, relative

from data import find_dataset_using_name
from data.label_maps import edges
from image_translation import load
from image_translation.export import main as export
from networks import define_G
from networks.label_maps import coloured
from networks.per_image import translating
from networks.spade import Spade
from util.errors import UsageError

RUN = ("--model", "spade", "--dataroot", "street", "--label_nc", "4", "--netG", "spade_2ups", "--ngf", "4",
       "--n_layers_D", "2", "--val_freq", "0")
IMAGES = Path("results/experiment_name/test_latest/images")


def stripes(seed, side=64):
    """A label map (H, W) of the classes 0 to 3 in stripes."""
    return np.broadcast_to((np.arange(side) // 8 + seed) % 4, (side, side)).astype(np.uint8)


@pytest.fixture
def street(tmp_path):
    """Label maps with a palette in train, grey ones in test, photographs, and the instances' numbers."""
    for phase in ("train", "test"):
        for i in range(3):
            labels = Image.fromarray(stripes(i))
            if phase == "train":
                labels = labels.convert("P")
                labels.putdata(stripes(i).ravel().tolist())
                labels.putpalette([9, 9, 9, 250, 0, 0, 0, 250, 0, 0, 0, 250])
            folder = tmp_path / "street" / f"{phase}A"
            folder.mkdir(parents=True, exist_ok=True)
            labels.save(folder / f"{i}.png")
            write(tmp_path / "street" / f"{phase}B" / f"{i}.png", picture(seed=i))
            number = tmp_path / "numbers" / f"{phase}A" / f"{i}.png"
            number.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((np.arange(64)[:, None] // 16 + 1000 + np.zeros((64, 64))).astype(np.uint16)).save(number)


def dataset(*more):
    opt = train_options(*RUN, *more)
    return opt, find_dataset_using_name(opt.dataset_mode)(opt)


@pytest.mark.usefixtures("street")
def test_an_index_is_a_channel_whatever_its_colour():
    opt, data = dataset("--load_size", "64", "--crop_size", "64", "--no_flip")
    assert opt.input_nc == 4
    for i in range(3):
        sample = data[i]
        assert torch.equal(sample["A"], torch.nn.functional.one_hot(
            torch.from_numpy(stripes(i)).long(), 4).permute(2, 0, 1).float())
        assert sample["B"].shape == (3, 64, 64)
    opt, data = dataset("--load_size", "100", "--crop_size", "50")
    assert torch.equal(data[0]["A"].sum(0), torch.ones(50, 50))  # resized without mixing classes
    labels = stripes(0).copy()
    labels[:5] = 255
    Image.fromarray(labels).save("street/trainA/0.png")
    assert dataset("--load_size", "64", "--crop_size", "64", "--no_flip")[1][0]["A"][:, :5].sum() == 0
    Path("street/trainA/1.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"1.png: is empty \(0 bytes\)"):
        dataset()[1][1]


@pytest.mark.usefixtures("street")
def test_instances_give_a_channel_of_edges():
    numbers = torch.tensor([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    expected = [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert edges(numbers)[0].int().tolist() == expected
    opt, data = dataset("--instances", "numbers", "--load_size", "64", "--crop_size", "64", "--no_flip")
    assert opt.input_nc == 5
    rows = data[1]["A"][4].amax(1).nonzero().flatten().tolist()
    assert rows == [15, 16, 31, 32, 47, 48]
    Path("numbers/trainA/2.png").unlink()
    with pytest.raises(UsageError, match="--instances numbers has no image for 1 of 3 images, such as .*2.png"):
        dataset("--instances", "numbers")


def test_label_maps_are_shown_in_colours():
    planes = torch.zeros(1, 4, 2, 3)
    planes[0, 0, 0, :2] = planes[0, 2, 0, 2] = planes[0, 1, 1, 0] = 1  # two pixels without a label
    picture = coloured(planes, 3)
    assert picture.shape == (1, 3, 2, 3)
    assert len({tuple(picture[0, :, y, x].tolist()) for y, x in ((0, 0), (0, 2), (1, 0), (1, 1))}) == 4
    assert torch.equal(picture[0, :, 0, 0], picture[0, :, 0, 1])
    assert picture[0, :, 1, 1:].unique().tolist() == [-1]
    planes[0, 3, 0, 0] = 1
    assert coloured(planes, 3)[0, :, 0, 0].tolist() == [-1] * 3  # an edge


@pytest.mark.usefixtures("street")
@pytest.mark.parametrize("more", [
    (), ("--instances", "numbers"),
    ("--model", "pix2pix", "--netG", "local", "--netD", "multiscale", "--lambda_feature", "10", "--gan_mode", "lsgan",
     "--norm", "instance", "--no_dropout")])
def test_a_training_a_test_and_pages(more):
    run_train(*RUN, *more, "--display_samples", "1")
    model = more[more.index("--model") + 1] if "--model" in more else "spade"
    instances = ("--instances", "numbers") if "--instances" in more else ()
    assert run_test("--model", model, "--dataroot", "street", "--metrics", "auto", *instances) == 0
    shown = np.asarray(Image.open(IMAGES / "0_real_A.png"))
    assert len({tuple(colour) for colour in shown.reshape(-1, 3)}) == 4 + bool(instances)
    if not instances:
        assert run_test("--dataroot", "street/testA") == 0
        assert np.array_equal(np.asarray(Image.open(IMAGES / "0_real.png")), shown)
        translate = load("checkpoints/experiment_name", device="cpu")
        assert translate("street/testA/0.png").size == (64, 64)
        assert np.array_equal(translate(stripes(0)), np.asarray(translate(Image.open("street/testA/0.png"))))
        with pytest.raises(ValueError, match="an array of float32 is no label map"):
            translate(stripes(0).astype(np.float32))


@pytest.mark.usefixtures("street")
@pytest.mark.parametrize(("more", "message"), [
    (("--dataroot", "strips"), "--label_nc needs label maps in files of their own"),
    (("--label_nc", "2"), "has label 3, and --label_nc 2 allows 0 to 1"),
    (("--direction", "BtoA"), "is a RGB image, and classes and instances are numbers"),
    (("--label_nc", "0", "--instances", "numbers"), "--label_nc 0: label maps have from 1 to 255 classes"),
    (("--label_nc", "300"), "from 1 to 255 classes"),
    (("--input_nc", "3"), "make 4 input channels, not --input_nc 3"),
])
def test_one_line_for_what_can_not_be(more, message, strips):
    with pytest.raises(UsageError, match=message):
        dataset(*more)[1][0]


@pytest.mark.usefixtures("street")
def test_a_test_needs_the_instances_that_the_training_had(capsys):
    run_train(*RUN, "--instances", "numbers")
    with pytest.raises(UsageError, match="the run was trained with --instances, which a test needs too"):
        run_test("--model", "spade", "--dataroot", "street")
    with pytest.raises(ValueError, match="which a test needs too"):
        load("experiment_name", device="cpu")("street/testA/1.png")
    Path("numbers/1.png").write_bytes(Path("numbers/testA/1.png").read_bytes())
    translate = load("experiment_name", device="cpu", amp="off", instances="numbers")
    assert run_test("--model", "spade", "--dataroot", "street", "--instances", "numbers", "--preprocess", "none") == 0
    assert np.array_equal(np.asarray(translate("street/testA/1.png")), np.asarray(Image.open(IMAGES / "1_fake_B.png")))
    assert export(["experiment_name", "--format", "torchscript"]) == 0
    with pytest.raises(UsageError, match="whose networks see images, and this one sees label maps"):
        export(["experiment_name", "--format", "torchscript", "--images", "--out", "images.pt"])


def test_spade_is_its_equation():
    """norm(x) (1 + scale) + shift, with scale and shift from a 3x3 convolution, ReLU and a 3x3 convolution each."""
    layer = Spade(6, 3, torch.nn.InstanceNorm2d, hidden=5)
    x, labels = torch.randn(2, 6, 8, 8), torch.randn(2, 3, 8, 8)
    conv = torch.nn.functional.conv2d
    seen = conv(labels, layer.shared[0].weight, layer.shared[0].bias, padding=1).clamp(min=0)
    scale, shift = (conv(seen, part.weight, part.bias, padding=1) for part in (layer.scale, layer.shift))
    normed = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(layer(x, labels), normed * (1 + scale) + shift, atol=1e-5)


def test_the_generator_has_the_widths_of_the_paper():
    with torch.device("meta"):
        net = define_G(35, 3, 64, "spade", "batch")
    widths = [(block.conv_1.weight.shape[1], block.conv_2.weight.shape[0]) for block in net.blocks]
    assert widths == [(1024, 1024)] * 3 + [(1024, 512), (512, 256), (256, 128), (128, 64)]
    sizes = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2]))
    assert net(torch.zeros(1, 35, 256, 256, device="meta")).shape == (1, 3, 256, 256)
    assert sizes == [8, 16, 16, 32, 64, 128, 256]


def test_tiles_and_a_test_leaves_spectral_norms_alone():
    net = define_G(3, 3, 2, "spade_2ups", "batch", init_type="xavier", init_gain=1.0)
    x = torch.randn(1, 3, 140, 100)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    whole, tiled = both(net, x, 64)
    assert relative(whole, tiled) < 1e-4
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with translating(net, [0], torch.device("cpu")):
        assert torch.equal(net(x), whole)


@pytest.mark.slow
@pytest.mark.usefixtures("street")
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_as_a_file(kind, capsys):
    pytest.importorskip("onnxruntime")
    run_train(*RUN)
    assert export(["checkpoints/experiment_name", "--format", kind]) == 0
    assert "differs from the run by at most" in capsys.readouterr().out
