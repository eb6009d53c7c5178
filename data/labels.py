"""Labels of images: classes by folder, or classes or attributes from a CSV file."""

import csv
import io
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from util.errors import UsageError, unknown
from util.files import file_name
from util.frames import file_of

VALUES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": 0.0, "true": 1.0, "false": 0.0}
LONGEST = 60  # characters of an attribute's name, which is part of file names


class Labels:
    """Attributes of images as numbers 0 and 1.

    `source` is `folders`: the folder directly below a root is an image's class; or a CSV file: a row is a file name,
    relative to a root or bare, and either a class or a value (1, 0, -1) for each attribute of the header.
    """

    names: list[str]   # of the attributes, in the order of the numbers
    exclusive: bool    # whether each image has exactly one of them

    def __init__(self, source: str, paths: Sequence[str], roots: Sequence[str], wanted: Sequence[str] = (),
                 strict: bool = True):
        self.source, self.roots, self.strict = source, [Path(root) for root in roots], strict
        self.exclusive = source == "folders"
        self.table: dict[str, dict[str, float]] = {} if source == "folders" else self._read(Path(source))
        rows = {path: self._row(path) for path in paths}
        there = {name for row in rows.values() for name, value in row.items() if value}
        self.names = list(wanted) or sorted(there)
        self._check(rows, there)

    def of(self, path: str) -> Tensor:
        """(attributes,) of an image; zeros if it has none and `strict` is off, as in a test."""
        row = self._row(path)
        return torch.tensor([row.get(name, 0.0) for name in self.names])

    def _check(self, rows: dict[str, dict[str, float]], there: set[str]) -> None:
        """Raise UsageError for images without labels, and attributes that can't be learned or named."""
        here = f"--labels {self.source}"
        without = [path for path, row in rows.items() if not row]
        if without and (self.strict or (len(without) == len(rows) and not self.exclusive)):
            raise UsageError(f"{here} has no entry for {len(without)} of {len(rows)} images, such as {without[0]}; "
                             f"{self._advice()}")
        if not self.strict:
            return
        for name in self.names:
            if name not in there:
                raise unknown("attribute that any image has", name, there)
            if not name or "," in name or len(name) > LONGEST:
                raise UsageError(f"{here}: '{name}' can't be the name of an attribute; it needs 1 to {LONGEST} "
                                 f"characters, and no comma")
        if len({file_name(name) for name in self.names}) < len(self.names):
            raise UsageError(f"{here}: two of the attributes {', '.join(self.names)} give files of one name; rename "
                             f"one")
        if self.exclusive and (others := there - {*self.names}):
            raise UsageError(f"--attributes {','.join(self.names)} leaves out the images of "
                             f"{', '.join(sorted(others))}; train on a folder without those")

    def _row(self, path: str) -> dict[str, float]:
        """Attribute -> 0 or 1 of an image; empty if nothing is known."""
        path = file_of(path)
        root = next((root for root in self.roots if Path(path).is_relative_to(root)), None)
        below = Path(path).relative_to(root) if root else Path(path)
        if self.source == "folders":
            return {below.parts[0]: 1.0} if len(below.parts) > 1 else {}
        return self.table.get(below.as_posix(), self.table.get(below.name, {}))

    def _advice(self) -> str:
        if self.source == "folders":
            return "images of a class belong into a folder of its name; a CSV file can label them as well"
        first = next(iter(self.table), "nothing")
        return f"its first column should name files below {', '.join(map(str, self.roots))}; it has {first}"

    def _read(self, path: Path) -> dict[str, dict[str, float]]:
        """File name -> attribute -> 0 or 1; raises UsageError that names the line."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise UsageError(f"--labels {path} can't be read ({error.strerror}); `folders` takes the names of "
                             f"folders") from None
        except UnicodeDecodeError:
            raise UsageError(f"--labels {path} is no text in UTF-8; save it as CSV in UTF-8") from None
        first = text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        try:
            rows = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
        except csv.Error as error:
            raise UsageError(f"--labels {path} is no CSV: {error}") from None
        header = [word.strip() for word in rows[0]] if rows else []
        if len(header) < 2 or len({*header}) < len(header):
            raise UsageError(f"--labels {path} needs a header of different names, for a column of file names and one "
                             f"of classes, or of 0 and 1 for each attribute, with commas; it begins {first[:60]!r}")
        table: dict[str, dict[str, float]] = {}
        lines = [(number, [word.strip() for word in row]) for number, row in enumerate(rows[1:], start=2) if row]
        self.exclusive = len(header) == 2 and any(row[-1].lower() not in VALUES for _, row in lines)
        for number, (file, *values) in lines:
            fits = len(values) == len(header) - 1 and (
                values[0] if self.exclusive else all(word.lower() in VALUES for word in values))
            if not fits:
                kind = "a class" if self.exclusive else f"{len(header) - 1} values of 0, 1 or -1"
                raise UsageError(f"--labels {path}, line {number}: {kind} should follow the file name, not "
                                 f"'{', '.join(values)[:60]}'")
            row = {values[0]: 1.0} if self.exclusive else {
                name: VALUES[word.lower()] for name, word in zip(header[1:], values, strict=True)}
            if table.setdefault(file, row) != row:
                raise UsageError(f"--labels {path}, line {number}: {file} is there again, with another label")
        return table


def find_labels(opt: Namespace, paths: Sequence[str], roots: Sequence[str]) -> Labels:
    """The labels that --labels gives images; puts their names into opt, for the record. Raises UsageError."""
    labels = Labels(opt.labels, paths, roots, opt.attributes, strict=opt.isTrain)
    if opt.isTrain:
        opt.attributes, opt.exclusive = labels.names, labels.exclusive
    elif labels.exclusive and not opt.exclusive and opt.attributes:
        raise UsageError(f"the run turns attributes on and off, and --labels {opt.labels} has classes; give a table of "
                         f"{', '.join(opt.attributes)}")
    return labels
