"""The loop of a training: epochs of steps, and what happens between two steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from models.base_model import BaseModel
from models.engine import saving
from models.engine.cuda_graph import CapturedStep, changed_tensors, cuda_graph
from models.engine.health import Health
from models.engine.interrupts import Signals, report_stall
from models.engine.state import MicroBatch, learning_rate, losses, mean_losses, networks, pools
from models.engine.step import Guard, counts, grouped, own_steps_refused, refuse_untrained
from models.engine.validation import Pictures, Validation, best_of, feed, follow
from util.device import cores
from util.distributed import all_max, from_main, is_main, rank, share, world_size
from util.errors import Stopped, UsageError, one_line
from util.notices import notice, say, tell
from util.progress import Progress
from util.run_files import RECORD, prune
from util.sinks import Sinks
from util.stall import Watchdog

WAITED_LONG = 5  # seconds of an epoch


class Training:
    """Trains a model on what a loader of the package data yields, from where `progress` stands to the last epoch."""

    def __init__(self, opt, loader: Any, model: BaseModel, progress: Progress, bar: tqdm, sinks: Sinks,
                 validation: Validation | None, write_record: Callable[[], None], begin: Callable[[], None]):
        self.opt, self.loader, self.model, self.validation = opt, loader, model, validation
        self.bar, self.sinks = bar, sinks
        self.write_record, self.begin = write_record, begin  # if someone has removed the folder; after the first step
        self.progress, self.last = progress, opt.n_epochs + opt.n_epochs_decay
        self.health = Health(opt.gan_mode, model._engine.paired, self.note)
        self.signals, self.saver = Signals(), saving.Saver(self.save, opt.save_minutes)
        statistics = [b for net in networks(model).values() for b in net.buffers() if b.is_floating_point()]
        self.guard = Guard(opt.grad_clip, statistics, own_steps_refused(model, opt))
        self.captured = CapturedStep(model, self.guard, cuda_graph) if opt.cuda_graph == "on" else None
        self.restored_at = -1  # steps taken when the weights were last restored
        self.in_step = self.stepped = False
        self.files: list[str] = []  # of the last step
        self.pictures = Pictures(model, validation.loader if validation else loader, opt.display_samples)
        self.watch = Watchdog(opt.stall_minutes * 60, lambda: report_stall(
            Path(model.save_dir) / (f"stalled_{rank()}.txt" if rank() else "stalled.txt"), opt.stall_minutes,
            loader.workers.status()))
        if world_size() == 1:  # several stop together, after a step
            loader.workers.while_waiting = self.signals.check

    def run(self) -> None:
        """Train to the end of the last epoch."""
        with end_shown(self), self.signals, self.guard, self.watch, process_wide_state(self.model):
            try:
                while self.progress.epoch <= self.last:
                    self.epoch()
            except (UsageError, Stopped) as reason:
                together = world_size() == 1 or isinstance(reason, Stopped)
                if self.progress.total_iters and not self.in_step and together:
                    self.saver.insist(seconds=10)
                raise
            refuse_untrained(self.guard, self.opt)
            if self.saver.error:
                self.watch.pause()
                self.saver.insist(self.opt.save_minutes * 60, stop=lambda: self.signals.stop)

    def epoch(self) -> None:
        """Train from where the progress stands to the end of its epoch."""
        self.loader.set_epoch(self.progress.epoch, self.progress.iters)
        self.bar.set_description(f"epoch {self.progress.epoch} / {self.last}", refresh=False)
        for batches in grouped(self.progress.batches(self.loader), self.opt.accumulate):
            self.step(batches)
            self.watch.beat()
            self.agree()
            self.show()
            self.save_if_due()
            if self.stop:
                raise Stopped(self.stop)
        self.end_epoch()

    def step(self, batches: list[dict[str, Any]]) -> None:
        """One step of each optimizer, on one batch or --accumulate of them; a failure inside can't be undone."""
        self.in_step = True
        model = self.model
        mine, everyone = counts(len(batches), self.opt.batch_size, len(self.loader) - self.progress.iters)
        share.step = sum(mine) / sum(everyone)
        for i, batch in enumerate(batches):
            share.batch = mine[i] / everyone[i]
            model._engine.begin(MicroBatch(i == 0, mine[i] / sum(mine) if any(mine) else 1.0, i == len(batches) - 1))
            self.train_on(batch)
            self.progress.means.add(losses(model), share.batch)
        model._engine.end_step()
        self.files = [path for batch in batches for key in ("A_paths", "B_paths") for path in batch.get(key, [])]
        self.guard.end_step(self.files)
        self.progress.advance(sum(everyone))
        self.bar.update(sum(everyone))
        if not self.stepped:
            self.begin()
            if self.opt.continue_train and not self.model._engine.progress:  # networks only: outdate the old state
                self.saver.attempt()
        self.in_step, self.stepped = False, True

    def train_on(self, batch: dict[str, Any]) -> None:
        """One call of `optimize_parameters`, or its replay."""
        if self.captured is None:
            feed(self.model, batch)
            self.model.optimize_parameters()
        else:
            self.captured(changed_tensors(self.model, lambda: feed(self.model, batch)))

    def agree(self) -> None:
        """A stop or save requested of one process, by a signal or the clock, holds for all."""
        asked, self.signals.save = self.signals.save, False
        stop, asked, due = all_max((self.signals.stop, asked, is_main() and self.saver.due()))
        self.stop, self.asked_to_save, self.time_is_up = int(stop), bool(asked), bool(due)

    def show(self) -> None:
        """Log losses and make pictures if due, at least once per epoch; waits for the device."""
        opt, progress = self.opt, self.progress
        epoch_ends = progress.iters >= len(self.loader)
        if progress.due(opt.print_freq) or self.guard.due():
            self.check_numbers()
        if progress.due(opt.print_freq) or (epoch_ends and len(self.loader) < opt.print_freq):
            progress.lap()
            progress.learning_rate = learning_rate(self.model)
            values = mean_losses(self.model)
            self.sinks.scalars(progress, values)
            if is_main():
                self.health.observe(self.model, values, progress.total_iters, progress.epoch,
                                    dict.fromkeys(self.files[:2]))
        self.sinks.images_due(progress, self.pictures, epoch_ends)

    def check_numbers(self) -> None:
        """Report skipped steps; after too many in a row, restore the weights of the last save."""
        guard = self.guard
        before, files = guard.skipped, guard.read()
        if guard.skipped > before:
            for pool in pools(self.model).values():
                pool.drop_non_finite()
            say(f"warning: a loss or gradient is not finite (epoch {self.progress.epoch}, up to image "
                f"{self.progress.iters}); skipped steps: {guard.skipped}, with the files "
                f"{', '.join(dict.fromkeys(files[:6]))}{', ...' if len(files) > 6 else ''}")
        if guard.streak >= self.opt.nan_patience:
            self.restore_state(f"{guard.streak} steps in a row were not finite")

    def ensure_finite(self) -> None:
        """Restore weights that are not finite before they are written."""
        self.check_numbers()
        if not saving.is_finite(self.model):
            self.restore_state("weights are not finite")

    def restore_state(self, reason: str) -> None:
        """Restore the last save; raises UsageError if there is none, or no step was finite since the last restore."""
        if self.guard.taken == self.restored_at or not (self.saver.saved or self.model._engine.progress):
            raise UsageError(f"no step is finite any more, and there is no good save to go back to; a smaller --lr, "
                             f"--grad_clip 1, or python -m data.check {self.opt.dataroot} may help")
        say(f"warning: {reason}; the weights of the last save are restored")
        saving.restore_state(self.model)
        if self.captured:
            self.captured.forget()
        self.guard.streak, self.restored_at = 0, self.guard.taken

    def end_epoch(self) -> None:
        """Report the epoch's mean losses, step the learning rate, save what is due."""
        model, epoch, means = self.model, self.progress.epoch, self.progress.means.read()
        generator = [value for name, value in means.items() if name != "D" and not name.startswith("D_")]
        terms = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        unusable = f"; unusable images: {len(self.loader.errors)}" if self.loader.errors else ""
        waiting = self.progress.waiting()
        tell(f"end of epoch {epoch} / {self.last}: mean {terms}; learning rate {learning_rate(model):.3g}; waiting "
             f"for data {waiting:.0%} of the time{unusable}")
        if waiting > 0.2 and self.progress.waited > WAITED_LONG:
            notice("waiting", f"steps wait for data {waiting:.0%} of the time; {faster_data(self.opt)}")
        figure = sum(generator or means.values()) if means else None
        model.update_learning_rate(self.validate(figure) if self.validation else figure)
        self.progress.next_epoch()
        if epoch % self.opt.save_epoch_freq == 0 or epoch == self.last:
            self.save_numbered(epoch)
        self.saver.attempt()

    def note(self, text: str) -> None:
        """Report a sentence about the health of the training."""
        say(text)
        self.sinks.note(self.progress, text)

    def between_batches(self) -> None:
        """The validation has not stalled; a single process may stop here."""
        self.watch.beat()
        if world_size() == 1:
            self.signals.check()

    def validate(self, losses: float | None) -> float | None:
        """Every --val_freq epochs score the model and keep the best; returns what the plateau policy watches.

        That is None between validations, and the loss if --best_metric has no figure.
        """
        opt, progress = self.opt, self.progress
        if progress.epoch % opt.val_freq and progress.epoch != self.last:
            return None
        self.saver.attempt()  # a validation may take long, and must lose nothing
        figures = self.validation(self.between_batches)
        values = {name: figure.value for name, figure in figures.items()}
        found, better, best = follow(values, opt.best_metric), False, ""
        if found:
            progress.best, better = best_of(progress.best, found, progress.epoch)
            best = f" The best by {found.name}: epoch {progress.best['epoch']}." if progress.best["epoch"] else ""
        told = "; ".join(f"{name} {figure}" for name, figure in figures.items()) or "no figure"
        tell(f"validation of epoch {progress.epoch}: {told}.{best}")
        self.sinks.metrics(progress, values, better)
        if found is None:
            there = ", ".join(values) or "there are none"
            notice("best", f"--best_metric {opt.best_metric} has no figure here ({there}): no best_net_*.pth is kept"
                           f"{', and --patience stops nothing' if opt.patience else ''}")
            return losses
        if better:
            self.save_numbered("best")
        if opt.patience and progress.best["worse"] >= opt.patience:
            tell(f"no better validation {opt.patience} times (--patience): training stops")
            self.last = progress.epoch
        return found.cost

    def save_if_due(self) -> None:
        """Save `latest` if the number of images, the clock or a signal says so."""
        by_images = self.progress.due(self.opt.save_latest_freq)
        if by_images and self.opt.save_by_iter:
            self.save_numbered(f"iter_{self.progress.total_iters}")
        if (by_images or self.asked_to_save or self.time_is_up) and self.saver.attempt() and self.asked_to_save:
            tell(f"saved: epoch {self.progress.epoch}, after {self.progress.iters} of its images")

    def save(self) -> None:
        """Write what --continue_train and testing read; the state first, which is all that a resume needs."""
        self.ensure_finite()
        from_main(lambda: (Path(self.model.save_dir) / RECORD).exists() or self.write_record())
        saving.save_state(self.model, self.progress.state())
        self.model.save_networks("latest")

    def save_numbered(self, tag: str | int) -> None:
        """Keep the networks of this moment; if there is no space, the training goes on."""
        self.ensure_finite()
        try:
            self.model.save_networks(tag)
            if self.opt.keep and is_main():
                prune(self.model.save_dir, self.opt.keep)
        except OSError as error:
            say(f"warning: checkpoint {tag} could not be written: {error}")


@contextmanager
def end_shown(training: Training) -> Iterator[None]:
    """Show how the training ends."""
    end, at = training.sinks.ended, training.progress
    try:
        yield
    except BaseException as error:
        asked = isinstance(error, Stopped)
        end(at, f"{'Ended' if asked else 'Failed'}: {one_line(error)}.", well=asked)
        raise
    patience = training.opt.patience
    early = patience and at.best.get("worse", 0) >= patience
    end(at, f"Stopped early (--patience {patience})." if early else "Finished.", well=True)


@contextmanager
def process_wide_state(model: BaseModel) -> Iterator[None]:
    """Restore afterwards what a training changes for the whole process."""
    before, benchmark = dict(vars(share)), torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark |= model._engine.planned_size is not None  # pays if all images share one size
    model._engine.guarded = True
    try:
        yield
    finally:
        vars(share).update(before)
        torch.backends.cudnn.benchmark, model._engine.guarded = benchmark, False


def faster_data(opt) -> str:
    """What makes data arrive faster."""
    advice = []
    if opt.num_threads < cores():
        advice.append(f"--num_threads {cores()} reads with all cores")
    if opt.cache == "off":
        advice.append("--cache ram or disk decodes each image once")
    return ", ".join([*advice, "smaller files on a local disk help (stored at --load_size)"])
