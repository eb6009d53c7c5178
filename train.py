"""Train a model: python train.py --model cycle_gan --dataroot FOLDER --name RUN."""

import random

import numpy as np
import torch
from tqdm import tqdm

from data import create_dataset
from data.transforms import trained_size
from models import BaseModel, create_model
from options.recorded import write_record
from options.train_options import TrainOptions
from util.cli import run
from util.images import tensor2im
from util.progress import Means, Progress
from util.sinks import Background, Sinks
from util.sinks.console import Console
from util.sinks.log_file import LogFile
from util.sinks.page import Page
from util.sinks.tensorboard_log import TensorBoardLog
from util.sinks.visdom_view import VisdomView, answers
from util.sinks.wandb_log import WandbLog, require


def train(opt) -> BaseModel:
    """Train from the options, or go on where the run stopped; always leaves `latest`."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(opt.seed)
    dataset = create_dataset(opt)
    model = create_model(opt)
    if size := trained_size(opt):
        model.check_size(*size)
    at = Progress(**(model.setup(opt) or {"epoch": opt.epoch_count}))
    last = opt.n_epochs + opt.n_epochs_decay
    if at.epoch > last:
        print(f"run {opt.name} is finished: {last} epochs are done; a larger --n_epochs goes on")
        return model
    bar = tqdm(total=last * len(dataset), initial=(at.epoch - 1) * len(dataset) + at.iters, unit="img", disable=None)
    with bar, make_sinks(opt, model, bar) as sinks:
        while at.epoch <= last:
            dataset.set_epoch(at.epoch, at.iters)
            means = Means()
            for batch in at.batches(dataset):
                model.set_input(batch)
                model.optimize_parameters()
                images = len(model.get_image_paths())
                at.advance(images)
                bar.update(images)
                means.add(model.current_loss_tensors())
                if at.due(opt.print_freq):
                    at.lap()
                    sinks.scalars(at, model.get_current_losses())  # waits for the device
                sinks.images_due(at, lambda: pictures(model), last=at.epoch == last and at.iters >= len(dataset))
                if at.due(opt.save_latest_freq):
                    model.save_networks(f"iter_{at.total_iters}" if opt.save_by_iter else "latest")
                    model.save_state(**at.counters())
            end_epoch(opt, model, at, means.read(), last)
    return model


def end_epoch(opt, model: BaseModel, at: Progress, means: dict[str, float], last: int) -> None:
    """Report the epoch's mean losses, move the learning rate on, save what is due."""
    generator = sum(value for name, value in means.items() if not name.startswith("D")) if means else None
    rate = model.learning_rate()
    model.update_learning_rate(generator)
    losses = " ".join(f"{name} {value:.3f}" for name, value in means.items())
    tqdm.write(f"end of epoch {at.epoch} / {last}: mean {losses}; learning rate {rate:.3g}")
    epoch = at.epoch
    at.next_epoch()
    if epoch % opt.save_epoch_freq == 0 or epoch == last:
        model.save_networks(epoch)
        model.save_networks("latest")
        model.save_state(**at.counters())


def pictures(model: BaseModel) -> dict[str, np.ndarray]:
    """The first image of each visual as (H, W, 3) uint8."""
    with torch.no_grad():
        model.compute_visuals()
    return {label: tensor2im(value) for label, value in model.get_current_visuals().items()}


def make_sinks(opt, model: BaseModel, bar: tqdm) -> Sinks:
    """Record the run and open everything that shows it; nothing is written before."""
    if opt.use_wandb:
        require()
    tensorboard = [TensorBoardLog(f"{model.save_dir}/tensorboard", opt.display_freq)] if opt.use_tensorboard else []
    write_record(model.save_dir, opt, {name: getattr(net, "arguments", {}) for name, net in model.networks().items()})
    sinks = [Console(bar), LogFile(model.save_dir), *tensorboard]
    if not opt.no_html:
        sinks.append(Page(model.save_dir, opt.name, opt.update_html_freq, opt.display_winsize))
    if opt.display_id > 0 and answers(opt.display_server, opt.display_port):
        sinks.append(Background("visdom", lambda: VisdomView(
            opt.name, opt.display_server, opt.display_port, opt.display_env, opt.display_ncols, opt.display_id),
            opt.display_freq))
    if opt.use_wandb:
        sinks.append(Background("wandb", lambda: WandbLog(
            opt.wandb_project_name, opt.name, model.save_dir, {k: str(v) for k, v in vars(opt).items()}),
            opt.display_freq))
    return Sinks(sinks)


if __name__ == "__main__":
    run(lambda: train(TrainOptions().parse()) and 0)
