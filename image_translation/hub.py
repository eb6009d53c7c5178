"""A generator as a folder of the Hugging Face Hub: weights, config.json and a model card; nothing in it is executed."""

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from networks import GENERATORS, NORMS
from options.record import read_record
from util.cli import OneLineParser, run
from util.errors import UsageError, one_line
from util.files import atomic, read_json
from util.notices import tell

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FORMAT = 1
# Options of test.py that config.json holds, and what they may be.
OPTIONS: dict[str, tuple[type, ...]] = {
    "netG": (str,), "norm": (str,), "ngf": (int,), "no_dropout": (bool,), "input_nc": (int,), "output_nc": (int,),
    "direction": (str,), "preprocess": (str,), "load_size": (int, str), "crop_size": (int, str), "depth_A": (str,),
    "range_A": (str,), "depth_B": (str,), "range_B": (str,), "seed": (int,), "label_nc": (int,),
    "keep_profile": (bool,), "nodata": (float, int, type(None)),
}
MISSING = 'the Hub needs an extra: pip install -e ".[hub]"'


def export(opt: Namespace, net: nn.Module, run_options: Namespace, facts: dict[str, str], target: Path) -> None:
    """Write the folder. Raises UsageError for a network that only a plugin defines."""
    from image_translation.model_card import card  # which would make `load` slower

    if run_options.netG not in GENERATORS or run_options.model != "test":
        raise UsageError(f"--format hub is for generators that every installation has, and those that translate alone; "
                         f"--netG {run_options.netG} with --model {run_options.model} needs code, and a folder of the "
                         f"Hub holds none")
    state = {name: value.half() if opt.half and value.is_floating_point() else value.contiguous()
             for name, value in net.state_dict().items()}
    target.mkdir(parents=True, exist_ok=True)
    content = _safetensors().save(state, {"format": "pt"})
    with atomic(target / WEIGHTS, "wb") as file:
        file.write(content)
    recorded = read_record(run_options.checkpoints_dir, run_options.name).get("options", {})
    options = {name: plain(getattr(run_options, name)) for name in OPTIONS}
    options["preprocess"] = recorded.get("preprocess", "none")  # of the training; here it is none
    with atomic(target / CONFIG) as file:
        json.dump({"library_name": "image-translation", "format": FORMAT, "options": options}, file, indent=1)
    with atomic(target / CARD) as file:
        file.write("\n".join(card(opt, run_options, facts, target)))


def plain(value: Any) -> Any:
    """A value for JSON that the command line can parse: a size as 128x64."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError(MISSING) from error
    return safetensors.torch


def is_hub_folder(folder: Path) -> bool:
    """Whether `export --format hub` wrote a folder."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_config(folder: Path, revealed: dict[str, Any]) -> list[str]:
    """The arguments of test.py that describe the generator of such a folder, of which its weights reveal some.

    Raises UsageError for a damaged file, and one that asks for anything but the generators of this library.
    """
    def checked(content: dict) -> dict[str, Any]:
        if content.get("library_name") != "image-translation" or content.get("format") != FORMAT:
            raise ValueError("it is of another library or version")
        found = {**content.pop("options")}
        unknown = sorted({*content, *found} - {*OPTIONS, "library_name", "format"})
        if unknown:
            raise ValueError(f"it has '{unknown[0]}', and nothing else than {', '.join(OPTIONS)} is used of it")
        wrong = sorted(name for name, kinds in OPTIONS.items() if type(found[name]) not in kinds)
        if wrong:
            raise ValueError(f"its '{wrong[0]}' is no {OPTIONS[wrong[0]][0].__name__}")
        if found["netG"] not in GENERATORS or found["norm"] not in NORMS:
            raise ValueError(f"--netG {found['netG']} --norm {found['norm']} is not known here")
        for name in found.keys() & revealed.keys():  # before memory is taken
            if found[name] != revealed[name]:
                raise ValueError(f"it says {name} {found[name]}, and the weights {revealed[name]}")
        return found

    options = read_json(folder / CONFIG, checked, "`image-translation export RUN --format hub` writes it")
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()
            if value is not False and value is not None]


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file; raises UsageError for a damaged one."""
    library = _safetensors()
    try:
        found = library.load_file(path)
    except Exception as error:  # of a file that is damaged in any way
        raise UsageError(f"{path} can't be read: {one_line(error)}") from error
    for name, value in found.items():
        if not value.is_floating_point() and not name.endswith("num_batches_tracked"):
            raise UsageError(f"{path} can't be read: its {name} holds {value.dtype}, where weights are fractions")
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turn what the Hub's library raises into a UsageError."""
    try:
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise UsageError(MISSING) from error
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise UsageError(f"{what}: the Hub can't be reached, and it was not downloaded before") from error
    except Exception as error:  # of the network, the server, or a name that can't be one
        raise UsageError(f"{what}: {one_line(error)}") from error


def download(name: str) -> Path:
    """The folder of "user/name" or "user/name@revision", fetched unless it is there; raises UsageError.

    Only config.json and the weights are fetched.
    """
    repository, _, revision = name.partition("@")
    with one_line_errors(f"hub:{name}"):
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS]))
    if not is_hub_folder(folder):
        raise UsageError(f"hub:{name} has no {CONFIG} with {WEIGHTS}: it is no generator of this library")
    return folder


def main(argv: Sequence[str]) -> int:
    """Upload a folder that `export --format hub` wrote."""
    parser = OneLineParser(prog="image-translation upload", description="Upload an exported folder to the Hub.")
    parser.add_argument("folder", help="written by image-translation export RUN --format hub")
    parser.add_argument("name", help="user/name on the Hub")
    parser.add_argument("--private", action="store_true", help="visible to you alone")
    parser.add_argument("--verbose", action="store_true", help="show tracebacks")
    opt = parser.parse_args(argv)
    folder = Path(opt.folder)
    if not is_hub_folder(folder):
        raise UsageError(f"{folder} is no folder that `image-translation export RUN --format hub` wrote")
    with one_line_errors(opt.name):
        from huggingface_hub import HfApi

        card_file = folder / CARD
        card_text = card_file.read_text(encoding="utf-8").replace("hub:USER/NAME", f"hub:{opt.name}")
        card_file.write_text(card_text, encoding="utf-8")
        api = HfApi()
        api.create_repo(opt.name, private=opt.private, exist_ok=True)
        commit = api.upload_folder(repo_id=opt.name, folder_path=folder,
                                   allow_patterns=[CONFIG, WEIGHTS, CARD, "images/*.png"])
    tell(f'{commit.repo_url}: load("hub:{opt.name}")')
    return 0


if __name__ == "__main__":
    run(main)
