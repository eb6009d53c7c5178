"""Start a new run from the weights of another one, or of one file."""

import re
from pathlib import Path

from torch import nn

from networks.architecture import differences
from util import checkpoint
from util.errors import UsageError, did_you_mean
from util.notices import tell
from util.run_files import network_files

ALSO = {"G_A": "G", "G": "G_A"}  # a single generator, and that of a cycle with the same direction


def init_from(networks: dict[str, nn.Module], source: str, checkpoints_dir: str, tag: str) -> None:
    """Copy every tensor of equal name and shape, and log for each network how much matched.

    `source` is a run, its folder, or one `*_net_<name>.pth`. Raises UsageError if it does not exist, or if nothing in a
    file fits its network.
    """
    files = find_weights(source, checkpoints_dir, tag)
    chosen = {name: files.get(name) or files.get(ALSO.get(name, "")) for name in networks}
    if not any(chosen.values()):
        raise UsageError(f"--init_from {source} has {', '.join(sorted(files))}; this model has {', '.join(networks)}: "
                         f"none in common")
    for name, net in networks.items():
        tell(f"network {name}: {copy_matching(net, chosen[name]) if chosen[name] else 'no weights, starts afresh'}")


def find_weights(source: str, checkpoints_dir: str, tag: str) -> dict[str, Path]:
    """Network name -> file; raises UsageError that lists what exists."""
    path = Path(source)
    if path.is_file():
        named = re.fullmatch(r".+_net_(.+)\.pth", path.name)
        return {named[1] if named else "G": path}
    folder = path if path.is_dir() else Path(checkpoints_dir) / source
    found = network_files(folder, tag)
    if not found:
        runs = [file.parent.name for file in Path(checkpoints_dir).glob("*/*_net_*.pth")]
        problem = f"has no {tag}_net_*.pth (--epoch names another checkpoint)" if folder.is_dir() else "does not exist"
        raise UsageError(f"--init_from {source}: {folder} {problem}.{did_you_mean(source, runs)} Give a run in "
                         f"{checkpoints_dir}, a folder, or a .pth file")
    return found


def copy_matching(net: nn.Module, path: Path) -> str:
    """Copy what fits from a file into a network; returns how much that was, in words."""
    offered, wanted = checkpoint.clean_state_dict(checkpoint.load(path), path), net.state_dict()
    reasons = differences(offered, getattr(net, "arguments", {}))
    fitting = {key: value for key, value in offered.items() if key in wanted and wanted[key].shape == value.shape}
    if not fitting:
        raise UsageError(f"nothing in {path} fits this network: {', '.join(reasons) or 'its tensors have other names'}")
    net.load_state_dict(fitting, strict=False)
    missing = [key for key in wanted if key not in fitting]
    share = sum(value.numel() for value in fitting.values()) / sum(value.numel() for value in wanted.values())
    return (f"{share:.1%} ({len(fitting)} of {len(wanted)} tensors) from {path}"
            + (f", trained with {', '.join(reasons)}" if reasons else "")
            + (f"; not loaded: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}" if missing else ""))
