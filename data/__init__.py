"""Dataset plugins: `data/<name>_dataset.py` defines the dataset `<name>`; adding the file registers it."""

from argparse import Namespace
from pathlib import Path

from data.base_dataset import BaseDataset
from data.loading.loader import Loader
from util.errors import UsageError, one_line
from util.notices import tell
from util.plugins import find_class, use_plugin_dir
from util.seed import seeded


def find_dataset_using_name(dataset_name: str) -> type[BaseDataset]:
    """The class of a dataset, imported only now; raises UsageError for an unknown or ambiguous one."""
    return find_class("data", "dataset", dataset_name, BaseDataset)


def create_dataset(opt) -> Loader:
    """A loader over the dataset that `opt.dataset_mode` names."""
    use_plugin_dir(getattr(opt, "plugin_dir", None), "data")
    return Loader(find_dataset_using_name(opt.dataset_mode)(opt), opt)


def create_validation_dataset(opt, training: BaseDataset) -> Loader | None:
    """A loader over images that are not trained on, read as by test.py; None, and one line, if there are none."""
    if not (opt.val_freq and opt.metrics):
        return None
    held_out, advice = opt.val_split > 0, "" if opt.val_split else "; --val_split 0.1 holds images of the training out"
    values = {"isTrain": False, "serial_batches": True, "no_flip": True, "load_size": opt.crop_size,
              "max_dataset_size": opt.val_images, "phase": opt.phase if held_out else "val"}
    try:
        loader = create_dataset(Namespace(**{**vars(opt), **values}))
        if held_out and not loader.dataset.roots:
            raise UsageError(f"--dataset_mode {opt.dataset_mode} lists its files itself; --val_split can't divide them")
        if not held_out and are_the_same(loader.dataset, training):
            raise UsageError(f"--dataset_mode {opt.dataset_mode} finds only the images of the training")
    except Exception as error:  # a plugin's dataset may raise anything if a folder is missing
        tell(f"no validation: {one_line(error)}{advice}")
        return None
    return loader


def are_the_same(one: BaseDataset, other: BaseDataset) -> bool:
    """Whether two datasets list images of one folder or, if they list no folders, have the same first sample.

    Raises UsageError for samples that do not name their files.
    """
    if one.roots:
        return any(Path(mine).is_relative_to(root) for root in one.roots for mine in other.roots)
    with seeded(0):
        firsts = [{str(value) for key, value in dataset[0].items() if key.endswith("_paths")}
                  for dataset in (one, other)]
    if not firsts[0]:
        raise UsageError("its samples do not name their files (A_paths)")
    return bool(firsts[0] & firsts[1])
