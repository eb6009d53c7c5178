"""The command `image-translation`: train, test, translate, export, upload, app, check, compare, metrics, download."""

import importlib
import sys
from collections.abc import Callable, Sequence

from image_translation.house import enter, script

COMMANDS = {
    "train": ("train a model: train.py", ""),
    "test": ("translate a folder and show it on a page: test.py", ""),
    "translate": ("translate files and folders, keeping names and formats", "image_translation.translate"),
    "export": ("write a generator for other programs: onnx, torchscript, pt2, hub", "image_translation.export"),
    "upload": ("upload an exported folder to the Hugging Face Hub", "image_translation.hub"),
    "app": ("translate in a browser: an app for one or several runs", "image_translation.app"),
    "check": ("check every image of a dataset", "data.check"),
    "compare": ("compare the results of several runs", "util.compare"),
    "metrics": ("score results against true images", "util.metrics.__main__"),
    "download": ("download public datasets and generators", "data.download"),
}
HELP = "usage: image-translation COMMAND ...\n\n" + "".join(
    f"  {name:10} {what}\n" for name, (what, _) in COMMANDS.items()) + "\n`image-translation COMMAND --help` says more."


def command(name: str) -> Callable[[Sequence[str]], int]:
    """The main function of a command."""
    enter()
    module = COMMANDS[name][1]
    return (importlib.import_module(module) if module else script(name)).main


def main() -> None:
    """Run the command that the command line names, and exit."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        sys.exit(0 if words else 2)
    if words[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        print(f"error: unknown command '{words[0]}'.{f' Did you mean {close[0]!r}?' if close else ''} Known: "
              f"{', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [f"image-translation {words[0]}"]
    try:
        chosen = command(words[0])
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from util.cli import run

    run(chosen)


if __name__ == "__main__":
    main()
