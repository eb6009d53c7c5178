"""Which sinks a run has."""

from pathlib import Path

from tqdm import tqdm

from util.distributed import is_main
from util.progress import Progress
from util.sinks import Background, Sink
from util.sinks.live import TensorBoardLog, VisdomView, WandbLog, visdom_answers
from util.sinks.log_file import Console, LogFile
from util.sinks.page import Page


def make_sinks(opt, folder: str | Path, bar: tqdm, start: Progress) -> list[Sink]:
    """Everything that shows the run of a folder, from this point of the training on; only the main process shows."""
    if not is_main():
        return []
    sinks: list[Sink] = [Console(bar), Background("the log", lambda: LogFile(folder, start), waiting=1000)]
    if not opt.no_html:
        sinks.append(Background("the page", lambda: Page(
            folder, opt.name, opt.display_winsize, opt.n_epochs + opt.n_epochs_decay, bar.total), opt.update_html_freq))
    if opt.use_tensorboard:
        sinks.append(Background("tensorboard", lambda: TensorBoardLog(f"{folder}/tensorboard"), opt.display_freq))
    if opt.display_id > 0 and visdom_answers(opt.display_server, opt.display_port):
        sinks.append(Background("visdom", lambda: VisdomView(
            opt.name, opt.display_server, opt.display_port, opt.display_env, opt.display_ncols, opt.display_id),
            opt.display_freq))
    if opt.use_wandb:
        sinks.append(Background("wandb", lambda: WandbLog(
            opt.wandb_project_name, opt.name, folder, {k: str(v) for k, v in vars(opt).items()}), opt.display_freq))
    return sinks
