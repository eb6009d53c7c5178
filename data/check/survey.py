"""What is wrong with the files of a data root, and a command line that fits them."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from data.check.facts import Facts

PHASE = re.compile(r"(train|val|test)(A|B)?")


def sides(facts: Facts) -> str:
    """WIDTHxHEIGHT."""
    return "{}x{}".format(*facts.size)


class Survey:
    """The files of a data root by phase (train, val, test or '') and domain (A, B, or '' for strips and singles)."""

    def __init__(self, root: str, facts: Iterable[Facts]):
        self.root = Path(root)
        self.groups: dict[tuple[str, str], list[Facts]] = {}
        for fact in facts:
            self.groups.setdefault(self.group(fact.path), []).append(fact)
        self.domains = {d: [f for (_, domain), files in self.groups.items() if domain == d for f in files]
                        for d in sorted({domain for _, domain in self.groups})}
        self.layout = self._layout()

    def group(self, path: str) -> tuple[str, str]:
        """(phase, domain) from the first folders: trainA, A/train, train."""
        first, second = [*Path(path).relative_to(self.root).parts[:-1], "", ""][:2]
        if match := PHASE.fullmatch(first):
            return match[1], match[2] or ""
        return (second, first) if first in ("A", "B") and PHASE.fullmatch(second) else ("", "")

    def stem(self, path: str) -> str:
        """What two partners share: the path below their domain's folder, without the extension."""
        parts = Path(path).relative_to(self.root).with_suffix("").parts
        return "/".join(parts[2 if parts[0] in ("A", "B") else 1:])

    def _layout(self) -> str:
        """The dataset that reads this: `aligned`, `unaligned`, `colorization`; `single` if there are no phases."""
        if {"A", "B"} <= self.domains.keys():
            stems = [{self.stem(f.path) for f in self.domains[d]} for d in "AB"]
            return "aligned" if 2 * len(stems[0] & stems[1]) > min(map(len, stems)) else "unaligned"
        if not any(phase for phase, _ in self.groups):
            return "single"
        images = self.domains.get("", [])
        strips = [f for f in images if abs(f.size[0] / f.size[1] - 2) < 0.2]
        return "aligned" if 2 * len(strips) > len(images) or not images else "colorization"

    def lacking(self) -> str:
        """What training would lack, or an empty string."""
        there = {domain for phase, domain in self.groups if phase == "train"}
        if self.layout == "single" or "" in there or {"A", "B"} <= there:
            return ""
        return f"nothing to train on: {self.root} has no train/, and not both trainA/ and trainB/"

    def findings(self) -> dict[str, list[str]]:
        """Kind of problem -> one line per file."""
        found = {
            "of one value only, which normalisation turns into noise": [
                f.path for files in self.groups.values() for f in files if f.low == f.high],
            "of another kind than most of their domain": list(self._odd_modes()),
            "without a partner of the same name in the other domain": list(self._unmatched()),
            "of the same stem as another, so that their partner is unclear": list(self._same_stem()),
            "of another size than their partner": list(self._unequal()),
            "of odd width, where a strip has two halves": [
                f"{f.path}: {f.size[0]} pixels" for f in self.domains.get("", []) if self.layout == "aligned"
                and f.size[0] % 2],
            "the same in training and in testing": list(self._leaked()),
        }
        return {kind: lines for kind, lines in found.items() if lines}

    def _odd_modes(self) -> Iterable[str]:
        for files in self.domains.values():
            usual = Counter(f.mode for f in files).most_common(1)[0][0]
            yield from (f"{f.path}: {f.mode}, most are {usual}" for f in files if f.mode != usual)

    def _pairs(self) -> Iterable[tuple[dict[str, Facts], dict[str, Facts]]]:
        """Stem -> file of A and of B, for each phase of pairs in two folders."""
        if self.layout == "aligned" and "A" in self.domains:
            for phase in sorted({phase for phase, domain in self.groups if domain}):
                yield tuple({self.stem(f.path): f for f in self.groups.get((phase, d), [])} for d in "AB")

    def _unmatched(self) -> Iterable[str]:
        for a, b in self._pairs():
            yield from (f.path for here, there in ((a, b), (b, a)) for stem, f in here.items() if stem not in there)

    def _same_stem(self) -> Iterable[str]:
        if self.layout == "aligned":
            for (_, domain), files in self.groups.items():
                first: dict[str, str] = {}
                for f in files if domain else []:
                    if first.setdefault(self.stem(f.path), f.path) != f.path:
                        yield f"{f.path} and {first[self.stem(f.path)]}"

    def _unequal(self) -> Iterable[str]:
        for a, b in self._pairs():
            yield from (f"{a[s].path}: {sides(a[s])}, {b[s].path}: {sides(b[s])}"
                        for s in a if s in b and a[s].size != b[s].size)

    def _leaked(self) -> Iterable[str]:
        trained = {f.digest: f.path for (phase, _), files in self.groups.items() if phase == "train" for f in files}
        for (phase, _), files in self.groups.items():
            if phase in ("val", "test"):
                yield from (f"{f.path} is {trained[f.digest]}" for f in files if f.digest in trained)

    def describe(self) -> Iterable[str]:
        """How many files of which kind there are, one line per phase and domain."""
        for (phase, domain), files in sorted(self.groups.items()):
            sizes, kinds = (Counter(values).most_common(1)[0][0] for values in
                            ([f.size for f in files], [f"{f.depth}, {f.channels} channels" for f in files]))
            other = len({f.size for f in files}) - 1
            yield (f"{phase + domain or 'images'}: {len(files)}, {kinds}, {sizes[0]}x{sizes[1]}"
                   + (f" and {other} other sizes" if other else ""))

    def settings(self) -> list[str]:
        """A command line that fits: arguments of train.py, or of test.py for single images."""
        if self.layout == "single":
            return ["test.py", "--dataroot", str(self.root), "--name", "RUN"]
        model = {"aligned": "pix2pix", "unaligned": "cycle_gan"}.get(self.layout, self.layout)
        words = ["train.py", "--model", model, "--dataroot", str(self.root), "--name", "RUN"]
        if model == "colorization":
            return words
        channels = [self._channels(domain) for domain in ("AB" if "A" in self.domains else ("", ""))]
        for name, count in zip(("--input_nc", "--output_nc"), channels, strict=True):
            words += [name, str(count)] if count != 3 else []
        if model == "cycle_gan" and channels[0] != channels[1]:
            words += ["--lambda_identity", "0"]
        return words + self._size(model)

    def _channels(self, domain: str) -> int:
        channels = Counter(f.channels for f in self.domains[domain]).most_common(1)[0][0]
        return 3 if channels == 4 and self.domains[domain][0].depth == "uint8" else channels  # without alpha

    def _size(self, model: str) -> list[str]:
        """The largest size that networks are made for and most images have; aspect ratios are kept."""
        halves = 1 if "A" in self.domains else 2
        sizes = sorted((f.size[0] / halves, f.size[1]) for files in self.domains.values() for f in files)
        shorter, ratios = sorted(map(min, sizes)), sorted(max(s) / min(s) for s in sizes)
        crop = next((c for c in (256, 128) if shorter[len(shorter) // 4] >= c), 64)
        words = ["--preprocess", "scale_width_and_crop"] if ratios[len(ratios) // 2] > 1.25 else []
        if crop < 256:
            words += ["--load_size", str(round(crop * 286 / 256)), "--crop_size", str(crop)]
            words += ["--netG", f"unet_{crop}"] if model == "pix2pix" else []
        return words
