"""Fetch the public CycleGAN and pix2pix datasets and pretrained generators: python -m data.download NAME."""

import argparse
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from util.cli import OneLineParser, run
from util.errors import UsageError, one_line, unknown
from util.files import add_to_user_file, read_user_file, sha256_of
from util.memory import GIB
from util.notices import notice, tell
from util.types import positive

HOST = "efrosgans.eecs.berkeley.edu"
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
HASHES = "downloads.json"  # address -> SHA-256 of the first download


def main(argv: Sequence[str]) -> int:
    """Download what the command line names."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("name", help="of a dataset, or of a generator with --pretrained; `list` shows all")
    parser.add_argument("--pretrained", action="store_true", help="a trained generator instead of a dataset")
    parser.add_argument("--model", choices=tuple(DATASETS), help="which one, for a name that both have")
    parser.add_argument("--dataroot", default="./datasets", help="folder for datasets")
    parser.add_argument("--checkpoints_dir", default="./checkpoints", help="folder for generators")
    parser.add_argument("--mirror", default=None, help=f"another server with the same layout as https://{HOST}")
    parser.add_argument("--max_gib", type=positive, default=100, help="largest unpacked size, in GiB")
    parser.add_argument("--sha256", help="what the file must hash to")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of an error")
    opt = parser.parse_args(argv)
    if opt.name == "list":
        for line in listing():
            tell(line)
        return 0
    address = f"{(opt.mirror or secure(HOST)).rstrip('/')}/{find(opt)}"
    if opt.pretrained:
        folder = Path(opt.checkpoints_dir) / f"{opt.name}_pretrained"
        fetch(address, folder / "latest_net_G.pth", opt.sha256)
        tell(f"python test.py --model test --name {folder.name} --dataroot FOLDER")
    else:
        archive, target = Path(opt.dataroot) / address.rpartition("/")[2], Path(opt.dataroot) / opt.name
        refuse_existing(target)
        fetch(address, archive, opt.sha256)
        unpack(archive, target, opt.max_gib)
        archive.unlink()
        tell(f"--dataroot {target}")
    return 0


def listing() -> list[str]:
    """A line for each kind of what there is."""
    return [f"{kind} of {model}: {', '.join(names)}"
            for kind, table in (("datasets", DATASETS), ("generators (--pretrained)", GENERATORS))
            for model, (_, names) in table.items()]


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
    found, name = sha256_of(part), address.partition("://")[2]
    earlier = read_user_file(HASHES).get(name)
    if (wanted := sha256 or earlier) and found != str(wanted).lower():
        part.unlink()
        reason = "" if sha256 else f", as when it was first downloaded (--sha256 {found} accepts the new one)"
        raise UsageError(f"{address} hashes to {found}, not to {wanted}{reason}; the file is removed")
    if earlier != found:
        add_to_user_file(HASHES, name, found)
    os.replace(part, path)


def secure(host: str) -> str:
    """https://HOST if it answers there, else http://HOST, with a notice."""
    try:
        urllib.request.urlopen(f"https://{host}", timeout=10).close()
    except urllib.error.HTTPError:
        pass  # which is an answer
    except OSError as error:
        notice("http", f"{host} does not answer by https ({one_line(error)}); http is used")
        return f"http://{host}"
    return f"https://{host}"


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


def refuse_existing(target: Path) -> None:
    """Raise UsageError rather than mix two downloads."""
    if target.exists():
        raise UsageError(f"{target} exists; move it away to download it again")


def unpack(archive: Path, target: Path, max_gib: float = 100) -> None:
    """Unpack a .zip or .tar.gz, whose only folder becomes `target`.

    Raises UsageError for an archive that is damaged, encrypted or too large, and for paths that lead out.
    """
    refuse_existing(target)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpack_") as folder:
        inside = Path(folder)
        try:
            if archive.suffix == ".zip":
                _unzip(archive, inside, max_gib)
            else:
                with tarfile.open(archive) as tar:
                    _announce(archive, sum(entry.size for entry in tar), max_gib)
                    tar.extractall(inside, filter="data")
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, zlib.error,
                lzma.LZMAError) as error:  # RuntimeError: encrypted, or a compression that is not known
            raise UsageError(f"{archive} can't be unpacked ({one_line(error)}); remove it to download it "
                             f"again") from error
        entries = list(inside.iterdir())
        source = entries[0] if len(entries) == 1 and entries[0].is_dir() else inside
        target.mkdir()
        for entry in source.iterdir():
            shutil.move(entry, target / entry.name)


def _announce(archive: Path, size: int, max_gib: float) -> None:
    """Log the unpacked size in bytes; raises UsageError if it is more than allowed, or than there is space."""
    free = shutil.disk_usage(archive.parent).free
    if size > min(max_gib * GIB, free):
        raise UsageError(f"{archive} holds {size / GIB:.1f} GiB, more than --max_gib {max_gib:g} or the free "
                         f"{free / GIB:.1f} GiB")
    tell(f"unpacking {size / GIB:.2f} GiB")


def _unzip(archive: Path, folder: Path, max_gib: float) -> None:
    with zipfile.ZipFile(archive) as file:
        _announce(archive, sum(entry.file_size for entry in file.infolist()), max_gib)
        for entry in file.infolist():
            out = not (folder / entry.filename).resolve().is_relative_to(folder.resolve())
            if out or stat.S_ISLNK(entry.external_attr >> 16):
                raise zipfile.BadZipFile(f"'{entry.filename}' leads out of the folder")
        file.extractall(folder)


if __name__ == "__main__":
    run(main)
