"""Model plugins: `models/<name>_model.py` defines the model `<name>`; adding the file registers it."""

import inspect
from collections.abc import Callable

from models.base_model import BaseModel
from util.errors import UsageError
from util.plugins import find_class, use_plugin_dir

OUR_MODELS = {f"models.{name}_model" for name in ("pix2pix", "cycle_gan", "colorization", "template")}


def find_model_using_name(model_name: str) -> type[BaseModel]:
    """The class of a model, imported only now; raises UsageError for an unknown or ambiguous one."""
    model = find_class("models", "model", model_name, BaseModel)
    refuse_retired_overrides(model)
    return model


def get_option_setter(model_name: str) -> Callable:
    """The function of a model that adds its options, as scripts of the reference ask for it."""
    return find_model_using_name(model_name).modify_commandline_options


def create_model(opt) -> BaseModel:
    """Build the model that `opt.model` names."""
    use_plugin_dir(getattr(opt, "plugin_dir", None), "models", "util.metrics")
    return find_model_using_name(opt.model)(opt)


RETIRED = ("backward", "backward_G", "backward_D", "backward_D_basic", "backward_D_A", "backward_D_B")


def refuse_retired_overrides(model: type[BaseModel]) -> None:
    """Raise UsageError for a subclass of our models that overrides or calls a method that only the reference has."""
    ours = next((cls for cls in model.__mro__ if cls.__module__ in OUR_MODELS), model)
    below = model.__mro__[:model.__mro__.index(ours)]
    own_step = any("optimize_parameters" in vars(cls) for cls in below)
    called = {name for cls in below for function in vars(cls).values() if inspect.isfunction(function)
              for name in function.__code__.co_names} - {"backward"}  # which every tensor has
    for name in RETIRED:
        overridden = any(name in vars(cls) for cls in below)
        if hasattr(ours, name) or (own_step if overridden else name not in called):
            continue
        verb = "overrides" if overridden else "calls"
        raise UsageError(f"{model.__name__} {verb} {name}, which {ours.__name__} does not have; override "
                         f"generator_loss or discriminator_loss, which return the loss")
