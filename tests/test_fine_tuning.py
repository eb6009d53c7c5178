"""--init_from: other weights to start from."""

from pathlib import Path

import pytest
import torch
from conftest import equal, run_on, run_train, train_options

from models import create_model
from models.engine.saving import init_from
from models.engine.state import networks
from util.errors import UsageError

RUN = Path("checkpoints/experiment_name")


def test_a_new_run_starts_from_another_one(strips, capsys):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    first = run_train(*argv, "--name", "first", "--save_epoch_freq", "1")
    before = {path: path.read_bytes() for path in Path("checkpoints/first").rglob("*") if path.is_file()}
    capsys.readouterr()
    second = run_train(*argv, "--name", "second", "--init_from", "first", "--lr", "0")
    for kind in "GD":
        parameters = [dict(getattr(m, f"net{kind}").named_parameters()) for m in (first, second)]
        assert equal(parameters[0].values(), parameters[1].values())
    out = capsys.readouterr().out
    assert "network G: 100.0% (58 of 58 tensors) from checkpoints/first/latest_net_G.pth" in out
    assert {path: path.read_bytes() for path in before} == before
    run_on("--name", "second", "--n_epochs", "2")  # and does not start from it again
    run_train(*argv, "--name", "third", "--init_from", "checkpoints/first/1_net_G.pth")
    out = capsys.readouterr().out
    assert out.count("tensors) from") == 1
    assert "network D: no weights, starts afresh" in out


def test_a_cycle_starts_from_one_published_generator(domains, capsys):
    options = ("--dataroot", domains, "--netG", "resnet_6blocks", "--load_size", "40", "--crop_size", "32")
    cycle = create_model(train_options("--model", "cycle_gan", *options))
    torch.save(cycle.netG_B.state_dict(), "published.pth")
    init_from(networks(cycle), "published.pth", "checkpoints", "latest")
    assert equal(cycle.netG_A.state_dict().values(), cycle.netG_B.state_dict().values())
    assert "network G_B: no weights, starts afresh" in capsys.readouterr().out


@pytest.mark.parametrize(("source", "more", "message"), [
    ("frist", (), "checkpoints/frist does not exist. Did you mean 'first'?"),
    ("first", ("--epoch", "7"), "has no 7_net_*.pth (--epoch names another checkpoint)"),
    ("first", ("--continue_train", "--name", "first"), "give only one of them"),
    ("checkpoints/first/latest_state.pth", (), "is not the state_dict of one network"),
    ("checkpoints/first/loss_log.txt", (), "can't be read as a checkpoint"),
    ("empty.pth", (), "nothing in empty.pth fits this network"),
])
def test_weights_that_are_not_there_or_do_not_fit(strips, source, more, message):
    argv = ("--model", "pix2pix", "--dataroot", strips)
    run_train(*argv, "--name", "first")
    torch.save({"other.weight": torch.zeros(3)}, "empty.pth")
    with pytest.raises(UsageError) as error:
        run_train(*argv, "--init_from", source, *more)
    assert message in str(error.value)
    assert not RUN.exists()


def test_a_local_generator_starts_from_a_global_one(strips):
    argv = ("--model", "pix2pix", "--dataroot", strips, "--norm", "instance")
    coarse = run_train(*argv, "--netG", "global", "--ngf", 4, "--name", "coarse").netG.state_dict()
    fine = run_train(*argv, "--netG", "local", "--ngf", 2, "--name", "fine", "--init_from", "coarse", "--lr", 0)
    shared = {key: value for key, value in fine.netG.state_dict().items() if key.startswith("trunk.")}
    assert shared
    assert all(torch.equal(value, coarse[key]) for key, value in shared.items())
