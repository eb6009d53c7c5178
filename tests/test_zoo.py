"""Each model plugin by itself: a step, its gradients, a resumed run, tests, a captured step."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, equal, picture, run_on, run_test, run_train, train_options, weights, write
from PIL import Image
from test_captured_step import assert_close, rerun, trained
from test_distributed import torchrun

from data import find_dataset_using_name
from models import create_model, find_model_using_name
from models.engine.state import networks
from networks.patchnce import patch_nce
from util.errors import UsageError
from util.plugins import plugin_names

NCE = ("--netG", "resnet_1blocks_blurpool", "--nce_layers", "4,8,12", "--num_patches", "64", "--netF_nc", "8")
MORE = {
    "bicycle_gan": ("--netG", "latent_unet_32", "--nef", "2", "--norm", "batch", "--batch_size", "2"),
    "bridge": ("--netG", "adm_small", "--ngf", "4", "--steps", "3"),
    "completion": ("--norm", "instance"), "cut": NCE, "dcl_gan": NCE,
    "discogan": ("--netG", "dcgan", "--netD", "dcgan"),
    "santa": ("--netG", "santa_2blocks"),
    "spade": ("--netG", "spade_2ups", "--n_layers_D", "2", "--batch_size", "2"),
    "super_resolution": ("--netG", "srresnet_1blocks", "--batch_size", "2", "--lambda_GAN", "0.01", "--scale", "2"),
    "stargan": ("--netG", "stargan_1blocks", "--n_layers_D", "3", "--batch_size", "2", "--n_critic", "2"),
    "pix2pix": ("--no_dropout",), "template": ("--no_dropout",), "colorization": ("--no_dropout",),
}
MODELS = [name for name in plugin_names("models", "model") if name != "test"]
ONE_SIDED = [name for name in MODELS if find_model_using_name(name).one_sided]
CAPTURABLE = [name for name in MODELS if vars(find_model_using_name(name)).get("capturable")]


@pytest.fixture
def data(tmp_path, strips, domains):
    """Model -> the arguments that train it on small data that suits it."""
    for phase in ("train", "test"):
        for i in range(4):
            write(tmp_path / "classes" / phase / ("blue", "red")[i % 2] / f"{i}.png", picture(seed=i))
        write(tmp_path / "photos" / phase / "0.png", picture())
    roots = {"stargan": "classes", "colorization": "photos", "completion": domains + "/trainA",
             "super_resolution": "photos"}

    def arguments(name):
        needs = vars(find_model_using_name(name)).get("needs")
        root = roots.get(name) or (strips if needs == "pairs" else domains)
        return ("--model", name, "--dataroot", root, "--val_freq", "0", *MORE.get(name, ()))
    return arguments


def batch(name, n):
    """Random images as a model's input."""
    channels = (1, 2) if name == "colorization" else (3, 3)
    sides = (32, 64) if name == "super_resolution" else (64, 64)
    images = {domain: torch.rand(n, channels[i], sides[i], sides[i]) * 2 - 1 for i, domain in enumerate("AB")}
    return {**images, "A_label": torch.eye(2)[torch.arange(n) % 2], "A_paths": ["a"] * n, "B_paths": ["b"] * n}


def options(name, data, *more):
    """Options of a model without its dataset, which would set the labels."""
    opt = train_options(*data(name), *more)
    if name == "stargan":
        opt.attributes, opt.exclusive = ["blue", "red"], True
    return opt


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name, data):
    opt = options(name, data)
    model = create_model(opt)
    model.setup(opt)
    model.set_input(batch(name, opt.batch_size))
    model.optimize_parameters()
    lacking = [f"{net}.{key}" for net, module in networks(model).items()
               for key, p in module.named_parameters() if p.grad is None]
    assert not lacking
    assert all(torch.isfinite(torch.tensor(value)) for value in model.get_current_losses().values())


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_is_the_run(name, data):
    whole = run_train(*data(name), "--n_epochs", "2", "--name", "whole", "--no_html")
    run_train(*data(name), "--n_epochs", "1", "--name", "parts", "--no_html")
    parts = run_on("--name", "parts", "--n_epochs", "2")
    assert equal(weights(whole), weights(parts))


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_tests_and_shows(name, data):
    argv = data(name)
    run_train(*argv, "--display_samples", "1", "--accumulate", "2")
    points = [json.loads(line) for line in Path("checkpoints/experiment_name/loss_log.jsonl").read_text().splitlines()]
    assert all(abs(value) < float("inf") for point in points for value in point.get("losses", {}).values())
    page = json.loads(Path("checkpoints/experiment_name/web/page.json").read_text())
    assert "fake" in json.dumps(page)
    assert run_test("--model", name, "--dataroot", argv[3], "--name", "experiment_name") == 0
    made = list(Path("results/experiment_name/test_latest/images").rglob("*_fake_*.png"))
    assert made
    if name in ONE_SIDED:
        assert run_test("--name", "experiment_name", "--dataroot", "domains/testA") == 0
        assert len(list(Path("results/experiment_name/test_latest/images").glob("*_fake.png"))) == 3


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name == "spade" else name
                                  for name in CAPTURABLE])
def test_a_captured_step_is_the_step(name, data, capsys):
    opt = options(name, data)
    torch.manual_seed(0)
    batches = [batch(name, opt.batch_size) for _ in range(10)]
    plain, _, _ = trained(opt, batches)
    replayed, step, _ = trained(opt, batches, record=rerun)
    assert len(step.recorded) == (2 if opt.n_critic > 1 else 1), capsys.readouterr()
    assert_close(plain, replayed)


KIT = [
    ("pix2pix", "--n_critic", "2", "--norm", "batch", "--r1", "1", "--gp", "1", "--penalty_every", "3"),
    ("pix2pix", "--netD", "deviation", "--spectral_norm"),
    ("pix2pix", "--gan_mode", "relativistic", "--diffaugment", "color,translation,cutout,flip,affine"),
    ("pix2pix", "--gan_mode", "began", "--netD", "autoencoder"),
    ("pix2pix", "--netD", "dcgan", "--reconstruction", "l1,frequency:0.5,gradient"),
]
SLOW = [
    ("cycle_gan", "--n_critic", "2", "--norm", "batch", "--ema", "0.9"),
    ("cycle_gan", "--spectral_norm", "--gan_mode", "hinge", "--lr_D", "0.0001"),
    ("cycle_gan", "--netD", "deviation"),
    ("cycle_gan", "--netD", "multiscale", "--n_layers_D", "2", "--lambda_feature", "1"),
    ("cycle_gan", "--netG", "vit_unet_2blocks", "--ngf", "8"),
]
KIT += [pytest.param(words, marks=pytest.mark.slow) for words in SLOW]


@pytest.mark.parametrize("words", KIT, ids=" ".join)
def test_with_each_option_of_the_kit_a_run_resumes_and_its_step_is_captured(words, data, capsys):
    argv = (*data(words[0]), *words[1:])
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole", "--no_html")
    run_train(*argv, "--n_epochs", "1", "--name", "parts", "--no_html")
    assert equal(weights(whole), weights(run_on("--name", "parts", "--n_epochs", "2")))
    opt = train_options(*argv)
    torch.manual_seed(0)
    batches = [batch(words[0], 1) for _ in range(26 if "--penalty_every" in words else 10)]
    plain, _, _ = trained(opt, batches)
    replayed, step, _ = trained(opt, batches, record=rerun)
    kinds = 4 if "--penalty_every" in words else 2 if "--n_critic" in words else 1
    assert len(step.recorded) == kinds, capsys.readouterr()
    assert_close(plain, replayed)


ALL = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
import torch, train
from util.distributed import joined

with joined(torch.device("cpu")):
    for words in json.load(open("words.json")):
        train.train(train.parse(words))
"""


@pytest.mark.slow
def test_two_processes(data):
    """One job trains every model: to start the processes takes longer than to train."""
    Path("words.json").write_text(json.dumps([(*TINY, *data(name), "--name", name) for name in MODELS]))
    Path("all.py").write_text(ALL)
    done = torchrun(Path("all.py").resolve())
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.parent.name for path in Path("checkpoints").glob("*/latest_net_G*.pth")} == {*MODELS}


# Each model's own losses, from plain writings of their equations.

def made(name, *more):
    opt = train_options("--model", name, "--dataroot", "x", *MORE.get(name, ()), *more)
    if name == "stargan":
        opt.attributes, opt.exclusive = ["blue", "red"], "--exclusive" in more
    model = create_model(opt).double()
    model.set_input({key: value.double() if torch.is_tensor(value) else value
                     for key, value in batch(name, opt.batch_size).items()})
    model.forward()
    return model


def losses(model):
    return {key: value.item() for key, value in
            ((name, getattr(model, f"loss_{name}")) for name in model.loss_names)}


def test_cut_is_its_equation():
    """lambda_GAN (D(G(A)) - 1)^2 + lambda_NCE / 2 (NCE(A, G(A)) + NCE(B, G(B))); FastCUT: 10 NCE, mirrored back."""
    model = made("cut", "--lambda_GAN", "3", "--lambda_NCE", "4")
    parts = [loss.item() for loss in model.generator_losses()]
    contrast = model.contrast(model.netG, model.netF, model.fake_B, model.keys)
    assert losses(model)["G_GAN"] == pytest.approx(3 * (model.netD(model.fake_B) - 1).square().mean().item())
    assert losses(model)["NCE"] == pytest.approx(2 * contrast.item())
    assert parts == [pytest.approx(losses(model)["G_GAN"] + losses(model)["NCE"]), losses(model)["NCE_Y"]]
    fast = made("cut", "--CUT_mode", "FastCUT", "--batch_size", "2")
    fast.turned = torch.tensor([True, False]).view(2, 1, 1, 1)
    keys = fast.contrast.keys(fast.netG, fast.real_A)
    found = fast.contrast(fast.netG, fast.netF, fast.fake_B, keys, turned=fast.turned)
    layers = fast.netG.features(fast.fake_B, fast.opt.nce_layers, lambda y: torch.cat((y[:1].flip(3), y[1:])))
    queries = [y.flatten(2)[:, :, place].transpose(1, 2) for y, place in zip(layers, keys.places, strict=True)]
    assert found.item() == pytest.approx(patch_nce(fast.netF(queries), fast.netF(keys.features)).item())
    sum(fast.generator_losses()).backward()
    assert fast.loss_names == ["G_GAN", "NCE"]


def test_dcl_gan_looks_through_the_other_encoder():
    """0.5 (GAN + lambda_NCE NCE + lambda_IDT L1); queries of G_A(A) by G_B and F_B, keys of A by G_A and F_A."""
    model = made("dcl_gan", "--lambda_IDT", "3")
    total = model.generator_loss().item()
    found = losses(model)
    assert total == pytest.approx(0.5 * sum(found.values()))
    places = iter(model.keys_A.places)
    queries = model.netG_B.features(model.fake_B, model.opt.nce_layers,
                                    lambda y: y.flatten(2)[:, :, next(places)].transpose(1, 2))
    expected = patch_nce(model.netF_B(queries), model.netF_A(model.keys_A.features))
    assert found["NCE_A"] == pytest.approx(2 * expected.item())
    assert found["idt_A"] == pytest.approx(3 * (model.netG_A(model.real_B) - model.real_B).abs().mean().item())


def test_santa_is_its_equation():
    """The path energy of a decoder that moves with speed v along the path is v^2, whatever the points drawn."""
    model = made("santa", "--lambda_path", "1")
    model.netG.inner = lambda z, place: [3 * place[:, :, None, None].expand(-1, 4, 2, 2)] * 5
    energies = [model.path_energy().item() for _ in range(50)]  # points are at least 0.1 apart unless at an end
    assert max(energies) == pytest.approx(9)
    assert min(energies) < 9 + 1e-6
    model.generator_loss()
    assert losses(model)["latent"] == pytest.approx(0.01 * model.codes.square().mean().item())
    assert losses(model)["rec"] == pytest.approx(5 * (model.rec_A - model.real_A).abs().mean().item())
    assert losses(model)["idt"] == pytest.approx(5 * (model.idt_B - model.real_B).abs().mean().item())


def test_santa_translates_from_the_end_of_its_path():
    model = made("santa")
    z = model.netG.encode(model.real_A)
    ends = [model.netG.decode(z, torch.full((1, 1), place).double()) for place in (0.0, 1.0)]
    assert torch.equal(model.netG(model.real_A), ends[1])
    assert not torch.equal(*ends)


@pytest.mark.parametrize("more", [(), ("--exclusive",)])
def test_stargan_is_its_equation(more):
    model = made("stargan", *more)
    logits, label = model.netD.classify(model.real_A).detach().numpy(), model.label_A.numpy()
    if more:
        expected = -(label * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()
        assert model.label_B.sum(1).tolist() == [1, 1]
    else:
        expected = (np.log1p(np.exp(logits)) - label * logits).sum(1).mean()
        assert (model.label_B - model.label_A).abs().sum(1).tolist() == [1, 1]
    assert model.cross_entropy(model.real_A, model.label_A).item() == pytest.approx(expected)
    model.generator_loss()
    assert losses(model)["G_rec"] == pytest.approx(10 * (model.rec_A - model.real_A).abs().mean().item())


def test_dualgan_clips_its_critics():
    model = made("dualgan", "--clip", "0.003")
    assert all(isinstance(o, torch.optim.RMSprop) for o in model.optimizers)
    model.optimize_parameters()
    assert max(p.abs().max() for net in (model.netD_A, model.netD_B) for p in net.parameters()) == 0.003
    assert max(p.abs().max() for p in model.netG_A.parameters()) > 0.003


def test_masked_hides_patches_and_others_start_from_it(domains, capsys):
    model = made("masked", "--patch", "16", "--hidden", "0.5")
    kept = model.hidden_A == model.real_A
    patches = kept[0].unfold(1, 16, 16).unfold(2, 16, 16).flatten(3)
    assert all(patch.all() or not patch.any() for patch in patches.flatten(0, 2))
    assert 0 < kept.double().mean() < 1
    model.set_input({**batch("masked", 1), "repeated": "B"})
    model.float().forward()
    assert model.fake_B is model.hidden_B is None  # not those of the input before
    run_train("--model", "masked", "--dataroot", domains, "--name", "filled", "--val_freq", "0")
    run_train("--model", "cycle_gan", "--dataroot", domains, "--init_from", "filled", "--val_freq", "0", "--lr", "0")
    out = capsys.readouterr().out
    for name in ("G_A", "G_B"):
        assert f"network {name}: 100.0%" in out
        states = [torch.load(f"checkpoints/{file}.pth", weights_only=True) for file in
                  (f"experiment_name/latest_net_{name}", "filled/latest_net_G_any")]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_generator_of_the_public_cut_loads(tmp_path):
    """Its keys and shapes: padding 0, convolutions 1, 4, 8, blocks 12 to 20, 22, 26, 30; blurs 7, 11, 21, 25."""
    from networks import define_G
    from networks.architecture import describe

    with torch.device("meta"):
        state = define_G(3, 3, 64, "resnet_9blocks_blurpool", "instance").state_dict()
    expected = {"model.1": (64, 3, 7, 7), "model.4": (128, 64, 3, 3), "model.8": (256, 128, 3, 3),
                **{f"model.{i}.conv_block.{j}": (256, 256, 3, 3) for i in range(12, 21) for j in (1, 5)},
                "model.22": (128, 256, 3, 3), "model.26": (64, 128, 3, 3), "model.30": (3, 64, 7, 7)}
    filters = {"model.7": (128, 1, 3, 3), "model.11": (256, 1, 3, 3), "model.21": (256, 1, 4, 4),
               "model.25": (128, 1, 4, 4)}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes == {**{f"{key}.weight": shape for key, shape in expected.items()},
                      **{f"{key}.bias": shape[:1] for key, shape in expected.items()},
                      **{f"{key}.filt": shape for key, shape in filters.items()}}
    assert describe(state) == {"netG": "resnet_9blocks_blurpool", "input_nc": 3, "output_nc": 3, "ngf": 64,
                               "norm": "instance", "no_dropout": True}


def test_chroma_as_classes_is_exact_for_every_colour():
    """Shares of the four nearest centres, whose mean is the colour; the loss is their cross-entropy."""
    from networks.colour_classes import CLASSES, STEEPNESS, class_loss, decoded, encoded

    ab = torch.rand(2, 2, 5, 4) * 2 - 1
    shares = encoded(ab)
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12))
    assert torch.allclose(torch.einsum("nchw,cd->ndhw", shares, grid), ab, atol=1e-5)
    assert torch.allclose(shares.sum(1), torch.ones(2, 5, 4), atol=1e-5)
    assert (shares > 0).sum(1).max() <= 4
    logits = torch.randn(2, CLASSES, 5, 4) / 10
    expected = -(shares * (STEEPNESS * logits).log_softmax(1)).sum(1).mean()
    assert class_loss(logits, ab).item() == pytest.approx(expected.item(), rel=1e-5)
    one = -torch.ones(1, CLASSES, 1, 1)
    one[0, 40] = 1
    assert torch.allclose(decoded(one)[0, :, 0, 0], grid[40], atol=1e-4)


@pytest.mark.parametrize("chroma", ["l1", "classes"])
def test_hints_are_points_of_the_true_colours_or_of_a_folder(chroma, data):
    argv = (*data("colorization"), "--hints", "5", "--chroma", chroma)
    model = create_model(train_options(*argv))
    model.set_input(batch("colorization", 3))
    seen = set()
    for _ in range(20):
        model.forward()
        places = model.hints[:, 2:]
        assert torch.equal(model.hints[:, :2], places * model.real_B)
        seen |= set(places.sum((1, 2, 3)).int().tolist())
    assert 0 in seen
    assert max(seen) <= 45
    write(Path("photos/val/0.png"), picture(seed=9))
    run_train(*argv, "--val_freq", "1")
    images = Path("results/experiment_name/test_latest/images")
    shown = []
    Path("hints/test").mkdir(parents=True)
    points = np.zeros((64, 64, 4), np.uint8)
    points[30:33, 10:13] = (255, 0, 0, 255)
    write(Path("hints/test/0.png"), points)
    for more in ((), ("--points", "4"), ("--points", "hints")):
        assert run_test("--model", "colorization", "--dataroot", "photos", *more) == 0
        shown.append([np.asarray(Image.open(images / f"0_{label}.png")).astype(int) for label in
                      ("hinted_A", "fake_B_rgb")])
    coloured = [np.ptp(hinted, axis=2) > 40 for hinted, _ in shown]
    assert not coloured[0].any()
    assert 9 <= coloured[1].sum() <= 36
    assert coloured[2].sum() == 9
    assert coloured[2][31, 11]
    assert (shown[0][1] != shown[2][1]).any()
    write(Path("hints/test/0.png"), points[:, :, :3])
    assert run_test("--model", "colorization", "--dataroot", "photos", "--points", "hints") != 0


def test_points_need_a_run_that_sees_them(data):
    with pytest.raises(UsageError, match="--points 3 is for runs trained with --hints"):
        create_model(train_options(*data("colorization"), "--points", "3"))
    opt = train_options(*data("colorization"), "--hints", "2", "--points", "nowhere")
    with pytest.raises(UsageError, match="--points nowhere: nowhere is not a folder"):
        find_dataset_using_name("colorization")(opt)
