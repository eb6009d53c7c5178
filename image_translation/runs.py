"""Which run is meant: a name, a folder or a file; and the options of commands that say so."""

import re
from argparse import ArgumentParser
from pathlib import Path

from image_translation import hub
from networks.architecture import describe
from options.parser import Parser
from options.test_options import TestOptions
from util import checkpoint
from util.errors import UsageError, did_you_mean
from util.notices import notice
from util.run_files import AVERAGE

# Options that commands pass on to the parser of test.py, which checks them.
VALUES = ("checkpoints_dir", "plugin_dir", "amp", "compile", "seed", "nodata", "max_megapixels", "depth_A", "range_A",
          "depth_B", "range_B", "asked", "masks", "instances")
RUN = "name of a run in ./checkpoints, its folder, an exported folder, one .pth file, or hub:user/name"
FLAGS = ("eval", "plain", "keep_profile")


def add_options(parser: ArgumentParser) -> None:
    """Add what names a run, for `from_options`."""
    add = parser.add_argument
    add("run", help=RUN)
    add("--direction", choices=("AtoB", "BtoA"), default=None, help="which generator of a cycle")
    add("--epoch", default=None, help="which checkpoint: latest, best or an epoch")
    add("--ema", action="store_true", help="the moving average of the weights")
    add_passed_on(parser)


def add_passed_on(parser: ArgumentParser) -> None:
    """Add the options that every command passes on to the parser of test.py."""
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--verbose", action="store_true", help="show tracebacks")
    known = Parser([])
    TestOptions().initialize(known)
    helps = {action.dest: action.help for action in known._actions}
    for name in VALUES:
        add(f"--{name}", default=None, help=helps[name])
    for name in FLAGS:
        add(f"--{name}", action="store_true", help=helps[name])


def find_run(run: str, checkpoints_dir: str = "./checkpoints") -> tuple[list[str], Path | None]:
    """The arguments of test.py that name a run, and the file of weights that stand alone.

    `run` is what RUN says. Raises UsageError for a run that does not exist, and a file that holds no generator of a
    known family.
    """
    if not run or run.startswith("-"):
        raise UsageError(f"'{run}' is no run; give the name of a run, a folder, or a .pth file")
    if run.startswith("hub:"):
        return find_run(str(hub.download(run.removeprefix("hub:"))), checkpoints_dir)
    path = Path(run)
    if hub.is_hub_folder(path):
        name = path.resolve().name  # there is no record below it
        weights = path / hub.WEIGHTS
        revealed = describe(checkpoint.clean_state_dict(hub.read_weights(weights), weights))
        return ["--checkpoints_dir", str(path), "--name", name, *hub.read_config(path, revealed)], weights
    known = (Path(checkpoints_dir) / run).is_dir()
    if path.is_dir() and (any(path.glob("*_net_*.pth")) or not known):  # it may hold images, and share a run's name
        return ["--checkpoints_dir", str(path.resolve().parent), "--name", path.resolve().name], None
    if path.suffix != ".pth" and not path.is_file():
        if not known:
            runs = [folder.name for folder in Path(checkpoints_dir).glob("*/")]
            raise UsageError(f"there is no run {run} in {checkpoints_dir}.{did_you_mean(run, runs)} Give the name of a "
                             f"run there, a folder, or a .pth file")
        return ["--name", run], None
    folder = path.resolve().parent
    if named := re.fullmatch(rf"(?:iter_(\d+)|(.+?))_net_G(.*?)({AVERAGE})?\.pth", path.name):
        iteration, epoch, suffix, average = named.groups()
        return ["--checkpoints_dir", str(folder.parent), "--name", folder.name,
                *(["--load_iter", iteration] if iteration else ["--epoch", epoch]),
                *(["--model_suffix", suffix] if suffix else []), "--ema" if average else "--ema=false"], None
    arguments = describe(checkpoint.clean_state_dict(checkpoint.load(path), path))
    if "netG" not in arguments:
        raise UsageError(f"{path} holds no generator of a family known here; give the folder of its run")
    if "no_dropout" not in arguments:
        notice("dropout", f"{path} does not reveal whether it was trained with dropout; assuming it was")
    flags = ["--no_dropout"] if arguments.pop("no_dropout", False) else []
    words = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
    return ["--checkpoints_dir", str(folder), "--name", path.name, *words, *flags], path
