"""The files of a run: which folder, and what they are called."""

from pathlib import Path

from util.files import inside

STATE = "latest_state.pth"
RECORD = "train_opt.json"


def run_folder(opt) -> Path:
    """`<checkpoints_dir>/<name>`; raises UsageError for a name that leads elsewhere."""
    return inside(opt.checkpoints_dir, opt.name, "--name")


def checkpoint_tag(opt) -> str:
    """What --load_iter and --epoch name: `iter_N`, `latest` or an epoch."""
    return f"iter_{opt.load_iter}" if opt.load_iter > 0 else str(opt.epoch)


def network_file(folder: str | Path, tag: str | int, name: str) -> Path:
    """`<tag>_net_<name>.pth` in a run's folder; raises UsageError for a tag that leads elsewhere."""
    return inside(folder, f"{tag}_net_{name}.pth", "checkpoint")
