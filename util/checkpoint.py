"""Checkpoint files: plain values and tensors, read without running code, written atomically."""

import io
import re
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from util.errors import UsageError
from util.files import atomic

AROUND = ("state_dict", "model", "generator", "net", "netG", "params_ema", "params")  # keys of other tools


def save(value: Any, path: str | Path) -> None:
    """Serialise first, then write: a full disk raises OSError and the old file stays."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with atomic(path, "wb") as file:
        file.write(buffer.getbuffer())


def load(path: str | Path) -> Any:
    """Read a checkpoint onto the CPU; raises UsageError if it is missing, truncated or not a checkpoint."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"checkpoint {path} does not exist.{_present(path.parent)}")
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols that damaged files seem to use
            _check_sums(content)
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, EOF, OS, Runtime and Type errors for a bad file
        reason = "more than plain values and tensors" if "Unsupported" in str(error) else "damaged, or another format"
        raise UsageError(f"{path} can't be read as a checkpoint: {reason} ({len(content)} bytes)") from error


def _check_sums(content: bytes) -> None:
    """Raise BadZipFile if bytes have changed; torch does not verify checksums of tensors."""
    if content.startswith(b"PK"):  # the format since PyTorch 1.6
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)


def _present(folder: Path) -> str:
    if not folder.is_dir():
        return f" There is no folder {folder}: is --name right?"
    found = sorted(f.name for f in folder.glob("*.pth"))
    moved = sorted(path.parent.name for path in folder.glob("previous_*/*_net_*.pth"))
    return (f" In that folder: {', '.join(found[:8]) or 'no .pth file'}{', ...' if len(found) > 8 else ''}"
            + (f"; an earlier run is --name {folder.name}/{moved[-1]}" if moved else ""))


def _is_plain(value: torch.Tensor) -> bool:
    """Whether a tensor stores all its values: not sparse, quantized, expanded, or on the meta device."""
    return (value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
            and value.numel() * value.element_size() <= value.untyped_storage().nbytes())


def clean_state_dict(state: Any, path: str | Path = "checkpoint",
                     wanted: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Strip from a network's state_dict what other tools add, unless it already has the `wanted` keys.

    That is a dictionary around it, wrapper prefixes, and running statistics of instance norm, which PyTorch has not
    kept since 0.4: `running_mean` without the `weight` that batch norm has. Raises UsageError for anything that is not
    a state_dict, and for weights that are not finite.
    """
    fits = isinstance(state, dict) and wanted is not None and state.keys() == set(wanted)
    for _ in range(3):  # as deep as tools wrap it
        if not fits and isinstance(state, dict):
            state = next((state[key] for key in AROUND if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not (state or fits) or not all(
            isinstance(key, str) and torch.is_tensor(value) and _is_plain(value) for key, value in state.items()):
        raise UsageError(f"{path} is not the state_dict of one network")
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UsageError(f"{path} has weights that are not finite ({key}); take an earlier checkpoint")
    if fits:
        return state
    state = {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in state.items()}
    stale = ("running_mean", "running_var", "num_batches_tracked")
    return {key: value for key, value in state.items()
            if not (key.endswith(stale) and f"{key.rpartition('.')[0]}.weight" not in state)}
