"""Dataset plugins: `data/<name>_dataset.py` defines the dataset `<name>`. Adding the file is the whole registration."""

from data.base_dataset import BaseDataset
from util.plugins import find_class


def find_dataset_using_name(dataset_name: str) -> type[BaseDataset]:
    """The class of a dataset, imported only now; raises UsageError for an unknown or ambiguous one."""
    return find_class("data", dataset_name, BaseDataset)


def get_option_setter(dataset_name: str):
    """The static method by which a dataset adds its options."""
    return find_dataset_using_name(dataset_name).modify_commandline_options


def create_dataset(opt):
    """A `data.loader.Loader` over the dataset that `opt.dataset_mode` names."""
    from data.loader import Loader

    return Loader(find_dataset_using_name(opt.dataset_mode)(opt), opt)
