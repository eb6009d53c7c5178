"""Translate in a browser: image-translation app RUN [RUN ...]."""

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data.image_folder import is_image_file
from image_translation.files import suffix_for
from image_translation.film import is_film, suffix_for_film, translate_film
from image_translation.runs import FLAGS, RUN, VALUES, add_passed_on
from image_translation.translate import save
from image_translation.translator import Translator
from models.engine.validation import values_of
from util.cli import OneLineParser, run
from util.errors import UsageError, one_line
from util.images import save_image, tensor2im
from util.notices import tell
from util.run_files import AVERAGE, network_file
from util.types import natural, positive, tile

LOADED = 2                         # translators that stay in memory
SIZES = {"original size": "kept", "training size": "trained"}
AVERAGED = ", average"              # ends the name of a checkpoint whose moving average is meant (--ema)
KEPT = 3600                        # seconds that results stay on the disk


def parse(argv: Sequence[str]) -> Namespace:
    """The options of a command line; raises UsageError."""
    parser = OneLineParser(prog="image-translation app", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help=RUN)
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    add("--port", type=natural, default=7860, help="port to listen on; 0 picks a free one")
    add("--queue", type=positive, default=16, help="requests that may wait; more are refused")
    add("--max_megabytes", type=positive, default=64, help="largest file that may be uploaded")
    add_passed_on(parser)
    return parser.parse_args(argv)


class Choices:
    """What a run offers: its checkpoints and directions."""

    def __init__(self, name: str, first: Translator):
        """`first` is the translator of the run with default choices."""
        self.name, self.directions, self.checkpoints = name, [first.opt.direction], ["as named"]
        if first.weights is None and not name.endswith(".pth"):  # not one file
            folder = Path(first.model.save_dir)
            generator = f"G{getattr(first.opt, 'model_suffix', '')}"
            self.checkpoints = tags_of(folder, generator) or self.checkpoints
            if generator != "G":
                self.directions = ["AtoB", "BtoA"] if first.opt.direction == "AtoB" else ["BtoA", "AtoB"]


def settings(opt: Namespace) -> dict[str, Any]:
    """The options that a translator takes from the command line."""
    return {"device": opt.device, **{name: getattr(opt, name) for name in (*VALUES, *FLAGS)}}


def tags_of(folder: Path, generator: str) -> list[str]:
    """The checkpoints there are: latest, best, then numbers, the largest first; each followed by its average."""
    pattern = network_file(folder, "*", generator).name
    tags = {path.name.partition("_net_")[0] for path in folder.glob(pattern)}
    ordered = [*(tag for tag in ("latest", "best") if tag in tags), *sorted(filter(str.isdigit, tags), key=int)[::-1]]
    return [name for tag in ordered for name in (tag, f"{tag}{AVERAGED}") if name == tag or
            network_file(folder, tag, generator + AVERAGE).exists()]


class App:
    """Translators for what is chosen in the browser; one request is served at a time."""

    def __init__(self, opt: Namespace):
        """Raises UsageError if there is no such run."""
        self.opt = opt
        self.choices: dict[str, Choices] = {}
        self.loaded: dict[tuple, Translator] = {}
        for name in dict.fromkeys(opt.runs):
            first = Translator(name, **settings(opt))
            self.choices[name] = own = Choices(name, first)
            self._keep((name, own.checkpoints[0], own.directions[0], next(iter(SIZES)), "auto"), first)
        self.lock = threading.Lock()
        self.folder = Path(tempfile.mkdtemp(prefix="image-translation-"))

    def translator(self, name: str, checkpoint: str, direction: str, size: str, tiles: str) -> Translator:
        """The translator of these choices, loaded unless it is there; raises UsageError for what was not offered."""
        choice = self.choices.get(name)
        if choice is None or checkpoint not in choice.checkpoints or direction not in choice.directions or (
                size not in SIZES):
            raise UsageError(f"there is no run {name} with checkpoint {checkpoint}, direction {direction} and {size}")
        try:
            side = tile(str(tiles).strip() or "auto")
        except (ArgumentTypeError, ValueError) as error:
            raise UsageError(f"tiles '{tiles}': {one_line(error)}") from error
        key = (name, checkpoint, direction, size, side)
        if key not in self.loaded:
            more: dict[str, Any] = {} if checkpoint == "as named" else {
                "epoch": checkpoint.removesuffix(AVERAGED), "ema": checkpoint.endswith(AVERAGED)}
            if len(choice.directions) > 1:
                more["direction"] = direction
            self.loaded[key] = Translator(name, size=SIZES[size], tile=side, **more, **settings(self.opt))
        return self._keep(key, self.loaded.pop(key))

    def _keep(self, key: tuple, translator: Translator) -> Translator:
        """Keep a translator as the newest, and only the last few."""
        self.loaded[key] = translator
        for old in list(self.loaded)[:-LOADED]:
            del self.loaded[old]
        return translator

    def one(self, file: str, *chosen: str) -> tuple[tuple[str, str], str]:
        """((picture before, picture after), file of the translation)."""
        if not file:
            raise UsageError("there is no image yet; add one first")
        with self.lock:
            translator = self.translator(*chosen)
            item, made, target = self._translate(translator, file, self._new_folder())
        shown = self._new_folder()  # as files: Gradio writes arrays of equal answers into one, while others read it
        save_image(tensor2im(item.sample["A"]), shown / "before.png")
        save_image(tensor2im(made.value), shown / "after.png")
        return (str(shown / "before.png"), str(shown / "after.png")), str(target)

    def many(self, uploaded: Sequence[str], progress: Callable, *chosen: str) -> tuple[list[str], str, str]:
        """(translations to show, a zip of all, what was left out) of images and videos; a folder keeps its names."""
        films = set(filter(is_film, uploaded))
        images = [file for file in uploaded if file in films or is_image_file(file)]
        if not images:
            raise UsageError("there is no image or video yet; add some first")
        folder, shown = self._new_folder(), []
        problems = [f"{Path(file).name}: no image or video" for file in uploaded if file not in images]
        with self.lock:
            translator = self.translator(*chosen)
            for i, file in enumerate(images):
                progress(i / len(images), desc=Path(file).name)
                try:
                    if file in films:
                        target = free(folder / Path(file).with_suffix(suffix_for_film(file, None)).name)
                        if problem := translate_film(translator, file, target):
                            problems.append(f"{target.name}: {problem}")
                    else:
                        _, _, target = self._translate(translator, file, folder)
                        shown.append(str(target))
                except UsageError as error:
                    problems.append(str(error).replace(str(Path(file).parent), "").lstrip("/"))
        archive = shutil.make_archive(str(self._new_folder() / "translations"), "zip", folder)
        count = len(list(folder.iterdir()))
        return shown[:100], archive, "\n".join([f"{count} of {len(uploaded)} translated", *problems])

    def _translate(self, translator: Translator, file: str, folder: Path) -> tuple[Any, Any, Path]:
        """(item, translation, file) of one image."""
        item = translator.dataset.prepare(file)
        made, = translator.translate([item])
        depth = values_of(translator.opt, translator.target_domain).depth
        suffix = suffix_for(Path(file).suffix, None, depth, translator.channels)
        target = free(folder / Path(file).with_suffix(suffix).name)
        save(made, item, target, translator.opt.keep_profile)
        return item, made, target

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


def free(path: Path) -> Path:
    """The path, or one with a number if that is taken."""
    names = (path.with_stem(f"{path.stem}_{number}") for number in range(2, 10 ** 6))
    return path if not path.exists() else next(name for name in names if not name.exists())


@contextmanager
def shown_errors(verbose: bool) -> Iterator[None]:
    """Show an error in the browser in one line."""
    import gradio

    try:
        yield
    except (UsageError, OSError) as error:
        raise gradio.Error(one_line(error), print_exception=verbose) from error


def build(app: App) -> Any:
    """The page: choices, a tab for one image with a slider, one for many."""
    import gradio

    first = next(iter(app.choices.values()))
    choice = partial(gradio.Dropdown, allow_custom_value=True)  # App refuses what it does not offer, in one line

    def offered(run: str) -> Any:
        own = app.choices.get(run, first)
        return (gradio.Dropdown(own.checkpoints, value=own.checkpoints[0]),
                gradio.Dropdown(own.directions, value=own.directions[0]))

    def union(kind: str) -> list[str]:
        return list(dict.fromkeys(value for choice in app.choices.values() for value in getattr(choice, kind)))

    with gradio.Blocks(title="image-translation", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        with gradio.Row():
            name = choice(list(app.choices), label="run", value=first.name)
            checkpoint = choice(union("checkpoints"), label="checkpoint", value=first.checkpoints[0])
            direction = choice(union("directions"), label="direction", value=first.directions[0])
            size = choice(list(SIZES), label="size", value=next(iter(SIZES)))
            tiles = gradio.Textbox("auto", label="tiles", info="auto, off, or their size in pixels")
        for event in (page.load, name.change):
            event(offered, name, [checkpoint, direction], api_visibility="private")
        add_one(app, [name, checkpoint, direction, size, tiles])
        add_many(app, [name, checkpoint, direction, size, tiles])
    return page.queue(max_size=app.opt.queue, default_concurrency_limit=1)


def add_one(app: App, chosen: list[Any]) -> None:
    """The tab for one image."""
    import gradio

    def translate(file: str, run: str, checkpoint: str, direction: str, size: str, tiles: str) -> Any:
        """Translate one image; returns (before, after) and the file of the translation."""
        with shown_errors(app.opt.verbose):
            return app.one(file, run, checkpoint, direction, size, tiles)

    with gradio.Tab("One image"):
        with gradio.Row():
            image = gradio.File(label="drop an image", file_count="single")
            with gradio.Column(scale=3):
                slider = gradio.ImageSlider(label="before and after", type="filepath")
                result = gradio.File(label="download", interactive=False)
        inputs, outputs = [image, *chosen], [slider, result]
        image.upload(translate, inputs, outputs, api_name="uploaded", api_visibility="private")
        gradio.Button("Translate", variant="primary").click(translate, inputs, outputs, api_name="translate")


def add_many(app: App, chosen: list[Any]) -> None:
    """The tab for folders."""
    import gradio

    def translate_many(files: list[str], folder: list[str], run: str, checkpoint: str, direction: str, size: str,
                       tiles: str, progress=gradio.Progress()) -> Any:  # noqa: B008  (how Gradio passes it)
        """Translate images and videos; returns those to show, a zip of all, and what was left out."""
        with shown_errors(app.opt.verbose):
            return app.many([*(files or []), *(folder or [])], progress, run, checkpoint, direction, size, tiles)

    with gradio.Tab("Several files"):
        with gradio.Row():
            several = gradio.File(label="drop images and videos", file_count="multiple")
            folder = gradio.File(label="or a folder", file_count="directory")
        go = gradio.Button("Translate all", variant="primary")
        told = gradio.Textbox(label="result", lines=3, interactive=False)
        archive = gradio.File(label="download all", interactive=False)
        gallery = gradio.Gallery(label="translations", columns=4)
        go.click(translate_many, [several, folder, *chosen], [gallery, archive, told], api_name="translate_many")


def serve(app: App) -> str:
    """Serve the page in threads; returns its address."""
    os.environ["GRADIO_TEMP_DIR"] = str(app.folder / "gradio")  # else it shares files with every app of this machine
    import gradio  # which reads that

    opt = app.opt
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # none from the network
    _, address, _ = build(app).launch(
        server_name=opt.host, server_port=opt.port or None, share=False, quiet=True, prevent_thread_lock=True,
        ssr_mode=False, enable_monitoring=False, max_file_size=f"{opt.max_megabytes}mb", theme=theme,
        footer_links=["api"], allowed_paths=[str(app.folder)])
    return str(address)


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C."""
    opt = parse(argv)
    if importlib.util.find_spec("gradio") is None:
        raise UsageError('the app needs an extra: pip install -e ".[app]"')
    app = App(opt)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folder is removed
    try:
        tell(f"{', '.join(app.choices)}: {serve(app)} (press Ctrl-C to stop)")
        threading.Event().wait()
    except OSError as error:
        raise UsageError(f"--host {opt.host} --port {opt.port}: {one_line(error)}") from error
    finally:
        shutil.rmtree(app.folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    run(main)
