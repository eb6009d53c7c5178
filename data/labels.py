"""What is known of each image: attributes, from the names of folders or from a CSV file."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from util.errors import UsageError, unknown
from util.frames import file_of

VALUES = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": 0.0, "true": 1.0, "false": 0.0}


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
        self.table: dict[str, dict[str, float]] = {} if source == "folders" else self._read(Path(source))
        self.exclusive = source == "folders" or self.of_classes
        there: dict[str, int] = {}
        for path in paths:
            for name, value in self._row(path).items():
                there[name] = there.get(name, 0) + int(value)
        self.names = list(wanted) or sorted(name for name, count in there.items() if count)
        if not self.names:
            raise UsageError(f"--labels {source}: none of the {len(paths)} images has one; {self._advice()}")
        for name in self.names if strict else ():
            if not there.get(name):
                raise unknown("attribute that any image has", name, [key for key, count in there.items() if count])
        if self.exclusive and (others := {*there} - {*self.names}) and strict:
            raise UsageError(f"--attributes {','.join(self.names)} leaves out the images of "
                             f"{', '.join(sorted(others))}; each image needs one of the attributes, so train on a folder "
                             f"without those")

    def of(self, path: str) -> Tensor:
        """(attributes,) of an image; zeros if it has none and `strict` is off, as in a test."""
        row = self._row(path)
        return torch.tensor([row.get(name, 0.0) for name in self.names])

    def _row(self, path: str) -> dict[str, float]:
        path = file_of(path)
        root = next((root for root in self.roots if Path(path).is_relative_to(root)), None)
        below = Path(path).relative_to(root) if root else Path(path)
        if self.source == "folders":
            if len(below.parts) > 1:
                return {below.parts[0]: 1.0}
        elif row := self.table.get(below.as_posix(), self.table.get(below.name)):
            return row
        if self.strict:
            raise UsageError(f"--labels {self.source} has no entry for {path}; {self._advice()}")
        return {}

    def _advice(self) -> str:
        if self.source == "folders":
            return "images of a class belong into a folder of its name; a CSV file can label them as well"
        return f"its first column should name files below {', '.join(map(str, self.roots))}"

    def _read(self, path: Path) -> dict[str, dict[str, float]]:
        """File name -> attribute -> 0 or 1; raises UsageError that names the line."""
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                header, *rows = list(csv.reader(file)) or [[]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"--labels {path} can't be read as CSV: {error}; `folders` takes the names of "
                             f"folders") from None
        if len(header) < 2:
            raise UsageError(f"--labels {path} needs a header: a column of file names, then a class or attributes")
        self.of_classes = len(header) == 2 and any(row[1].strip().lower() not in VALUES for row in rows if len(row) > 1)
        table = {}
        for number, row in enumerate(rows, start=2):
            if not row:
                continue
            values = [word.strip() for word in row[1:]]
            if len(row) != len(header) or not (self.of_classes or all(word.lower() in VALUES for word in values)):
                raise UsageError(f"--labels {path}, line {number}: {len(header) - 1} values of 0, 1 or -1 should "
                                 f"follow the file name, not {', '.join(values)[:60]}")
            named = {values[0]: 1.0} if self.of_classes else {
                name.strip(): VALUES[word.lower()] for name, word in zip(header[1:], values, strict=True)}
            table[row[0].strip()] = named
        return table
