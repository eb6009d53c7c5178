"""Find a plugin class by the name of its file, or by `package.module:Class`."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from util.errors import UsageError, unknown

MOVED = {  # modules that were never part of the plugin contract, but could be imported
    "data.cache": "data.loading.cache", "data.loader": "data.loading.loader", "data.samples": "data.loading.samples",
    "data.worker_status": "data.loading.workers", "data.workers": "data.loading.workers",
    "models.average": "models.engine.ema", "models.captured_step": "models.engine.cuda_graph",
    "models.execution": "models.engine.hardware", "models.fine_tuning": "models.engine.saving",
    "models.schedule": "models.engine.schedule", "models.training": "models.engine.training",
    "models.translation": "models.engine.validation", "models.validation": "models.engine.validation",
    "networks.convolution": "networks.fast.convolutions", "networks.inference": "networks.per_image",
    "networks.sync_batch_norm": "networks.fast.sync_batch_norm",
    "networks.tuning": "networks.fast (but networks.together)",
    "networks.winograd": "networks.fast.winograd", "util.guard": "models.engine.step",
    "util.health": "models.engine.health", "util.lock": "models.engine.interrupts",
    "util.precision": "networks.fast.precision", "util.saver": "models.engine.saving",
    "util.signals": "models.engine.interrupts", "util.sinks.make": "models.engine.views",
}


def use_plugin_dir(folder: str | None, *packages: str) -> None:
    """Look for modules of these packages in this folder first, and no longer in that of an earlier run.

    Raises UsageError if it is not a folder.
    """
    if folder and not Path(folder).is_dir():
        raise UsageError(f"--plugin_dir {folder} is not a folder")
    for package in packages:
        module = importlib.import_module(package)
        own = str(Path(module.__file__ or "").parent)
        module.__path__[:] = [*([str(Path(folder).resolve())] if folder else []), own]
        for name in [name for name in sys.modules if name.rpartition(".")[0] == package]:
            place = Path(getattr(sys.modules[name], "__file__", None) or own)
            place = place.parent if place.name == "__init__.py" else place
            if str(place.parent) not in module.__path__ and not place.is_relative_to(own):
                del sys.modules[name]  # this run may have another file of the same name
                vars(module).pop(name.rpartition(".")[2], None)


def plugin_names(package: str, kind: str) -> list[str]:
    """The <name> of each `<name>_<kind>.py` in a package, without importing any."""
    files = {f for folder in importlib.import_module(package).__path__ for f in Path(folder).glob(f"*_{kind}.py")}
    return sorted({f.name.removesuffix(f"_{kind}.py") for f in files} - {"base"})


def find_class(package: str, kind: str, name: str, base: type) -> type:
    """The subclass of `base` in `<package>/<name>_<kind>.py`, or of `package.module:Class`.

    Raises UsageError if the name is unknown, or if the file leaves open which class is meant.
    """
    if ":" in name:
        return _dotted(name, base)
    if name not in plugin_names(package, kind):
        raise unknown(kind, name, plugin_names(package, kind))
    module = import_plugin(f"{package}.{name}_{kind}", name)
    wanted = f"{name}{kind}".replace("_", "").lower()
    classes = [c for c in vars(module).values()
               if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__]
    exact = [c for c in classes if c.__name__.lower() == wanted]
    if len(exact or classes) == 1:
        return (exact or classes)[0]
    found = ", ".join(c.__name__ for c in classes) or "none"
    raise UsageError(f"{module.__file__} must define one subclass of {base.__name__}, or one called like the file "
                     f"without underscores ({wanted}); found: {found}")


def _dotted(name: str, base: type) -> type:
    module_name, _, class_name = name.partition(":")
    found = getattr(import_plugin(module_name, name), class_name, None)
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UsageError(f"'{name}' is not a subclass of {base.__name__}; write package.module:Class")
    return found


def import_plugin(module_name: str, name: str) -> ModuleType:
    """The module; raises UsageError if it can't be imported."""
    try:
        return importlib.import_module(module_name)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        missing = getattr(error, "name", None) or ""
        if place := MOVED.get(missing):
            raise UsageError(f"'{name}' imports {missing}, which is now {place} and not part of the plugin contract "
                             f"(docs/model_plugin.md)") from error
        raise UsageError(f"'{name}' can't be imported: {error}; is a library missing, or its folder not on "
                         f"PYTHONPATH?") from error
