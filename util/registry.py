"""Names for classes and functions, registered where these are defined."""

import re
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
            if name in self._entries and _place(self._entries[name][0]) != _place(target):
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

    def _find(self, name: object) -> tuple[Callable, dict[str, Any]] | None:
        if name in self._entries:
            return self._entries[name]
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
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def constructor(self, name: str) -> Callable:
        """The target of `name` with its preset bound. Raises UsageError for an unknown name."""
        target, preset = self[name]
        return partial(target, **preset)

    def build(self, name: str, **arguments) -> Any:
        """Call the target of `name`; its preset overrides the arguments. Raises UsageError for an unknown name."""
        target, preset = self[name]
        return target(**{**arguments, **preset})


def _place(target: Any) -> tuple[str, str]:
    """Where a class or function is defined."""
    return getattr(target, "__module__", ""), getattr(target, "__qualname__", repr(target))
