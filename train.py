"""Train a model: python train.py --model cycle_gan --dataroot FOLDER --name RUN."""

import os
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing, nullcontext
from copy import copy
from pathlib import Path
from typing import Any

from data import create_dataset, create_validation_dataset
from data.loading.loader import Loader
from data.transforms import trained_size
from models import BaseModel, create_model
from models.engine.cuda_graph import decide
from models.engine.interrupts import RunLock, ignore_save_requests
from models.engine.saving import init_from, restore_schedulers
from models.engine.state import networks
from models.engine.training import Training
from models.engine.validation import Validation
from models.engine.views import make_sinks
from networks.layers import check_size
from options.record import write_record
from options.train_options import TrainOptions
from util.cli import run
from util.distributed import broadcast, from_main, is_main, joined, rank, world_size
from util.errors import UsageError
from util.files import remove_unfinished
from util.memory import explained, keep_freed_memory, peak
from util.notices import Bar, fresh, notice, tell
from util.progress import Progress
from util.run_files import checkpoint_tag, move_aside
from util.seed import derive, seed_all
from util.sinks import Sinks
from util.trust import trust

LESS_MEMORY = ("a smaller --batch_size with --accumulate", "--checkpoint_activations", "a smaller --crop_size",
               "a smaller --ngf and --ndf", "--netG resnet_6blocks or a smaller U-Net", "a smaller --pool_size")


def parse(argv: Sequence[str]) -> Namespace:
    """The options of a command line; raises UsageError."""
    return TrainOptions().parse(argv)


def train(opt: Namespace) -> BaseModel:
    """Train with these options, or continue where the run stopped; always leaves `latest`."""
    seed_all(opt.seed)
    with fresh(), closing(create_dataset(opt)) as loader:
        model = make_model(opt, loader)
        with RunLock(model.save_dir) if is_main() else nullcontext():
            set_up(opt, model, loader)
            progress = Progress.restored(
                model._engine.progress or {"epoch": opt.epoch_count, "best": model._engine.best})
            last = opt.n_epochs + opt.n_epochs_decay
            if reason := finished(opt, progress, last):
                tell(f"run {opt.name} {reason}")
                return model
            held_out = create_validation_dataset(opt, loader.dataset)
            if opt.patience and not held_out:
                raise UsageError("--patience counts validations, and there are none")
            validation = Validation(opt, model, held_out) if held_out else None
            others = f" and {world_size() - 1} more" if world_size() > 1 else ""
            speed = ", ".join(f"{key} {getattr(opt, key)}" for key in ("amp", "compile", "cuda_graph", "cache"))
            tell(f"training {opt.name} on {opt.device} ({'plain' if opt.plain else speed}): epochs {progress.epoch} to "
                 f"{last} of {len(loader)} images; process {os.getpid()}{others}, {model.save_dir}")
            done, start = (progress.epoch - 1) * len(loader) + progress.iters, copy(progress)
            with Bar(total=last * len(loader), initial=done, unit="img", disable=None if is_main() else True) as bar, \
                    closing(Sinks(lambda: make_sinks(opt, model.save_dir, bar, start))) as sinks:
                Training(opt, loader, model, progress, bar, sinks, validation, lambda: record(opt, model),
                         lambda: from_main(lambda: begin(opt, model))).run()
            tell(f"memory: {peak()}")
    return model


def make_model(opt: Namespace, loader: Loader) -> BaseModel:
    """The model that the options name, told what it will be trained on."""
    model = create_model(opt)
    if rank():
        seed_all(derive(opt.seed, rank()))  # after drawing the weights: dropout and pools differ between processes
    check_needs(opt, model, loader)
    engine = model._engine
    engine.paired, engine.planned_size = bool(loader.dataset.paired), trained_size(opt)
    engine.planned_images = (opt.n_epochs + opt.n_epochs_decay) * len(loader)
    if size := engine.planned_size:
        for net in networks(model).values():
            check_size(net, *size)
    return model


def check_needs(opt: Namespace, model: BaseModel, loader: Loader) -> None:
    """Raise UsageError if the model needs a second domain, or pairs, that the dataset says it does not have."""
    dataset, needs = loader.dataset, vars(type(model)).get("needs", "")
    lacking = "a second domain" if needs and dataset.has_B is False else (
        "pairs" if needs == "pairs" and dataset.paired is False else "")
    if lacking:
        fitting = "aligned" if needs == "pairs" else "unaligned"
        raise UsageError(f"--model {opt.model} needs {lacking}, and --dataset_mode {opt.dataset_mode} has none; use "
                         f"--dataset_mode {fitting}")
    if opt.masks and not model.takes_masks:
        raise UsageError(f"--model {opt.model} does not translate inside masks; pix2pix and the unpaired models "
                         f"do")
    if needs == "B" and dataset.paired:
        notice("paired", f"--model {opt.model} learns without pairs; --dataset_mode {opt.dataset_mode} shows it each "
                         f"image with its partner")


def set_up(opt: Namespace, model: BaseModel, loader: Loader) -> None:
    """Give the model its initial weights, the same in all processes, and settle what `auto` means."""
    initialize: Any = getattr(model, "data_dependent_initialize", None)
    if initialize:  # of networks whose shapes depend on it (CUT)
        model.to(model.device)
        initialize(loader.first_batch())
    model.setup(opt)
    restore_schedulers(model)
    if opt.init_from:
        tag = checkpoint_tag(opt.epoch, opt.load_iter)
        from_main(lambda: init_from(networks(model), opt.init_from, opt.checkpoints_dir, tag))
    broadcast(tensor for net in networks(model).values() for tensor in (*net.parameters(), *net.buffers()))
    if (average := model._engine.average) and not average.steps:
        average.restart()  # from these weights
    decide(model, opt)


def finished(opt: Namespace, progress: Progress, last: int) -> str:
    """Why there is nothing left to train, or an empty string."""
    if progress.epoch > last:
        return f"is finished: {progress.epoch - 1} of {last} epochs are done; a larger --n_epochs continues it"
    if opt.patience and progress.best.get("worse", 0) >= opt.patience:
        return f"stopped early, its best epoch is {progress.best['epoch'] or 'none'}; a larger --patience continues it"
    return ""


def begin(opt: Namespace, model: BaseModel) -> None:
    """Move the files of an earlier run aside and record this one; called after the first step, when it can train."""
    tell(f"memory after the first step: {peak()}")
    for part in ("", "web", "web/images"):
        remove_unfinished(Path(model.save_dir) / part)
    if not opt.continue_train and (aside := move_aside(model.save_dir)):
        notice("again", f"the earlier run {opt.name} is now {opt.name}/{aside.name}; --continue_train would have "
                        f"continued it")
    record(opt, model)
    for place in (opt.plugin_dir, *(word.partition(":")[0] for word in (opt.model, opt.dataset_mode) if ":" in word)):
        if place:
            trust(place)


def record(opt: Namespace, model: BaseModel) -> None:
    """Record what a test or a resume needs to know."""
    write_record(model.save_dir, opt, {name: getattr(net, "arguments", {}) for name, net in networks(model).items()})


def main(argv: Sequence[str]) -> int:
    """Train as the command line says."""
    ignore_save_requests()
    with explained(LESS_MEMORY):
        opt = parse(argv)
        if opt.device.type == "cpu":
            keep_freed_memory()
        with joined(opt.device):
            opt.seed = from_main(lambda: opt.seed)
            train(opt)
    return 0


if __name__ == "__main__":
    run(main)
