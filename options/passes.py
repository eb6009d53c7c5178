"""How a command line is understood: config file, recorded run, plugins, final pass."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import data
import models
from networks import GENERATORS
from options.parser import Parser
from options.record import changed, read_record, run_name
from util.errors import UsageError, one_line
from util.notices import notice
from util.plugins import plugin_names, use_plugin_dir
from util.trust import is_trusted

if TYPE_CHECKING:
    from options.base_options import BaseOptions


class Passes:
    """Each pass learns from the options known so far which further ones there are; call them in the order below.

    Precedence: command line > --config > the run's record > dataset > model > base.
    """

    def __init__(self, options: "BaseOptions", argv: list[str]):
        self.options, self.argv = options, argv
        self.parser: Any = Parser(argv)
        options.initialize(self.parser)
        self.config: dict[str, Any] = {}   # of --config
        self.values: dict[str, Any] = {}   # of the record
        self.record: dict[str, dict] = {}
        self.model = ""
        self.added: set[str] = set()       # options of the model and the dataset

    def so_far(self) -> argparse.Namespace:
        """The options as known now."""
        self.parser.argv = self.parser.tokens({**self.values, **self.config}) + self.argv
        return self.parser.parse_known_args()[0]

    def config_file(self) -> None:
        """Read --config."""
        self.config.update(read_config(self.so_far().config))

    def recorded_run(self) -> None:
        """Read the record of --name; with --suffix the name may depend on options that are not known yet."""
        first = self.so_far()
        self.record = {} if first.suffix else read_record(first.checkpoints_dir, first.name)
        self.values.update(self.options.from_record(first, self.record, None))
        if not Path(self.values.get("plugin_dir") or ".").is_dir():
            notice("plugins", f"--plugin_dir {self.values['plugin_dir']} of run {first.name} no longer exists")
            self.values["plugin_dir"] = self.record["options"]["plugin_dir"] = None
        self.refuse_foreign_code(first)

    def refuse_foreign_code(self, first: argparse.Namespace) -> None:
        """Forget recorded code that this command line does not name, unless this user has trained with it before.

        Raises UsageError if the run is to be trained on with it.
        """
        unused = self.options.is_train and not first.continue_train
        recorded = {} if unused else self.record.get("options", {})
        for key in ("plugin_dir", "model", "dataset_mode"):
            word = recorded.get(key) or ""
            module = word.partition(":")[0] if ":" in word else ""  # package.module:Class; other names are in the tree
            place, named = (word, first.plugin_dir) if key == "plugin_dir" else (module, getattr(first, key) == word)
            if not place or named or is_trusted(place):
                continue
            told = (f"run {first.name} was trained with code in {place}, which you have not trained with before; "
                    f"--{key} {word} runs it")
            if self.options.is_train:
                raise UsageError(told)
            notice("foreign code", told)
            self.values.pop(key, None)
            recorded[key] = None

    def plugins(self) -> None:
        """Add the options of the model and the dataset, and read what the record says of them."""
        first, is_train = self.so_far(), self.options.is_train
        use_plugin_dir(first.plugin_dir, "models", "data", "util.metrics")
        self.model = first.model
        trained = None if is_train else import_recorded_model(self.record)
        netG = self.record.get("options", {}).get("netG", "")
        own = trained is not None and (not trained.one_sided or (netG and netG not in GENERATORS))
        if self.model == "test" and own:
            self.model = self.record["options"]["model"]
            notice("one-sided", f"run {first.name} is translated by its own --model {self.model}")
        base = {action.dest for action in self.parser._actions}
        model = models.find_model_using_name(self.model)
        self.parser = model.modify_commandline_options(self.parser, is_train) or self.parser
        if self.model != first.model and vars(model).get("needs"):  # a partner, for training
            self.parser.set_defaults(dataset_mode="single")
        dataset = data.find_dataset_using_name(self.so_far().dataset_mode)
        self.parser = dataset.modify_commandline_options(self.parser, is_train) or self.parser
        if first.suffix:
            self.record = read_record(first.checkpoints_dir, run_name(self.so_far()))
            self.refuse_foreign_code(first)
        if not {"-h", "--help"} & set(self.argv):
            self.added = {action.dest for action in self.parser._actions} - base
            self.values.update(self.options.from_record(self.so_far(), self.record, self.added))

    def final(self) -> tuple[argparse.Namespace, dict[str, dict]]:
        """Parse strictly; returns the options and the run's record."""
        place = self.so_far().config
        for key in self.config:
            if self.parser.option_for(key) is None:
                self.parser.refuse(f"--{key}", place)
        for dest, package, kind in (("model", "models", "model"), ("dataset_mode", "data", "dataset")):
            self.parser.option_for(dest).help = f"{', '.join(plugin_names(package, kind))}, or package.module:Class"
        self.parser.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS,
                                 help="list the options of this model and dataset")
        opt = self.parser.parse_args()
        opt.typed = self.parser.typed
        opt.name, opt.model = run_name(opt), self.model
        loads = not self.options.is_train or opt.continue_train
        opt.changed = changed(opt, self.record, self.added) if loads else []
        return opt, self.record


def import_recorded_model(record: dict[str, dict]) -> type[models.BaseModel] | None:
    """Import the model of a run: its file may register the generator that --model test must build."""
    name = record.get("options", {}).get("model")
    if name:
        try:
            return models.find_model_using_name(name)
        except (UsageError, ImportError) as error:
            notice("recorded model", f"the run was trained with --model {name}, which is not available ({error})")
    return None


def read_config(path: str | None) -> dict[str, Any]:
    """Option -> word or list of words, from a YAML or JSON file; raises UsageError."""
    if path is None:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        # YAML is read as words: argparse has the types, and YAML would make `off` False and `2e-4` a string.
        config = json.loads(text) if path.endswith(".json") else yaml.load(text, Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise UsageError(f"--config {path} does not exist") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--config {path} is neither YAML nor JSON: {one_line(error)}") from None
    if not isinstance(config, dict) or any(isinstance(value, dict) for value in config.values()):
        raise UsageError(f"--config {path} must be a flat list of `option: value` lines")
    return {str(key).removeprefix("--"): value for key, value in config.items() if value not in (None, "null", "~", "")}
