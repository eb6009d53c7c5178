"""Find a plugin class by the name of its file, or by `package.module:Class`."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from util.errors import UsageError, unknown


def add_plugin_dir(folder: str, *packages: str) -> None:
    """Look for the modules of these packages in this folder first; raises UsageError when it is no folder."""
    if not Path(folder).is_dir():
        raise UsageError(f"--plugin_dir {folder} is not a folder")
    for package in packages:
        path = importlib.import_module(package).__path__
        if str(Path(folder).resolve()) not in path:
            path.insert(0, str(Path(folder).resolve()))


def plugin_names(package: str, kind: str) -> list[str]:
    """The <name> of each `<name>_<kind>.py` in a package, without importing any."""
    files = {f for folder in importlib.import_module(package).__path__ for f in Path(folder).glob(f"*_{kind}.py")}
    return sorted({f.name.removesuffix(f"_{kind}.py") for f in files} - {"base"})


def find_class(package: str, kind: str, name: str, base: type) -> type:
    """The subclass of `base` in `<package>/<name>_<kind>.py`, or of `package.module:Class`.

    Raises UsageError when the name is unknown or the file leaves open which class is meant.
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
    if "" not in sys.path:
        sys.path.append("")  # a package in the folder the user is in
    found = getattr(import_plugin(module_name, name), class_name, None)
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UsageError(f"'{name}' is not a subclass of {base.__name__}; write package.module:Class")
    return found


def import_plugin(module_name: str, name: str) -> ModuleType:
    """The module; raises UsageError when it can't be imported."""
    try:
        return importlib.import_module(module_name)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise UsageError(f"'{name}' can't be imported: {error}; is a library missing, or its folder not on "
                         f"PYTHONPATH?") from error
