"""Import every module of the installed wheel, and nothing of the clone: python .ci/installed.py SITE."""

import importlib
import pkgutil
import sys

PACKAGES = ("models", "networks", "data", "options", "util")

for package in map(importlib.import_module, PACKAGES):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(found.name)
        if not str(module.__file__).startswith(sys.argv[1]):
            sys.exit(f"{found.name} comes from {module.__file__}, not from the wheel")
print(f"the wheel has all of {', '.join(PACKAGES)}")
