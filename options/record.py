"""What is known about a run without being typed: its recorded options, and what its weights reveal."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from networks.architecture import describe
from util import checkpoint
from util.errors import UsageError
from util.files import atomic, inside, read_json
from util.notices import notice
from util.run_files import RECORD, checkpoint_tag, network_file, network_files, run_folder

ARGUMENTS = ("input_nc", "output_nc", "ngf", "netG", "norm", "no_dropout")  # of a generator
DEFAULT = object()  # stands for an option's default, which is not recorded
FAST: dict[str, tuple] = {  # what --plain turns off -> values that it agrees with
    "amp": ("auto", "off"), "compile": ("auto", "off"), "cuda_graph": ("auto", "off"),
    "checkpoint_activations": (False,), "without": ([],),
}


def write_record(folder: str | Path, opt: argparse.Namespace, networks: dict[str, dict]) -> None:
    """`train_opt.json`, the resolved options and the arguments of each network, and `train_opt.txt` for people.

    A run that is continued with --plain, to debug it, keeps how fast it ran before.
    """
    values = {key: _plain(value, opt.typed.get(key)) for key, value in sorted(vars(opt).items())
              if key not in ("typed", "trained_on", "changed")}
    values = {key: value for key, value in values.items() if value is not DEFAULT}
    if opt.plain and opt.continue_train:
        recorded = read_record(opt.checkpoints_dir, opt.name).get("options", {})
        values |= {key: recorded[key] for key in (*FAST, "plain") if key in recorded}
    with atomic(Path(folder) / RECORD) as file:
        json.dump({"options": values, "networks": networks}, file, indent=1, default=str)
    with atomic(Path(folder) / "train_opt.txt") as file:
        file.write("----------------- Options ---------------\n")
        file.writelines(f"{key:>25}: {value}\n" for key, value in values.items())
        file.write("----------------- End -------------------\n")


def _plain(value: Any, typed: list[str] | None) -> Any:
    """A value for JSON that the command line can parse; for other types, what was typed, else DEFAULT."""
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if isinstance(value, (float, torch.device)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (bool, int, float, str)) for item in value):
        return value
    if typed:
        return typed[0] if len(typed) == 1 else typed
    return "x".join(map(str, value)) if isinstance(value, tuple) and all(isinstance(n, int) for n in value) else DEFAULT


def changed(opt: argparse.Namespace, record: dict[str, dict], own: set[str]) -> list[str]:
    """What a run was trained with and is not used with now: `own` options and those of networks."""
    recorded = record.get("options", {})
    now = {name: _plain(getattr(opt, name), opt.typed.get(name)) for name in sorted({*own, *ARGUMENTS})
           if name in recorded and hasattr(opt, name)}
    return [f"--{name} {recorded[name]} (here: {value})" for name, value in now.items()
            if value is not DEFAULT and str(value).removesuffix(".0") != str(recorded[name]).removesuffix(".0")]


def read_record(checkpoints_dir: str, name: str) -> dict[str, dict]:
    """{"options": ..., "networks": ...} of a run; empty without a record, UsageError for a damaged one."""
    return read_json(inside(checkpoints_dir, name, "--name") / RECORD, checked, "remove it to go on without it")


def checked(record: dict) -> dict[str, dict]:
    """Validate the parts of a record; raises TypeError or ValueError for values that no command line can have."""
    options, networks = dict(record["options"]), {key: dict(value) for key, value in record["networks"].items()}
    for table in (options, *networks.values()):
        for key, value in table.items():
            if not all(isinstance(word, (bool, int, float, str, type(None)))
                       for word in (value if isinstance(value, list) else [value])):
                raise TypeError(f"{key} is no option")
    for key in ("model", "dataset_mode", "plugin_dir", "direction", "device"):
        if not isinstance(options.get(key), (str, type(None))):
            raise TypeError(f"{key} is no word")
    if options.get("direction", "AtoB") not in ("AtoB", "BtoA"):
        raise ValueError(f"direction is {options['direction']}")
    return {"options": options, "networks": networks}


def generator_options(opt: argparse.Namespace, record: dict[str, dict]) -> dict[str, Any]:
    """For testing: which generator --direction means (`model_suffix`), and its arguments.

    They come from the record, else from the keys and shapes of the weights; missing weights are reported when they are
    loaded. Raises UsageError for a direction that a run with one generator was not trained for.
    """
    folder, tag = run_folder(opt.checkpoints_dir, opt.name), checkpoint_tag(opt.epoch, opt.load_iter)
    recorded = {name: net for name, net in record.get("networks", {}).items() if name.startswith("G")}
    there = list(recorded) or [name for name in network_files(folder, tag) if name.startswith("G")]
    suffix = getattr(opt, "model_suffix", "") or _suffix(opt, record, there)
    arguments = {key: value for key, value in dict(recorded.get(f"G{suffix}") or {}).items() if key in ARGUMENTS}
    arguments = arguments or _read_weights(network_file(folder, tag, f"G{suffix}"), record)
    if suffix in ("_A", "_B"):  # these name domains, as --direction does
        trained = record.get("options", {}).get("direction", "AtoB")
        arguments = {**arguments, "direction": trained if suffix == "_A" else {"AtoB": "BtoA", "BtoA": "AtoB"}[trained]}
    return {"model_suffix": suffix, **arguments}


def _suffix(opt: argparse.Namespace, record: dict[str, dict], generators: list[str]) -> str:
    trained = record.get("options", {}).get("direction", "AtoB")
    if "G" not in generators and {"G_A", "G_B"} <= set(generators):
        return "_A" if opt.direction == trained else "_B"
    if "G" not in generators and len(generators) == 1:
        return generators[0].removeprefix("G")
    if record and opt.direction != trained:
        raise UsageError(f"run {opt.name} was trained with --direction {trained} and has one generator: it can't go "
                         f"{opt.direction}")
    return ""


def _read_weights(path: Path, record: dict[str, dict]) -> dict[str, Any]:
    if not path.exists():
        return {}
    arguments = describe(checkpoint.clean_state_dict(checkpoint.load(path), path))
    if "netG" not in arguments:
        arguments = {}
        model = record.get("options", {}).get("model", "its own model")
        notice("custom", f"{path} holds a generator of a family not known here; if it does not load, test it with "
                         f"--model {model}")
    elif "no_dropout" not in arguments:
        notice("dropout", f"{path} does not reveal whether it was trained with dropout; assuming it was, --no_dropout "
                          f"says it was not")
    return arguments


def run_name(opt: argparse.Namespace) -> str:
    """--name, and --suffix with the options it mentions filled in; raises UsageError for one it can't know."""
    try:
        return f"{opt.name}_{opt.suffix.format(**vars(opt))}" if opt.suffix else opt.name
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UsageError(f"--suffix {opt.suffix} mentions {error}, which is no option") from None
