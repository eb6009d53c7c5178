"""Names for classes and functions, given where they are defined."""

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

    def register(self, name: str, **preset) -> Callable:
        """Decorator; raises ValueError when the name is taken."""
        def decorate(target):
            if name in self._entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = (target, preset)
            return target
        return decorate

    def __getitem__(self, name: str) -> tuple[Callable, dict[str, Any]]:
        if name not in self._entries:
            raise unknown(self.kind, name, self)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def constructor(self, name: str) -> Callable:
        """The target of `name` with its preset bound. Raises UsageError for an unknown name."""
        target, preset = self[name]
        return partial(target, **preset)

    def build(self, name: str, **arguments) -> Any:
        """Call the target of `name`; its preset wins over the arguments. Raises UsageError for an unknown name."""
        target, preset = self[name]
        return target(**{**arguments, **preset})
