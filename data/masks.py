"""Files beside the images, in a folder laid out like the data root: which pixels of an image are translated."""

from collections.abc import Sequence
from pathlib import Path

from data.image_folder import list_images
from util.errors import UsageError
from util.frames import stem_of
from util.notices import notice


class Masks:
    """The mask of an image has its path below the data root, with any extension; without one, all is translated."""

    def __init__(self, folder: str, roots: Sequence[str], paths: Sequence[str], option: str = "--masks",
                 every: bool = False):
        """Raises UsageError if no image has one, or not `every` image that should."""
        try:
            masks = {stem_of(Path(path).relative_to(folder)): path for path in list_images(folder)}
        except UsageError as error:
            raise UsageError(f"{option} {folder}: {error}") from error
        bases = [Path(root) if Path(root).is_dir() else Path(root).parent for root in roots]
        places = {path: next((base for base in bases if Path(path).is_relative_to(base)), Path(path).parent)
                  for path in paths}
        stems = {path: stem_of(Path(path).relative_to(base)) for path, base in places.items()}
        whole = {path: stem_of(Path(path).relative_to(base.parent)) for path, base in places.items()}  # with its folder
        self.files = {path: masks.get(stem, masks.get(whole[path], "")) for path, stem in stems.items()
                      if stem in masks or whole[path] in masks}
        if not self.files:
            raise UsageError(f"{option} {folder}: none of the {len(paths)} images has one; that of {paths[0]} would "
                             f"be {Path(folder) / stems[paths[0]]}.png")
        without = [path for path in paths if path not in self.files]
        if without and every:
            raise UsageError(f"{option} {folder} has no image for {len(without)} of {len(paths)} images, such as "
                             f"{without[0]}")
        if without and option == "--masks":
            notice("masks", f"{len(without)} of {len(paths)} images have no mask in {folder}: they are translated "
                            f"whole")
