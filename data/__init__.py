"""Dataset plugins: `data/<name>_dataset.py` defines the dataset `<name>`. Adding the file is the whole registration."""

from data.base_dataset import BaseDataset
from data.loader import Loader
from util.plugins import find_class


def find_dataset_using_name(dataset_name: str) -> type[BaseDataset]:
    """The class of a dataset, imported only now; raises UsageError for an unknown or ambiguous one."""
    return find_class("data", "dataset", dataset_name, BaseDataset)


def create_dataset(opt) -> Loader:
    """A loader over the dataset that `opt.dataset_mode` names."""
    return Loader(find_dataset_using_name(opt.dataset_mode)(opt), opt)
