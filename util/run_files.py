"""The files of a run: their folder and names."""

import re
import time
from itertools import count
from pathlib import Path

from util.files import inside

STATE = "latest_state.pth"
RECORD = "train_opt.json"
LOCK = ".lock"
PREVIOUS = "previous_"
PAGE_STATE = "page.json"       # below web/: what the training page shows besides the log and the pictures
RESULT_PAGES = "results.json"  # below web/: pages that test.py has written
PICTURES = "images.json"  # of a folder of results: image -> visual -> [picture for a page, exact file]
AVERAGE = "_ema"  # ends the name that a generator's average is saved under


def run_folder(checkpoints_dir: str, name: str) -> Path:
    """`<checkpoints_dir>/<name>`; raises UsageError for a name that leads elsewhere."""
    return inside(checkpoints_dir, name, "--name")


def checkpoint_tag(epoch: str | int, load_iter: int) -> str:
    """What --load_iter and --epoch name: `iter_N`, `latest`, `best` or an epoch."""
    return f"iter_{load_iter}" if load_iter > 0 else str(epoch)


def network_file(folder: str | Path, tag: str | int, name: str) -> Path:
    """`<tag>_net_<name>.pth` in a run's folder; raises UsageError for a tag that leads elsewhere."""
    return inside(folder, f"{tag}_net_{name}.pth", "checkpoint")


def network_files(folder: str | Path, tag: str | int) -> dict[str, Path]:
    """Network name -> file, of all networks in a folder with this tag, except averages."""
    pattern = network_file(folder, tag, "*").name
    found = {path.name.removeprefix(f"{tag}_net_").removesuffix(".pth"): path
             for path in sorted(Path(folder).glob(pattern))}
    return {name: path for name, path in found.items() if not name.endswith(AVERAGE)}


def prune(folder: str | Path, keep: int) -> None:
    """Remove numbered checkpoints except the last `keep` epochs and the last `keep` `iter_N`."""
    for kind in ("iter_", ""):
        pattern = re.compile(rf"{kind}(\d+)_net_.+\.pth")
        numbers = {path: int(match[1]) for path in Path(folder).iterdir() if (match := pattern.fullmatch(path.name))}
        written = {n: max(path.stat().st_mtime_ns for path in numbers if numbers[path] == n) for n in numbers.values()}
        newest = sorted(written, key=lambda n: (written[n], n))[-keep:]
        for path in [path for path, number in numbers.items() if number not in newest]:
            path.unlink()


def move_aside(folder: str | Path) -> Path | None:
    """Move the files of an earlier run into `previous_<date>` in its folder and return that, None if there are none.

    Nested runs, as `--name a/b` is in `--name a`, stay.
    """
    folder = Path(folder)
    earlier = [path for path in folder.iterdir() if path.name != LOCK and not _holds_run(path)]
    if not earlier:
        return None
    name = f"{PREVIOUS}{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    target = next(path for n in count(1) if not (path := folder / f"{name}{f'_{n}' if n > 1 else ''}").exists())
    target.mkdir()
    for path in sorted(earlier, key=lambda path: path.name in (RECORD, STATE)):  # last: what continuing needs
        path.rename(target / path.name)
    return target


def _holds_run(path: Path) -> bool:
    """Whether a folder is a run, was one, or contains one."""
    return path.is_dir() and (path.name.startswith(PREVIOUS) or any(path.rglob(LOCK)) or any(path.rglob(RECORD)))
