"""Fetch the public CycleGAN and pix2pix datasets and pretrained generators: python -m data.download NAME."""

import argparse
import hashlib
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from util.cli import OneLineParser, run
from util.errors import UsageError, unknown

MIRROR = "http://efrosgans.eecs.berkeley.edu"
DATASETS = {
    "cycle_gan": ("cyclegan/datasets/{}.zip", (
        "ae_photos", "apple2orange", "cezanne2photo", "facades", "grumpifycat", "horse2zebra", "iphone2dslr_flower",
        "maps", "mini", "mini_colorization", "mini_pix2pix", "monet2photo", "summer2winter_yosemite", "ukiyoe2photo",
        "vangogh2photo")),
    "pix2pix": ("pix2pix/datasets/{}.tar.gz", (
        "edges2handbags", "edges2shoes", "facades", "maps", "night2day")),
}
GENERATORS = {
    "cycle_gan": ("cyclegan/pretrained_models/{}.pth", (
        "apple2orange", "cityscapes_label2photo", "cityscapes_photo2label", "facades_label2photo",
        "facades_photo2label", "horse2zebra", "iphone2dslr_flower", "map2sat", "monet2photo", "orange2apple", "sat2map",
        "style_cezanne", "style_monet", "style_ukiyoe", "style_vangogh", "summer2winter_yosemite",
        "winter2summer_yosemite", "zebra2horse")),
    "pix2pix": ("pix2pix/models-pytorch/{}.pth", (
        "day2night", "edges2shoes", "facades_label2photo", "map2sat", "sat2map")),
}
TRIES = 5


def main(argv: Sequence[str]) -> int:
    """Download what the command line names."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("name", help="of a dataset, or of a generator with --pretrained; `list` shows all")
    parser.add_argument("--pretrained", action="store_true", help="a trained generator instead of a dataset")
    parser.add_argument("--model", choices=tuple(DATASETS), help="which one, for a name that both have")
    parser.add_argument("--dataroot", default="./datasets", help="folder for datasets")
    parser.add_argument("--checkpoints_dir", default="./checkpoints", help="folder for generators")
    parser.add_argument("--mirror", default=MIRROR, help="another server with the same layout")
    parser.add_argument("--sha256", help="what the file must hash to")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    opt = parser.parse_args(argv)
    if opt.name == "list":
        print(listing())
        return 0
    address = f"{opt.mirror.rstrip('/')}/{find(opt)}"
    if opt.pretrained:
        folder = Path(opt.checkpoints_dir) / f"{opt.name}_pretrained"
        fetch(address, folder / "latest_net_G.pth", opt.sha256)
        print(f"python test.py --model test --name {folder.name} --dataroot FOLDER")
    else:
        archive, target = Path(opt.dataroot) / address.rpartition("/")[2], Path(opt.dataroot) / opt.name
        refuse_existing(target)
        fetch(address, archive, opt.sha256)
        unpack(archive, target)
        archive.unlink()
        print(f"--dataroot {target}")
    return 0


def listing() -> str:
    """Every name there is."""
    return "\n".join(f"{kind} of {model}: {', '.join(names)}" for kind, table in
                     (("datasets", DATASETS), ("generators (--pretrained)", GENERATORS))
                     for model, (_, names) in table.items())


def find(opt: argparse.Namespace) -> str:
    """The address below the mirror; raises UsageError for an unknown or ambiguous name."""
    table = GENERATORS if opt.pretrained else DATASETS
    having = [model for model, (_, names) in table.items() if opt.name in names and opt.model in (None, model)]
    if not having and opt.name == "cityscapes" and not opt.pretrained:
        raise UsageError("the licence of cityscapes does not allow a copy; it is at https://www.cityscapes-dataset.com")
    if not having:
        kind = "pretrained generator" if opt.pretrained else "dataset"
        raise unknown(kind, opt.name, {n for m, (_, names) in table.items() if opt.model in (None, m) for n in names})
    if len(having) > 1:
        raise UsageError(f"'{opt.name}' exists for {' and '.join(having)}; choose with --model")
    return table[having[0]][0].format(opt.name)


def fetch(address: str, path: Path, sha256: str | None = None) -> None:
    """Download to `path`, continuing `<path>.part` of an earlier try; raises UsageError if that fails."""
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    problem = ""
    for _ in range(TRIES):
        try:
            complete = _fetch_rest(address, part)
        except urllib.error.HTTPError as error:
            raise UsageError(f"{address} answers {error.code} {error.reason}; try another --mirror") from error
        except ValueError as error:
            raise UsageError(f"{address} is no address ({error}); --mirror begins with http://") from error
        except OSError as error:
            complete, problem = False, f": {error}"
        if complete:
            break
    else:
        raise UsageError(f"{address} could not be fetched{problem}; the same command continues {part}")
    if sha256 and (found := _sha256(part)) != sha256.lower():
        part.unlink()
        raise UsageError(f"{address} hashes to {found}, not to {sha256}; the file is removed")
    os.replace(part, path)


def _fetch_rest(address: str, part: Path) -> bool:
    """Append what is missing; returns whether the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return True  # there is nothing left to fetch
        raise
    with answer:
        have = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file, tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar:
            while chunk := answer.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or part.stat().st_size == total


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_existing(target: Path) -> None:
    """Raise UsageError rather than mix two downloads."""
    if target.exists():
        raise UsageError(f"{target} exists; move it away to download it again")


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .zip or .tar.gz, whose only folder becomes `target`; raises UsageError for paths that lead out."""
    refuse_existing(target)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpack_") as folder:
        inside = Path(folder)
        try:
            if archive.suffix == ".zip":
                _unzip(archive, inside)
            else:
                with tarfile.open(archive) as tar:
                    tar.extractall(inside, filter="data")
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise UsageError(f"{archive} can't be unpacked ({error}); remove it to download it again") from error
        entries = list(inside.iterdir())
        source = entries[0] if len(entries) == 1 and entries[0].is_dir() else inside
        target.mkdir()
        for entry in source.iterdir():
            shutil.move(entry, target / entry.name)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            out = not (folder / entry.filename).resolve().is_relative_to(folder.resolve())
            if out or stat.S_ISLNK(entry.external_attr >> 16):
                raise zipfile.BadZipFile(f"'{entry.filename}' leads out of the folder")
        file.extractall(folder)


if __name__ == "__main__":
    run(main)
