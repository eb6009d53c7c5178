"""Train a model: python train.py --model cycle_gan --dataroot FOLDER --name RUN."""

import os
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from tqdm import tqdm

from data import create_dataset, create_validation_dataset
from data.loading.loader import Loader
from data.transforms import trained_size
from models import BaseModel, create_model
from models.engine.fine_tuning import init_from
from models.engine.lock import RunLock
from models.engine.signals import ignore_save_requests
from models.engine.training import Training
from models.engine.validation import Validation
from models.engine.views import make_sinks
from options.record import write_record
from options.train_options import TrainOptions
from util.cli import run
from util.distributed import broadcast, from_main, is_main, joined, rank, world_size
from util.errors import UsageError
from util.files import remove_unfinished
from util.memory import LESS_MEMORY, explained, keep_freed_memory, peak
from util.notices import notice, tell
from util.progress import Progress
from util.run_files import checkpoint_tag, move_aside
from util.seed import derive, seed_all


def train(opt) -> BaseModel:
    """Train from the options, or go on where the run stopped; always leaves `latest`."""
    seed_all(opt.seed)
    with closing(create_dataset(opt)) as loader:
        model = make_model(opt, loader)
        with RunLock(model.save_dir) if is_main() else nullcontext():
            set_up(opt, model)
            progress = Progress.restored(model.progress or {"epoch": opt.epoch_count})
            last = opt.n_epochs + opt.n_epochs_decay
            if reason := finished(opt, progress, last):
                tell(f"run {opt.name} {reason}")
                return model
            held_out = create_validation_dataset(opt, loader.dataset)
            if opt.patience and not held_out:
                raise UsageError("--patience counts validations, and there are none")
            validation = held_out and Validation(opt, model, held_out)
            from_main(lambda: prepare_folder(opt, model))  # only now: what is refused above moves no earlier run
            others = f" and {world_size() - 1} more" if world_size() > 1 else ""
            tell(f"training {opt.name} on {opt.device}: epochs {progress.epoch} to {last} of {len(loader)} images; "
                 f"process {os.getpid()}{others}, {model.save_dir}")
            done = (progress.epoch - 1) * len(loader) + progress.iters
            with tqdm(total=last * len(loader), initial=done, unit="img", disable=None if is_main() else True) as bar, \
                    closing(make_sinks(opt, model.save_dir, bar, progress)) as sinks:
                Training(opt, loader, model, progress, bar, sinks, validation, lambda: record(opt, model)).run()
            tell(f"memory: {peak()}")
    return model


def make_model(opt, loader: Loader) -> BaseModel:
    """The model of the options, told what it will be trained on."""
    model = create_model(opt)
    if rank():
        seed_all(derive(opt.seed, rank()))  # the weights are drawn; dropout and pools differ between processes
    model.paired = loader.dataset.paired
    model.planned_images = (opt.n_epochs + opt.n_epochs_decay) * len(loader)
    if size := trained_size(opt):
        model.check_size(*size)
        model.planned_size = size
        torch.backends.cudnn.benchmark = True  # the quickest of its algorithms, found once for the one size
    return model


def set_up(opt, model: BaseModel) -> None:
    """Give the model the weights that it starts from, the same in all processes."""
    model.setup(opt)
    model.restore_schedulers()
    if opt.init_from:
        from_main(lambda: init_from(model.networks(), opt.init_from, opt.checkpoints_dir, checkpoint_tag(opt)))
    broadcast(tensor for net in model.networks().values() for tensor in (*net.parameters(), *net.buffers()))
    if model.average and not model.average.steps:
        model.average.restart()  # from these weights


def finished(opt, progress: Progress, last: int) -> str:
    """Why there is nothing left to train, or nothing."""
    if progress.epoch > last:
        return f"is finished: {progress.epoch - 1} epochs are done, {last} were asked for; a larger --n_epochs goes on"
    if opt.patience and progress.best.get("worse", 0) >= opt.patience:
        return f"stopped early, its best epoch is {progress.best['epoch'] or 'none'}; a larger --patience goes on"
    return ""


def prepare_folder(opt, model: BaseModel) -> None:
    """Clear away what is not of this run, and record it."""
    for part in ("", "web", "web/images"):
        remove_unfinished(Path(model.save_dir) / part)
    if not opt.continue_train and (aside := move_aside(model.save_dir)):
        notice("again", f"run {opt.name} exists and is now {opt.name}/{aside.name}; --continue_train would have gone "
                        f"on with it")
    record(opt, model)


def record(opt, model: BaseModel) -> None:
    """Write down what a test or a resume needs to know."""
    write_record(model.save_dir, opt, {name: getattr(net, "arguments", {}) for name, net in model.networks().items()})


def main(argv: Sequence[str]) -> int:
    """Train what the command line says."""
    ignore_save_requests()
    with explained(LESS_MEMORY):
        opt = TrainOptions().parse(argv)
        if opt.device.type == "cpu":
            keep_freed_memory()
        with joined(opt.device):
            opt.seed = from_main(lambda: opt.seed)
            train(opt)
    return 0


if __name__ == "__main__":
    run(main)
