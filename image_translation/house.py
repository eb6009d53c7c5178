"""Where the packages that plugins import (`models`, `networks`, `data`, ...) are, and how they become importable."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACKAGES = ("models", "networks", "data", "options", "util")
HERE = Path(__file__).resolve().parent
INSTALLED = (HERE / "packages").is_dir()  # else this is a clone
ROOT = HERE / "packages" if INSTALLED else HERE.parent
SCRIPTS = HERE / "scripts" if INSTALLED else HERE.parent


def enter() -> None:
    """Make the packages importable under their own names, as plugins import them.

    They are on `sys.path` from here on, not before. Raises ImportError if other packages of these names are imported.
    """
    for name in PACKAGES:
        if (module := sys.modules.get(name)) is not None and not _is_ours(module):
            place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "elsewhere")
            raise ImportError(f"image_translation needs its package '{name}', but another '{name}' is imported "
                              f"({place}); use the run in a process of its own, or as a file: image-translation export "
                              f"RUN")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


def _is_ours(module: ModuleType) -> bool:
    places = [*(getattr(module, "__path__", None) or []), getattr(module, "__file__", None) or ""]
    return any(place and Path(place).resolve().is_relative_to(ROOT) for place in places)


def script(name: str) -> ModuleType:
    """The module `train.py` or `test.py`, under a name of its own, as others are called `test` too."""
    enter()
    full = f"image_translation.scripts.{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, SCRIPTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full]
