"""Pairs: strips {A|B} in `train/`, or two folders `trainA` + `trainB` or `A/train` + `B/train`, by file stem."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from data.base_dataset import BaseDataset
from util.errors import ImageError, UsageError
from util.frames import file_of, is_video_file, stem_of


class AlignedDataset(BaseDataset):
    """Each sample is a pair; resize, crop and flip are the same for both."""

    paired = True

    def __init__(self, opt):
        super().__init__(opt)
        phase = opt.phase
        folders = self.find_folders((phase,), (f"{phase}A", f"{phase}B"), (f"A/{phase}", f"B/{phase}"))
        self.strips = len(folders) == 1
        if self.strips and self.label_maps:
            raise UsageError(f"--label_nc needs label maps in files of their own, as in {phase}A + {phase}B; the "
                             f"strips in {folders[0]} hold them as colours")
        if self.strips:
            self.pairs = [(path, path) for path in self.list_images(folders[0])]
        else:
            lists = [self.list_images(folder) for folder in folders]
            self.pairs = pair_by_stem(*([folder, *self.counterparts(folder)] for folder in folders), *lists)
        for position, domain in enumerate("AB"):
            self.detect_value_range(domain, [pair[position] for pair in self.pairs])
        self.find_known([pair["AB".index(self.source)] for pair in self.pairs])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path_A, path_B = self.pairs[index]
        image_A, image_B = self.cached(self.read_pair, path_A, path_B, paths={path_A, path_B})
        geometry = self.geometry(image_A, path_A)
        return {"A": self.to_tensor("A", image_A, geometry, path_A),
                "B": self.to_tensor("B", image_B, geometry, path_B), "A_paths": path_A, "B_paths": path_B,
                **self.known(self.source, path_A if self.source == "A" else path_B, geometry)}

    def source_part(self, array: np.ndarray) -> np.ndarray:
        half = array.shape[1] // 2
        return array if not self.strips else array[:, :half] if self.source == "A" else array[:, half:]

    def read_pair(self, path_A: str, path_B: str) -> list[np.ndarray]:
        """Both images (H, W, C), resized; raises ImageError if they are no pair."""
        image_A = self.read("A", path_A)
        one_read = self.strips and self.channels["A"] == self.channels["B"]
        image_B = image_A if one_read else self.read("B", path_B)
        if self.strips:
            half, odd = divmod(image_A.shape[1], 2)
            if odd:
                raise ImageError(path_A, f"is {image_A.shape[1]} pixels wide; a strip of two images has an even width")
            image_A, image_B = image_A[:, :half], image_B[:, half:]
        elif image_A.shape[:2] != image_B.shape[:2]:
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (image_A, image_B)]
            raise ImageError(path_A, f"is {sizes[0]} and its partner {path_B} is {sizes[1]}; a pair has one size")
        return [self.resized("A", image_A), self.resized("B", image_B)]


def pair_by_stem(folders_A: list[Path], folders_B: list[Path], paths_A: list[str], paths_B: list[str],
                 ) -> list[tuple[str, str]]:
    """Files of equal stem below their folder, with any extension; raises UsageError for one without a partner."""
    by_stem_A, by_stem_B = by_stem(folders_A, paths_A), by_stem(folders_B, paths_B)
    alone = [path for these, others in ((by_stem_A, by_stem_B), (by_stem_B, by_stem_A))
             for stem, path in these.items() if stem not in others]
    if apart := unequal_films(paths_A, paths_B):
        raise UsageError(f"videos are no pairs: {'; '.join(apart[:3])}; cut them to the same frames")
    if alone:
        raise UsageError(f"{len(alone)} images have no partner of the same name in the other folder: "
                         f"{', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}")
    return [(path, by_stem_B[stem]) for stem, path in by_stem_A.items()]


def unequal_films(paths_A: list[str], paths_B: list[str]) -> list[str]:
    """What is wrong with videos of one stem that have different numbers of frames, of which one may be unreadable."""
    counts = [Counter(map(file_of, paths)) for paths in (paths_A, paths_B)]
    stems = [{Path(file).stem: file for file in files} for files in counts]
    found = []
    for stem in stems[0].keys() & stems[1].keys():
        files = [of[stem] for of in stems]
        frames = [counts[i][file] if file not in (paths_A, paths_B)[i] else 0 for i, file in enumerate(files)]
        if frames[0] != frames[1] and any(map(is_video_file, files)):
            found.append(" and ".join(f"{file} {f'has {count} frames' if count else 'has none that can be read'}"
                                      for file, count in zip(files, frames, strict=True)))
    return sorted(found)


def by_stem(folders: list[Path], paths: list[str]) -> dict[tuple[int, str], str]:
    """Which folder, and the path below it without its extension -> file; raises UsageError if two are equal."""
    stems: dict[tuple[int, str], str] = {}
    for path in paths:
        place = next(i for i, folder in enumerate(folders) if Path(path).is_relative_to(folder))
        stem = place, stem_of(Path(path).relative_to(folders[place]))
        if stem in stems:
            raise UsageError(f"{path} and {stems[stem]} have the same stem: which one is the partner?")
        stems[stem] = path
    return stems
