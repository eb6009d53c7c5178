"""Pretrained networks of metrics, with the weights and loaders of the libraries they come from."""

import importlib.util
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from util.errors import UsageError, one_line

TIMEOUT = 30.0  # seconds without an answer, of a download


class Pretrained(NamedTuple):
    """A network: the file its library looks for in torch's hub folder, the library, how to make it."""

    file: str
    library: str
    make: Callable[[], nn.Module]


def _inception() -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])


def _lpips() -> nn.Module:
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


def _vgg() -> nn.Module:
    from torchvision.models import VGG19_Weights, vgg19

    return vgg19(weights=VGG19_Weights.IMAGENET1K_V1).features[:30]  # up to relu5_1


def _dists() -> nn.Module:
    from torchmetrics.functional.image.dists import DISTSNetwork

    return DISTSNetwork()


NETWORKS = {"inception": Pretrained("weights-inception-2015-12-05-6726825d.pth", "torch_fidelity", _inception),
            "lpips": Pretrained("alexnet-owt-7be5be79.pth", "torchmetrics", _lpips),
            "vgg": Pretrained("vgg19-dcbb9e9d.pth", "torchvision", _vgg),
            "dists": Pretrained("vgg16-397923af.pth", "torchmetrics", _dists)}


def check_given(given: str) -> None:
    """Raise UsageError unless it is a weights file, or a folder with one."""
    if not any(_given_file(network, given) for network in NETWORKS.values()):
        files = " and ".join(network.file for network in NETWORKS.values())
        raise UsageError(f"--metric_weights {given} is neither of {files}, nor a folder with one of them")


def is_there(name: str, given: str | None) -> bool:
    """Whether a network needs no download: its file is `given`, in that folder, or in torch's hub folder."""
    network = NETWORKS[name]
    found = _given_file(network, given) or Path(torch.hub.get_dir()) / "checkpoints" / network.file
    return importlib.util.find_spec(network.library) is not None and found.is_file()


def load(name: str, given: str | None, device: torch.device) -> nn.Module:
    """The network in evaluation mode; raises UsageError if the library or the weights are unavailable."""
    network = NETWORKS[name]
    if importlib.util.find_spec(network.library) is None:
        raise UsageError(f'what uses {name} needs an extra: pip install -e ".[metrics]"')
    try:
        with _hub_with(network, given):
            return network.make().to(device).eval().requires_grad_(False)
    except Exception as error:  # of libraries, which raise nearly everything for a damaged file
        raise UsageError(f"the weights of {name} are unavailable ({one_line(error)}); --metric_weights takes a copy of "
                         f"{network.file}, or a folder with it") from error


def _given_file(network: Pretrained, given: str | None) -> Path | None:
    path = given and Path(given)
    if path and path.is_dir():
        return path / network.file if (path / network.file).is_file() else None
    return path if path and path.is_file() and path.name == network.file else None


@contextmanager
def _hub_with(network: Pretrained, given: str | None) -> Iterator[None]:
    """Inside the block, torch's hub finds the given file, and downloads have a time limit."""
    before, patience, file = torch.hub.get_dir(), socket.getdefaulttimeout(), _given_file(network, given)
    socket.setdefaulttimeout(TIMEOUT)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if file:
                (Path(folder) / "checkpoints").mkdir()
                shutil.copyfile(file, Path(folder) / "checkpoints" / network.file)
                torch.hub.set_dir(folder)
            yield
        finally:
            torch.hub.set_dir(before)
            socket.setdefaulttimeout(patience)
