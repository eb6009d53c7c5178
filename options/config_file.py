"""--config FILE: options as `name: value` lines, YAML or JSON."""

import json
from pathlib import Path
from typing import Any

import yaml

from util.errors import UsageError, one_line


def read_config(path: str | None) -> dict[str, Any]:
    """Option -> word or list of words, from a YAML or JSON file; raises UsageError."""
    if path is None:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        # YAML is read as words: argparse has the types, and YAML would make `off` False and `2e-4` a string.
        config = json.loads(text) if path.endswith(".json") else yaml.load(text, Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise UsageError(f"--config {path} does not exist") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"--config {path} is neither YAML nor JSON: {one_line(error)}") from None
    if not isinstance(config, dict) or any(isinstance(value, dict) for value in config.values()):
        raise UsageError(f"--config {path} must be a flat list of `option: value` lines")
    return {str(key).removeprefix("--"): value for key, value in config.items() if value not in (None, "null", "~", "")}
