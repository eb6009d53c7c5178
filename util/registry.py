"""Names for classes and functions, registered where these are defined."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from util.errors import unknown


class Registry(Mapping):
    """Maps a name to a callable with its preset arguments.

    @GENERATORS.register("resnet_6blocks", n_blocks=6)
    @GENERATORS.register("resnet_9blocks", n_blocks=9)
    class ResnetGenerator(nn.Module): ...
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, tuple[Callable, dict[str, Any]]] = {}
        self._families: dict[str, tuple[Callable, Callable[[int], dict[str, Any]]]] = {}

    def register(self, name: str, **preset) -> Callable:
        """Decorator; raises ValueError if the name is taken by anything but an earlier import of the same code."""
        def decorate(target):
            if (known := self._entry(name)) and _place(known[0]) != _place(target):
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = (target, preset)
            return target
        return decorate

    def register_family(self, pattern: str, preset: Callable[[int], dict[str, Any]]) -> Callable:
        """Decorator for names with a number: `resnet_(\\d+)blocks`; `preset(number)` gives the preset arguments."""
        def decorate(target):
            self._families[pattern] = (target, preset)
            return target
        return decorate

    def _entry(self, name: object) -> tuple[Callable, dict[str, Any]] | None:
        """None also for what was registered by a file in the plugin folder of an earlier run."""
        entry = self._entries.get(str(name))
        module = entry and _place(entry[0])[0]
        return entry if not module or module in sys.modules else None

    def _find(self, name: object) -> tuple[Callable, dict[str, Any]] | None:
        if entry := self._entry(name):
            return entry
        for pattern, (target, preset) in self._families.items():
            if match := re.fullmatch(pattern, str(name)):
                return target, preset(int(match[1]))
        return None

    def __getitem__(self, name: str) -> tuple[Callable, dict[str, Any]]:
        found = self._find(name)
        if found is None:
            raise unknown(self.kind, name, self)
        return found

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._entries if self._entry(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def constructor(self, name: str) -> Callable:
        """The target of `name` with its preset bound. Raises UsageError for an unknown name."""
        target, preset = self[name]
        return partial(target, **preset)

    def build(self, name: str, **arguments) -> Any:
        """Call the target of `name`; its preset overrides the arguments. Raises UsageError for an unknown name."""
        target, preset = self[name]
        return target(**{**arguments, **preset})


def _place(target: Any) -> tuple[str, str]:
    """Where a class or function is defined, also that of a metric."""
    target = getattr(target, "function", target)
    return getattr(target, "__module__", None) or "", getattr(target, "__qualname__", repr(target))
