"""Model plugins: `models/<name>_model.py` defines the model `<name>`. Adding the file is the whole registration."""

from models.base_model import BaseModel, refuse_retired_overrides
from util.plugins import find_class


def find_model_using_name(model_name: str) -> type[BaseModel]:
    """The class of a model, imported only now; raises UsageError for an unknown or ambiguous one."""
    model = find_class("models", model_name, BaseModel)
    refuse_retired_overrides(model)
    return model


def get_option_setter(model_name: str):
    """The static method by which a model adds its options."""
    return find_model_using_name(model_name).modify_commandline_options


def create_model(opt) -> BaseModel:
    """Build the model that `opt.model` names."""
    return find_model_using_name(opt.model)(opt)
