"""Model plugins: `models/<name>_model.py` defines the model `<name>`. Adding the file is the whole registration."""

from models.base_model import BaseModel
from util.errors import UsageError
from util.plugins import find_class


def find_model_using_name(model_name: str) -> type[BaseModel]:
    """The class of a model, imported only now; raises UsageError for an unknown or ambiguous one."""
    model = find_class("models", "model", model_name, BaseModel)
    refuse_retired_overrides(model)
    return model


def create_model(opt) -> BaseModel:
    """Build the model that `opt.model` names."""
    return find_model_using_name(opt.model)(opt)


def refuse_retired_overrides(model: type[BaseModel]) -> None:
    """Raise UsageError for a class that overrides a step of the reference which our model under it never calls."""
    stepper = next(cls for cls in model.__mro__ if "optimize_parameters" in vars(cls))  # whose step is run
    if not hasattr(stepper, "generator_loss") and stepper.__module__ != "models.template_model":
        return
    for cls in model.__mro__[:model.__mro__.index(stepper)]:
        retired = [name for name in vars(cls) if name.startswith("backward") and not hasattr(stepper, name)]
        if retired:
            raise UsageError(f"{cls.__name__} overrides {', '.join(retired)}, which {stepper.__name__} never calls; "
                             f"override generator_loss or discriminator_loss, which return the loss")
