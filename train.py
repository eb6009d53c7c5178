"""Train a model: python train.py --model cycle_gan --dataroot FOLDER --name RUN."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data import create_dataset
from data.loader import Loader
from data.transforms import trained_size
from models import BaseModel, create_model
from options.record import write_record
from options.train_options import TrainOptions
from util.cli import run
from util.errors import UsageError
from util.images import tensor2im
from util.notices import notice
from util.progress import Means, Progress
from util.run_files import STATE
from util.seed import seed_all
from util.signals import Stopped, StopRequests
from util.sinks import Background, Sinks
from util.sinks.console import Console
from util.sinks.log_file import LogFile
from util.sinks.page import Page
from util.sinks.tensorboard_log import TensorBoardLog
from util.sinks.visdom_view import VisdomView, visdom_answers
from util.sinks.wandb_log import WandbLog


def train(opt) -> BaseModel:
    """Train from the options, or go on where the run stopped; always leaves `latest`."""
    seed_all(opt.seed)
    loader = create_dataset(opt)
    model = create_model(opt)
    if size := trained_size(opt):
        model.check_size(*size)
    model.setup(opt)
    model.restore_schedulers()
    progress = Progress(**(model.counters or {"epoch": opt.epoch_count}))
    last = opt.n_epochs + opt.n_epochs_decay
    if progress.epoch > last:
        print(f"run {opt.name} is finished: {progress.epoch - 1} epochs are done, {last} were asked for; a larger "
              f"--n_epochs goes on")
        return model
    if not opt.continue_train and (Path(model.save_dir) / STATE).exists():
        notice("again", f"run {opt.name} exists: its `latest` is replaced; --continue_train goes on with it, another "
                        f"--name keeps it")
    write_record(model.save_dir, opt, {name: getattr(net, "arguments", {}) for name, net in model.networks().items()})
    done = (progress.epoch - 1) * len(loader) + progress.iters
    with tqdm(total=last * len(loader), initial=done, unit="img", disable=None) as bar, \
            make_sinks(opt, model, bar) as sinks, StopRequests() as stop:
        try:
            run_epochs(opt, loader, model, progress, last, bar, sinks, stop)
        except (UsageError, Stopped):  # an image can't be read, or a signal came: both are between two steps
            if progress.total_iters:
                save_latest(model, progress)
            raise
    return model


def run_epochs(opt, loader: Loader, model: BaseModel, progress: Progress, last: int, bar: tqdm, sinks: Sinks,
               stop: StopRequests) -> None:
    """Train from where `progress` stands to the end of the last epoch."""
    while progress.epoch <= last:
        loader.set_epoch(progress.epoch, progress.iters)
        means = Means()
        for batch in progress.batches(loader):
            model.image_paths = batch.get("A_paths", [])  # for a plugin that does not set them
            model.set_input(batch)
            model.optimize_parameters()
            images = len(model.get_image_paths())
            progress.advance(images)
            bar.update(images)
            means.add(model.current_loss_tensors())
            if progress.due(opt.print_freq):
                progress.lap()
                sinks.scalars(progress, model.get_current_losses())  # waits for the device
            final = progress.epoch == last and progress.iters >= len(loader)
            sinks.images_due(progress, lambda: pictures(model), final)
            if progress.due(opt.save_latest_freq):
                if opt.save_by_iter:
                    model.save_networks(f"iter_{progress.total_iters}")
                save_latest(model, progress)
            if stop.number:
                raise Stopped(stop.number)
        end_epoch(opt, model, progress, means.read(), last)


def end_epoch(opt, model: BaseModel, progress: Progress, means: dict[str, float], last: int) -> None:
    """Report the epoch's mean losses, move the learning rate on, save what is due."""
    generator = [value for name, value in means.items() if name != "D" and not name.startswith("D_")]
    losses = " ".join(f"{name} {value:.3f}" for name, value in means.items())
    tqdm.write(f"end of epoch {progress.epoch} / {last}: mean {losses}; learning rate {model.learning_rate():.3g}")
    model.update_learning_rate(sum(generator or means.values()) if means else None)
    epoch = progress.epoch
    progress.next_epoch()
    if epoch % opt.save_epoch_freq == 0 or epoch == last:
        model.save_networks(epoch)
    save_latest(model, progress)


def save_latest(model: BaseModel, progress: Progress) -> None:
    """What testing and --continue_train start from."""
    model.save_networks("latest")
    model.save_state(**progress.counters())


def pictures(model: BaseModel) -> dict[str, np.ndarray]:
    """The first image of each visual as (H, W, 3) uint8."""
    with torch.no_grad():
        model.compute_visuals()
    return {label: tensor2im(value) for label, value in model.get_current_visuals().items()}


def make_sinks(opt, model: BaseModel, bar: tqdm) -> Sinks:
    """Everything that shows the run."""
    sinks = [Console(bar), LogFile(model.save_dir)]
    if not opt.no_html:
        sinks.append(Page(model.save_dir, opt.name, opt.update_html_freq, opt.display_winsize))
    if opt.use_tensorboard:
        sinks.append(TensorBoardLog(f"{model.save_dir}/tensorboard", opt.display_freq))
    if opt.display_id > 0 and visdom_answers(opt.display_server, opt.display_port):
        sinks.append(Background("visdom", lambda: VisdomView(
            opt.name, opt.display_server, opt.display_port, opt.display_env, opt.display_ncols, opt.display_id),
            opt.display_freq))
    if opt.use_wandb:
        sinks.append(Background("wandb", lambda: WandbLog(
            opt.wandb_project_name, opt.name, model.save_dir, {k: str(v) for k, v in vars(opt).items()}),
            opt.display_freq))
    return Sinks(sinks)


def main(argv: Sequence[str]) -> int:
    """Train what the command line says."""
    train(TrainOptions().parse(argv))
    return 0


if __name__ == "__main__":
    run(main)
