"""A trained run as a function of images."""

import contextlib
import io
import threading
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.loading.loader import grouped, merged
from data.transforms import width_height
from image_translation import hub
from image_translation.images import Images, Item, Translation, finished
from image_translation.runs import FLAGS, VALUES, find_run
from models import create_model, find_model_using_name
from models.engine.saving import load_network
from models.engine.validation import feed, values_of
from options.record import read_record
from options.test_options import TestOptions
from util import checkpoint
from util.errors import UsageError
from util.files import sha256_of
from util.images import ValueRange
from util.memory import explained, keep_freed_memory
from util.notices import notice
from util.run_files import AVERAGE, checkpoint_tag, network_file

LESS_MEMORY = ("tile='auto' or a smaller number", "a smaller batch_size", "device='cpu'")


@contextlib.contextmanager
def as_value_error() -> Iterator[None]:
    """Turn a UsageError into a ValueError, which callers from Python expect."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error


class Translator:
    """A trained run: call it with images. Threads may share one."""

    def __init__(self, run: str, *, size: str = "kept", tile: int | str | None = "auto", batch_size: int = 8,
                 options: Sequence[str] = (), **named: Any):
        """`options` are further ones of test.py. Raises UsageError for a run that can't be loaded."""
        if size not in ("kept", "trained"):
            raise UsageError(f"size={size!r} is neither 'kept' nor 'trained'")
        argv, self.weights = find_run(str(run), named.get("checkpoints_dir") or "./checkpoints")
        check_choice(run, argv, named)
        named |= {"tile": "off" if tile is None else tile, "batch_size": batch_size}
        given = {name: value for name, value in named.items() if value is not None and value is not False}
        for name, value in given.items():
            argv += [f"--{name}", *([] if value is True else [str(value)])]
        self.opt = TestOptions().parse(["--dataroot", ".", "--num_threads", "0", *argv, *options,
                                        *(["--preprocess", "none"] if size == "kept" else [])])
        self.opt.serial_batches = self.opt.no_flip = True
        recorded = read_record(self.opt.checkpoints_dir, self.opt.name).get("options", {})
        if not recorded and named.get("direction") and not getattr(self.opt, "model_suffix", "") and (
                f"--direction={named['direction']}" not in argv):  # as an exported folder says it
            raise UsageError(f"{run} has one generator and no record of its direction; leave out the direction")
        resized = size == "kept" and any(word in recorded.get("preprocess", "") for word in ("resize", "scale"))
        own = find_model_using_name(self.opt.model)
        self.through_dataset = self.opt.model != "test" and not vars(own).get("needs")  # which makes what enters
        if self.opt.masks and not hasattr(self.opt, "mask"):
            raise UsageError(f"masks are for runs that fill holes, and {run} does not; test.py --masks translates "
                             f"inside masks")
        self.dataset = Images(self.opt, self.through_dataset, width_height(self.opt.load_size) if resized else None)
        if self.opt.device.type == "cpu":
            keep_freed_memory()
        self.model = create_model(self.opt)
        if self.weights:
            self.model.load_networks = partial(self._load, self.weights)  # type: ignore[method-assign]
        with contextlib.redirect_stdout(io.StringIO()):
            self.model.setup(self.opt)
        if self.opt.eval:
            self.model.eval()
        self._one_at_a_time = threading.Lock()
        self.choices = {name: value for name, value in given.items()  # that may change a translation
                        if name in (*VALUES, *FLAGS) and name != "checkpoints_dir"}

    def _load(self, weights: Path, tag: str) -> None:
        net: Any = self.model.netG
        read = hub.read_weights if weights.suffix == ".safetensors" else checkpoint.load
        load_network(net, read(weights), weights)

    @property
    def target_domain(self) -> str:
        """The domain of the translations: A or B."""
        if self.through_dataset:
            return self.model.visual_domain(next(name for name in self.model.visual_names if name.startswith("fake")))
        return self.model.domains()[1]

    @property
    def channels(self) -> int:
        """Of a translation: a model of its own, such as colorization, shows a colour picture."""
        return 3 if self.through_dataset else self.opt.output_nc

    def identity(self) -> str:
        """The hash of the generator's weights."""
        tag = checkpoint_tag(self.opt.epoch, self.opt.load_iter)
        name = f"G{getattr(self.opt, 'model_suffix', '')}{AVERAGE if self.opt.ema else ''}"
        return sha256_of(self.weights or network_file(self.model.save_dir, tag, name))

    def __call__(self, image: Any) -> Any:
        """Translate a Pillow image, a path, an array (H, W[, C]), a tensor (N, C, H, W) in [-1, 1], or many of these.

        An image comes back as it went in: a path as a Pillow image, others as their own kind; a generator for any other
        iterable. A float array for a run of 8-bit images holds 0..1. Raises ValueError for what is no such image.
        """
        if torch.is_tensor(image):
            return self._tensor(image)
        if isinstance(image, (str, Path, Image.Image, np.ndarray)):
            return next(self._each([image]))
        if not isinstance(image, Iterable):
            raise ValueError(f"{type(image).__name__} is no image: give a path, a Pillow image, an array "
                             f"(H, W[, C]), a tensor (N, C, H, W), or an iterable of these")
        return self._each(image)

    def video(self, source: str | Path, target: str | Path) -> None:
        """Translate each frame of a video or animation into another file, whose ending says the format.

        Times, sound and colour range stay; what has to be left out is a notice. Raises ValueError if there is no frame.
        """
        from image_translation.film import translate_film

        with as_value_error():
            if problem := translate_film(self, str(source), Path(target)):
                notice(f"film {source}", f"{source}: {problem}")

    def _each(self, images: Iterable[Any]) -> Iterator[Any]:
        """The translation of each, in order; images of one size that follow each other are translated at once."""
        for is_tensor, part in groupby(images, torch.is_tensor):
            translate = self._tensors if is_tensor else self._in_batches
            yield from translate(part)

    def _tensors(self, tensors: Iterable[Tensor]) -> Iterator[Tensor]:
        return map(self._tensor, tensors)

    def _in_batches(self, images: Iterable[Any]) -> Iterator[Any]:
        failed: list[Exception] = []

        def prepared() -> Iterator[Item]:
            try:
                yield from map(self.dataset.prepare, images)
            except Exception as error:  # of the iterable, too
                failed.append(error)

        for group in grouped(prepared(), self.opt.batch_size, 0, lambda item: item.sample):
            with as_value_error():
                translations = self.translate(group)
            yield from map(finished, group, translations)
        for error in failed:  # after the images before it
            if not isinstance(error, UsageError):
                raise error
            raise ValueError(str(error)) from error

    def translate(self, items: Sequence[Item]) -> list[Translation]:
        """Translate prepared images of one size."""
        value, values = self._run(merged([item.sample for item in items]))
        value = value.cpu() if torch.is_tensor(value) else [value]
        return [Translation(one, values, item.holes) for one, item in zip(value, items, strict=True)]

    def _run(self, batch: dict[str, Any]) -> tuple[Any, ValueRange]:
        """The translation of a batch, (N, C, H, W) in [-1, 1] or an array (H, W, 3), and the range of its files."""
        with self._one_at_a_time, torch.autocast(self.opt.device.type, enabled=False), explained(LESS_MEMORY):
            feed(self.model, batch)
            self.model.test()
            visuals = self.model.get_current_visuals()
            name, *others = (label for label in visuals if label.startswith("fake"))
            if others:
                notice("asked", f"the run has {1 + len(others)} translations, and this is {name}; asked (--asked) "
                                f"names an attribute")
            for label in self.model.visual_names:
                setattr(self.model, label, None)  # which may be large
        value, values = visuals[name], values_of(self.opt, self.model.visual_domain(name))
        return (value.detach() if torch.is_tensor(value) else value), values

    def _tensor(self, x: Tensor) -> Tensor:
        channels = self.dataset.channels[self.dataset.source]
        if self.through_dataset or x.dim() != 4 or x.shape[1] != channels or not x.is_floating_point() or not x.numel():
            what = "images, not tensors" if self.through_dataset else f"float tensors (N, {channels}, H, W) in [-1, 1]"
            hint = "; x[None] adds the batch dimension" if x.dim() == 3 else ""
            raise ValueError(f"this run translates {what}, not {tuple(x.shape)} of {x.dtype}{hint}")
        if x.layout != torch.strided or x.is_meta or not x.detach().abs().amax() <= 1.01:
            raise ValueError("a tensor holds values in [-1, 1], stored densely on a device, and this one others")
        with as_value_error():
            parts = [self._run({"A": part, "A_paths": [""] * len(part)})[0]
                     for part in x.detach().float().split(self.opt.batch_size)]
        return torch.cat(parts).to(x.device, x.dtype)


def check_choice(run: str, argv: Sequence[str], named: dict[str, Any]) -> None:
    """Raise UsageError if a file names a checkpoint, and other arguments another one."""
    given = [name for name in ("direction", "epoch", "ema") if named.get(name)]
    if given and {"--epoch", "--load_iter"} & {*argv}:
        raise UsageError(f"{run} names a checkpoint and a generator; leave out {', '.join(given)}, or give the folder")


def from_options(opt: Namespace, **more: Any) -> Translator:
    """The run that options of `add_options` name; raises UsageError."""
    given = {name: getattr(opt, name) for name in ("direction", "epoch", "ema", "device", *VALUES, *FLAGS)}
    return Translator(opt.run, **given, **more)
