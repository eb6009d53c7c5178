"""The kit for discriminators and the losses of the zoo against closed forms and plain NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import train_options
from torch import nn

from models import create_model
from networks import AUGMENTATIONS, GANLoss, cal_gradient_penalty, define_D
from networks.augment import augmented
from networks.distances import Distance, vgg
from networks.losses import feature_distance, judge
from networks.patchnce import Contrast, patch_nce
from util.errors import UsageError


def images(n=2, size=16, channels=3, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def critic(size=4):
    """Linear, so that its gradient is its weight everywhere."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 1)).double()


@pytest.mark.parametrize("every", [1, 4])
def test_zero_centred_penalties_of_a_linear_critic(every):
    """r1: gamma / 2 |w|^2, its gradient gamma w; gp: weight |w|^2; both as many times as steps are left out."""
    real, fake, net = images(size=4), images(size=4, seed=1), critic()
    loss, terms = GANLoss("lsgan", r1=3.0, gp=0.5, penalty_every=every).discriminator(net, real, fake)
    square = net[1].weight.square().sum()
    torch.testing.assert_close(terms["r1"], every * 1.5 * square)
    torch.testing.assert_close(terms["gp"], every * 0.5 * square)
    torch.testing.assert_close(loss, 0.5 * sum(terms.values()))
    found, = torch.autograd.grad(terms["r1"], net[1].weight)
    torch.testing.assert_close(found, every * 3.0 * net[1].weight)
    found, = torch.autograd.grad(terms["gp"], net[1].weight)
    torch.testing.assert_close(found, every * net[1].weight)
    lazy = GANLoss("lsgan", r1=3.0, penalty_every=every, due=lambda n: False)
    assert "r1" not in lazy.discriminator(net, real, fake)[1]


def test_a_penalty_of_patches_is_that_of_their_mean():
    net = nn.Conv2d(3, 1, 1, bias=False).double()
    _, terms = GANLoss("lsgan", r1=2.0).discriminator(net, images(), images(seed=1))
    torch.testing.assert_close(terms["r1"], net.weight.square().sum() / 16 ** 2)


def sigmoid_cross_entropy(x, target):
    return float(np.mean(np.log1p(np.exp(-x)) if target else np.log1p(np.exp(x))))


def test_relativistic_against_numpy():
    net, real, fake = critic(), images(size=4), images(size=4, seed=1)
    loss = GANLoss("relativistic")
    r, f = (net(x).detach().numpy() for x in (real, fake))
    _, terms = loss.discriminator(net, real, fake)
    assert terms["real"].item() == pytest.approx(sigmoid_cross_entropy(r - f.mean(), True))
    assert terms["fake"].item() == pytest.approx(sigmoid_cross_entropy(f - r.mean(), False))
    expected = 0.5 * (sigmoid_cross_entropy(f - r.mean(), True) + sigmoid_cross_entropy(r - f.mean(), False))
    assert loss.generator(net, fake, real)["G"].item() == pytest.approx(expected)
    with pytest.raises(UsageError, match="scores them separately"):
        loss(torch.zeros(1), True)
    with pytest.raises(UsageError, match="gives GANLoss.generator none"):
        loss.generator(net, fake)


def test_energies_and_their_balance():
    """L_D = L(x) - k L(G); k grows by 0.001 (gamma L(x) - L(G)), within 0 and 1 (Berthelot et al. 2017, equation 5)."""
    net = define_D(3, 4, "autoencoder", 2, "none").double()
    net.balance.fill_(0.4)
    real, fake = images(size=32), images(size=32, seed=1)
    on_real, on_fake = (net(x).mean().item() for x in (real, fake))
    loss, terms = GANLoss("began", gamma=0.7).discriminator(net, real, fake)
    assert loss.item() == pytest.approx(on_real - 0.4 * on_fake)
    assert float(net.balance) == pytest.approx(0.4 + 0.001 * (0.7 * on_real - on_fake))
    assert terms["balance"].item() == pytest.approx(on_real + abs(0.7 * on_real - on_fake))
    assert GANLoss("began").generator(net, fake)["G"].item() == pytest.approx(on_fake)
    with pytest.raises(UsageError, match="--netD autoencoder"):
        GANLoss("began").discriminator(critic(), images(size=4), images(size=4))


def test_spectral_norm_is_the_largest_singular_value():
    net = define_D(3, 4, "basic", norm="none", init_gain=1.0, spectral_norm=True)
    for _ in range(300):
        net(images(1, 32).float())
    for layer in net.eval().modules():
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, abs=1e-3)


def test_two_scales_are_a_patchgan_of_the_image_and_of_half_of_it():
    net, x = define_D(3, 2, "multiscale", 2).eval(), images(1, 64).float()
    half = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    for found, expected in zip(net(x), (net.scales[0](x), net.scales[1](half)), strict=True):
        torch.testing.assert_close(found, expected)
    loss = GANLoss("lsgan")
    torch.testing.assert_close(loss(net(x), True), sum((y - 1).square().mean() for y in net(x)) / 2)


def test_feature_matching_of_pairs_and_of_means():
    net, fake, real = define_D(3, 2, "multiscale", 2, "none").double(), images(2, 64), images(2, 64, seed=1)
    ours, theirs = judge(net, fake, real, features=True)
    pairs = [(a.detach().numpy(), b.detach().numpy()) for x, y in zip(ours, theirs, strict=True)
             for a, b in zip(x[:-1], y[:-1], strict=True)]
    assert len(pairs) == 6
    by_pixel = np.mean([np.abs(a - b).mean() for a, b in pairs])
    by_mean = np.mean([np.abs(a.mean((0, 2, 3)) - b.mean((0, 2, 3))).mean() for a, b in pairs])
    for paired, expected in ((True, by_pixel), (False, by_mean)):
        assert feature_distance(ours, theirs, paired).item() == pytest.approx(expected)
        found = GANLoss("lsgan", lambda_feature=3.0).generator(net, fake, real, "G_A", paired)
        assert found["G_A_feature"].item() == pytest.approx(3 * expected)


def test_the_deviation_of_an_image_from_the_last_ones_of_its_kind():
    net = define_D(3, 2, "deviation", 2, "none").double()
    seen = []
    net.head.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, -1]))
    history = [images(1, 32, seed=i) for i in range(6)]
    bodies = [net.body(x).detach().numpy() for x in history]
    for i, x in enumerate(history):
        net(x, past="fake", learning=True)
        past = [bodies[max(j, 0)] for j in range(i - 3, i)]
        expected = np.sqrt(np.var([bodies[i], *past], axis=0) + 1e-8).mean()
        np.testing.assert_allclose(seen[-1].detach().numpy(), expected, rtol=1e-6)
    before = net.past_fake.clone()
    net(history[0], past="fake")
    assert torch.equal(net.past_fake, before)  # only what the discriminator learns from is remembered
    assert net.past_real.numel() == 0
    x, past = images(1, 32, seed=9).requires_grad_(), net.past_fake
    found = cal_gradient_penalty(net, x, x, "cpu", "real")[1]  # of what the critic computes, which sees the past
    assert torch.equal(found, torch.autograd.grad(net(x, past="fake").sum(), x)[0].flatten(1))
    assert not torch.equal(found, torch.autograd.grad(net(x).sum(), x)[0].flatten(1))
    assert net.past_fake is past


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_are_drawn_for_each_image_and_have_gradients(name):
    x = images(4, 32).float().requires_grad_()
    y = augmented(x, [name])
    assert y.shape == x.shape
    assert not torch.equal(y, augmented(x, [name]))
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_augmentations_by_hand():
    x = images(8, 16).float()
    for image, moved in zip(x, augmented(x, ["translation"]), strict=True):
        found = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
                 if torch.equal(F.pad(image, (2, 2, 2, 2))[:, 2 + dy:18 + dy, 2 + dx:18 + dx], moved)]
        assert found
    for image, flipped in zip(x, augmented(x, ["flip"]), strict=True):
        assert torch.equal(flipped, image) or torch.equal(flipped, image.flip(2))
    for image, holed in zip(x, augmented(x, ["cutout"]), strict=True):
        hole = (holed == 0).all(0)
        assert torch.equal(holed[:, ~hole], image[:, ~hole])
        assert 16 <= hole.sum() <= 64
    grey = x.mean(1, keepdim=True).expand_as(x)  # has no saturation: brightness and contrast are one affine map
    for image, other in zip(grey, augmented(grey, ["color"]), strict=True):
        slope = (other[0, 0, 0] - other[0, 5, 5]) / (image[0, 0, 0] - image[0, 5, 5])
        torch.testing.assert_close(other - other.mean(), (image - image.mean()) * slope, rtol=1e-3, atol=1e-4)
        assert 0.5 <= slope <= 1.5


def test_the_contrast_of_patches_against_numpy():
    queries, keys = [[torch.randn(2, n, 5).double() for n in (7, 4)] for _ in range(2)]
    losses = []
    for q, k in zip(queries, keys, strict=True):
        for a, b in zip(q.numpy(), k.numpy(), strict=True):
            a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
            scores = np.exp(a @ b.T / 0.07)
            losses.append(np.mean(-np.log(np.diag(scores) / scores.sum(1))))
    assert float(patch_nce(queries, keys)) == pytest.approx(np.mean([np.mean(losses[:2]), np.mean(losses[2:])]))


def test_queries_are_taken_where_keys_were():
    from networks import define_G

    net = define_G(3, 3, 2, "resnet_1blocks_blurpool", "instance").eval()
    contrast, x = Contrast([0, 4, 12], 20, 0.07), images(2, 32).float()
    fake, keys = contrast.translate(net, x)
    assert torch.equal(fake, net(x))
    assert all(len(place.unique()) == 20 for place in keys.places)
    again = net.features(x, [0, 4, 12], lambda y: y.flatten(2))
    for place, feature, layer in zip(keys.places, keys.features, again, strict=True):
        assert torch.equal(feature, layer[:, :, place].transpose(1, 2))


@pytest.mark.parametrize(("argv", "message"), [
    (("--netG", "unet_64"), "--netG unet_64 does not give the features of its layers"),
    (("--netG", "resnet_2blocks", "--nce_layers", "0,40"), "--nce_layers 0,40 are not layers of --netG resnet_2blocks"),
    (("--netG", "resnet_2blocks", "--nce_layers", "4,0"), "in ascending order, which has 0 to 20"),
    (("--netG", "resnet_2blocks", "--nce_layers", "x"), "'x' is not whole numbers from 0"),
    (("--gan_mode", "began"), "--gan_mode began and --netD autoencoder go together"),
    (("--gan_mode", "wgangp", "--r1", "1"), "--r1 and --gp are of no use"),
    (("--gan_mode", "wgan"), "--gan_mode wgan needs a discriminator kept in bounds"),
    (("--diffaugment", "colour"), "Did you mean 'color'"),
    (("--reconstruction", "l3"), "Unknown distance 'l3'"),
    (("--reconstruction", "l1:x"), "write l1:0.5"),
    (("--crops", "4", "--preprocess", "resize"), "--crops 4 takes random crops"),
])
def test_bad_input_is_one_line(argv, message):
    with pytest.raises(UsageError) as error:
        create_model(train_options("--model", "cut", "--dataroot", "x", *argv))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rate_of_its_own_and_fewer_steps_of_the_generator():
    opt = train_options("--model", "pix2pix", "--dataroot", "x", "--lr_D", "0.004", "--lr", "0.001", "--n_critic", "3")
    model = create_model(opt)
    assert [group["lr"] for o in model.optimizers for group in o.param_groups] == [0.001, 0.004]
    moved = []
    for _ in range(6):
        before = [next(net.parameters()).clone() for net in (model.netG, model.netD)]
        model.set_input({"A": images(1, 64).float(), "B": images(1, 64, seed=1).float(), "A_paths": [""]})
        model.optimize_parameters()
        moved.append([not torch.equal(a, next(net.parameters()))
                      for a, net in zip(before, (model.netG, model.netD), strict=True)])
    assert moved == [[True, True], [False, True], [False, True]] * 2


def test_distances_against_numpy():
    x, y = images(2, 8), images(2, 8, seed=1)
    a, b = x.numpy(), y.numpy()
    spectrum = np.fft.fft2(a - b, norm="ortho")
    squares = np.abs(spectrum) ** 2
    weight = np.abs(spectrum) / np.abs(spectrum).max((2, 3), keepdims=True)
    expected = {"l1": np.abs(a - b).mean(), "l2": ((a - b) ** 2).mean(), "frequency": (weight * squares).mean(),
                "gradient": np.abs(np.diff(a - b, axis=2)).mean() + np.abs(np.diff(a - b, axis=3)).mean()}
    for name, value in expected.items():
        assert float(Distance([name])(x, y)) == pytest.approx(value), name
    both = Distance(["l1:2", "gradient:0.5"])(x, y)
    assert float(both) == pytest.approx(2 * expected["l1"] + 0.5 * expected["gradient"])


def test_perceptual_distance_of_a_small_extractor():
    """The first activation of each stage, weighted 1/2 and 1."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(4, 5, 3), nn.ReLU()).double()
    x, y = images(1, 16).requires_grad_(), images(1, 16, seed=1)
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    a, b = (((image + 1) / 2 - mean) / std for image in (x, y))
    expected = F.l1_loss(net[:2](a), net[:2](b)) / 4 + F.l1_loss(net(a), net(b))
    found = vgg(net, x, y)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert x.grad.abs().sum() > 0
    with pytest.raises(UsageError, match="the weights of vgg are unavailable"):
        Distance(["vgg"])
