"""Dataset plugins: `data/<name>_dataset.py` defines the dataset `<name>`. Adding the file is the whole registration."""

from argparse import Namespace
from pathlib import Path

from data.base_dataset import BaseDataset
from data.loader import Loader
from util.errors import UsageError
from util.notices import tell
from util.plugins import find_class


def find_dataset_using_name(dataset_name: str) -> type[BaseDataset]:
    """The class of a dataset, imported only now; raises UsageError for an unknown or ambiguous one."""
    return find_class("data", "dataset", dataset_name, BaseDataset)


def create_dataset(opt) -> Loader:
    """A loader over the dataset that `opt.dataset_mode` names."""
    return Loader(find_dataset_using_name(opt.dataset_mode)(opt), opt)


def create_validation_dataset(opt, training: BaseDataset) -> Loader | None:
    """A loader over images that are not trained on, as test.py would read them; None and one line without any."""
    if not (opt.val_freq and opt.metrics):
        return None
    held_out = opt.val_split > 0
    values = {"isTrain": False, "serial_batches": True, "no_flip": True, "load_size": opt.crop_size,
              "max_dataset_size": opt.val_images, "phase": opt.phase if held_out else "val"}
    try:
        loader = create_dataset(Namespace(**{**vars(opt), **values}))
        if held_out and not loader.dataset.roots:
            raise UsageError(f"--dataset_mode {opt.dataset_mode} lists its files itself; --val_split can't part them")
        trained = any(Path(mine).is_relative_to(root) for root in loader.dataset.roots for mine in training.roots)
        if not held_out and trained:
            raise UsageError(f"--dataset_mode {opt.dataset_mode} finds only the images of the training")
    except UsageError as error:
        tell(f"no validation: {error}; --val_split 0.1 holds images of the training out")
        return None
    return loader
