"""GAN objectives and the penalty against closed forms; the image pool's statistics."""

import pytest
import torch
from torch import nn

from networks import OBJECTIVES, GANLoss, cal_gradient_penalty
from util.errors import UsageError
from util.image_pool import ImagePool

SCORES = torch.tensor([[-2.0, 0.5], [0.0, 3.0]])
EXPECTED = {  # mode -> (D on real, D on fake, G)
    "vanilla": (
        nn.functional.softplus(-SCORES).mean(),
        nn.functional.softplus(SCORES).mean(),
        nn.functional.softplus(-SCORES).mean(),
    ),
    "lsgan": ((SCORES - 1).square().mean(), SCORES.square().mean(), (SCORES - 1).square().mean()),
    "hinge": (torch.tensor(4.5 / 4), torch.tensor(6.5 / 4), -SCORES.mean()),
    "wgan": (-SCORES.mean(), SCORES.mean(), -SCORES.mean()),
    "wgangp": (-SCORES.mean(), SCORES.mean(), -SCORES.mean()),
    "began": (SCORES.mean(), SCORES.mean(), SCORES.mean()),
}


@pytest.mark.parametrize("mode", EXPECTED)
def test_objective(mode):
    loss = GANLoss(mode)
    ours = loss(SCORES, True), loss(SCORES, False), loss(SCORES, True, for_discriminator=False)
    torch.testing.assert_close(torch.stack(ours), torch.stack(EXPECTED[mode]))


def test_every_objective_is_tested():
    assert {*OBJECTIVES} == {*EXPECTED, "relativistic"}


@pytest.mark.parametrize("mode", [mode for mode in OBJECTIVES if mode != "began"])
def test_discriminator_loss_leaves_the_generator_alone_and_has_the_penalty(mode):
    net = nn.Conv2d(3, 1, 4)
    fake = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss, terms = GANLoss(mode).discriminator(net, torch.randn(2, 3, 8, 8), fake)
    loss.backward()
    assert fake.grad is None
    assert net.weight.grad.abs().sum() > 0
    assert ("gp" in terms) == (mode == "wgangp")
    torch.testing.assert_close(loss, (1 if mode in ("wgan", "wgangp") else 0.5) * sum(terms.values()))


def test_gradient_penalty_of_a_linear_critic():
    """D(x) = w x has the gradient w everywhere, so the penalty is lambda (|w| - 1)^2."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    real, fake = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    expected = 10 * (critic[1].weight.norm() - 1) ** 2
    for kind in ("real", "fake", "mixed"):
        penalty, gradients = cal_gradient_penalty(critic, real, fake, "cpu", type=kind)
        torch.testing.assert_close(penalty, expected, rtol=1e-4, atol=1e-6)
        assert gradients.shape == (4, 12)
    assert cal_gradient_penalty(critic, real, fake, "cpu", lambda_gp=0)[0] == 0
    with pytest.raises(UsageError, match="mixd"):
        cal_gradient_penalty(critic, real, fake, "cpu", type="mixd")


def test_pool_gives_half_from_the_past_and_never_grows():
    pool = ImagePool(50)
    first = torch.arange(50.0).reshape(50, 1, 1, 1)
    assert torch.equal(pool.query(first), first)
    answers = torch.cat([pool.query(torch.full((1, 1, 1, 1), 1000.0 + i)) for i in range(2000)]).flatten()
    new = (answers == 1000 + torch.arange(2000)).float().mean().item()
    assert new == pytest.approx(0.5, abs=0.05)
    assert len(pool.images) == 50
    images = torch.randn(3, 1, 2, 2, requires_grad=True)
    assert ImagePool(0).query(images) is images
    assert not ImagePool(2).query(images).requires_grad
