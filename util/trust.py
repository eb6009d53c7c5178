"""Trusted plugins: code that a recorded run names is imported only if this user has trained with it before."""

import os
import sys
from pathlib import Path

from util.files import add_to_user_file, read_user_file, sha256_of
from util.notices import notice

TRUSTED = "trusted_plugins.json"


def trust(place: str) -> None:
    """Store the hashes of the files imported from a plugin folder, or of a module, given by name."""
    modules = list(sys.modules.values()) if os.path.isdir(place) else [sys.modules.get(place)]
    files = {Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))}
    own = [file for file in files if file.is_file() and (file.is_relative_to(place) or not os.path.isdir(place))]
    digests = {str(file): sha256_of(file) for file in own}
    if digests and read_user_file(TRUSTED).get(place) != digests:
        add_to_user_file(TRUSTED, place, digests)


def is_trusted(place: str) -> bool:
    """Whether this user has trained with a plugin folder or module; a notice names files that have changed since."""
    known = read_user_file(TRUSTED).get(place)
    if not isinstance(known, dict) or not (os.path.isdir(place) or _file_of(place) in known):
        return False
    for file, digest in known.items():
        if os.path.isfile(file) and sha256_of(file) != digest:
            notice(f"changed {file}", f"{file} has changed since this user last trained with it")
    return True


def _file_of(module: str) -> str:
    """The file that a module would be imported from, found without importing anything; empty if there is none."""
    below = Path(*module.split("."))
    for folder in sys.path:
        for file in (Path(folder) / below.with_suffix(".py"), Path(folder) / below / "__init__.py"):
            if file.is_file():
                return str(file.resolve())
    return ""
