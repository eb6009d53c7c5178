"""image-translation export: every format, every size, the numbers of the run, and what the file says of itself."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, generator, picture, run_train, write
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_translation import load
from image_translation.export import FORMATS, main
from image_translation.translator import Translator
from models.engine import hardware
from networks import GENERATORS, define_D, define_G
from networks.layers import without_parametrizations
from networks.unet import UnetGenerator
from util.errors import UsageError

RUN = "experiment_name"
QUICK = [kind if kind == "torchscript" else pytest.param(kind, marks=pytest.mark.slow) for kind in FORMATS]


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """What files are compared with."""
    monkeypatch.setattr(hardware, "pick_amp", lambda amp, device: "off")


@pytest.fixture
def run(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "batch", "--no_dropout", "--n_epochs", "2")
    return RUN


def exported(*argv):
    """Export the run; returns the file as a function of tensors."""
    assert main([RUN, *argv]) == 0
    kind = argv[argv.index("--format") + 1] if "--format" in argv else "onnx"
    return FORMATS[kind][2](Path(f"{RUN}{FORMATS[kind][0]}").read_bytes())


@pytest.mark.parametrize("kind", QUICK)
def test_equals_the_run_at_every_size(run, kind):
    pytest.importorskip("onnxruntime")
    file, translate = exported("--format", kind), load(RUN, device="cpu")

    @settings(deadline=None, max_examples=12, derandomize=True)
    @given(st.integers(1, 3), st.integers(8, 150), st.integers(8, 150))
    def compare(batch, height, width):
        x = torch.rand(batch, 3, height, width) * 2 - 1
        y = file(x)
        assert y.shape == x.shape
        assert (y - translate(x)).abs().max() < 1e-3

    compare()


@pytest.mark.parametrize("kind", QUICK)
def test_images_in_images_out(run, kind, capsys):
    pytest.importorskip("onnxruntime")
    file, translate = exported("--format", kind, "--images"), load(RUN, device="cpu")
    assert "in [-1, 1], at 5 sizes" in capsys.readouterr().out
    images = np.stack([picture(101, 67, seed=i) for i in range(2)])
    if kind == "onnx":
        as_the_page_says()
    made = file(torch.from_numpy(images)).numpy()
    assert (made.dtype, made.shape) == (np.uint8, images.shape)
    assert max(abs(one.astype(int) - translate(image)).max() for one, image in zip(made, images, strict=True)) <= 1


def as_the_page_says():
    """Do what docs/using.md does in onnxruntime."""
    page = (ROOT / "docs/using.md").read_text()
    code = next(block.split("```")[0] for block in page.split("```python\n") if "onnxruntime.InferenceSession" in block)
    Path(f"{RUN}.onnx").rename("images.onnx")
    Image.fromarray(picture(90, 70)).save("photo.jpg")
    exec(compile(code, "page", "exec"), {})
    assert Image.open("zebra.png").size == (90, 70)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_half_precision_and_metadata(run, kind):
    pytest.importorskip("onnxruntime")
    file = exported("--format", kind, "--half", "--licence", "CC-BY-4.0")
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    assert (file(x.half()).float() - load(RUN, device="cpu")(x)).abs().max() < 1e-2
    path = f"{RUN}{FORMATS[kind][0]}"
    if kind == "onnx":
        import onnxruntime

        facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    else:
        extra = {"metadata.json": ""}
        if kind == "torchscript":
            torch.jit.load(path, _extra_files=extra)
        else:
            torch.export.load(path, extra_files=extra)
        facts = json.loads(extra["metadata.json"])
    assert facts["run"] == RUN
    assert (facts["direction"], facts["input_nc"], facts["range_in"]) == ("AtoB", "3", "0:255")
    assert (facts["licence"], facts["input"]) == ("CC-BY-4.0", "(N, C, H, W), -1..1")


def test_dropout_is_off_and_said_so(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "batch")
    file = exported("--format", "torchscript", "--eval")
    assert "dropout" not in capsys.readouterr().err
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert torch.equal(file(x)[0], file(x[:1])[0])
    assert main([RUN, "--format", "torchscript", "--overwrite"]) == 0
    assert "dropout, which the file leaves out" in capsys.readouterr().err


def test_one_line_for_what_can_not_be_done(run, monkeypatch):
    Path(f"{RUN}.pt").write_text("mine")
    with pytest.raises(UsageError, match=r"experiment_name.pt exists; name another --out"):
        main([RUN, "--format", "torchscript"])
    assert Path(f"{RUN}.pt").read_text() == "mine"
    with pytest.raises(UsageError, match="there is no run nope"):
        main(["nope"])
    import image_translation.export as export

    wrong = (".pt", export.write_torchscript, lambda content: lambda x: torch.jit.load(io.BytesIO(content))(x) + 0.01)
    monkeypatch.setitem(export.FORMATS, "torchscript", wrong)
    with pytest.raises(UsageError, match=r"other.pt is not written: it would differ from the run by 0.01"):
        main([RUN, "--format", "torchscript", "--out", "other.pt"])
    assert not Path("other.pt").exists()
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r'--format onnx needs an extra .*pip install -e "\.\[export\]"'):
        main([RUN])


def test_a_network_that_can_not_be_exported(run, monkeypatch):
    def translate(self, x):
        return self.model(x) if float(x.mean()) < 9 else x

    monkeypatch.setattr(UnetGenerator, "translate", translate)
    with pytest.raises(UsageError, match="UnetGenerator can't be exported as pt2"):
        main([RUN, "--format", "pt2"])
    assert not Path(f"{RUN}.pt2").exists()


@pytest.mark.parametrize("name", ["resnet_2blocks", "unet_32"])
def test_plain_networks_are_scripted_traced_and_exported(name):
    net = define_G(3, 2, 4, name, "instance", init_type="xavier", init_gain=1.0).eval().requires_grad_(False)
    scripted, traced = torch.jit.script(net), torch.jit.trace(net, torch.rand(1, 3, 128, 128))
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {0: dynamic, 2: dynamic, 3: dynamic}
    program = torch.export.export(net, (torch.rand(2, 3, 97, 131),), dynamic_shapes=(shapes,))
    for size in ((101, 131), (64, 70), (33, 200)):
        x = torch.rand(2, 3, *size)
        for made in (scripted, traced, program.module()):
            assert (made(x) - net(x)).abs().max() < 1e-5


def test_registered_networks_are_scripted():
    for name in GENERATORS:
        torch.jit.script(without_parametrizations(generator(1, 1, 1, name, "batch")))
    for name in ("basic", "n_layers", "pixel"):
        torch.jit.script(define_D(1, 1, name))




@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("objective", ["pix2pix", "ccgan"])
def test_the_file_of_a_completion_takes_the_hole_as_a_channel(domains, kind, objective):
    pytest.importorskip("onnxruntime")
    run_train("--model", "completion", "--dataroot", domains + "/trainA", "--norm", "instance", "--val_freq", "0",
              "--objective", objective)
    file = exported("--format", kind)
    x = torch.rand(1, 4, 64, 48) * 2 - 1
    x[:, 3] = -1
    x[:, 3, 10:30, 5:20] = 1
    completed = file(x)
    changed = (completed - x[:, :3]).abs().amax(1)[0] > 1e-6
    assert changed[10:30, 5:20].all()
    assert changed.sum() == 20 * 15


@pytest.mark.parametrize("kind", [pytest.param("onnx", marks=pytest.mark.slow), "torchscript"])
def test_the_file_of_a_colorization_takes_hints_as_channels_and_gives_colours(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    write(tmp_path / "photos/train/0.png", picture())
    run_train("--model", "colorization", "--dataroot", "photos", "--val_freq", "0", "--no_dropout", "--hints", "3",
              "--chroma", "classes")
    assert exported("--format", kind)(torch.zeros(1, 4, 64, 48)).shape == (1, 2, 64, 48)
    with pytest.raises(UsageError, match="whose networks see images, and this one sees their lightness"):
        main([RUN, "--format", kind, "--images", "--overwrite"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize(("model", "more"), [
    pytest.param("bridge", ("--netG", "adm_small", "--ngf", "4", "--steps", "3"), marks=pytest.mark.slow),
    ("bicycle_gan", ("--netG", "latent_unet_32", "--nef", "2"))])
def test_a_model_that_gives_its_generator_more_than_an_image_is_one_graph(strips, kind, model, more):
    pytest.importorskip("onnxruntime")
    run_train("--model", model, "--dataroot", strips, *more)
    file = exported("--format", kind)
    assert file(torch.zeros(2, 3, 41, 66)).shape == (2, 3, 41, 66)
    if model == "bridge":
        x = torch.rand(1, 3, 40, 72) * 2 - 1
        assert (file(x) - Translator(RUN, device="cpu", options=["--deterministic"])(x)).abs().max() < 1e-3
