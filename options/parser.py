"""argparse with one-line errors, suggestions for misspelt names, and values from files."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from util.cli import OneLineParser
from util.errors import UsageError, did_you_mean, unknown
from util.notices import notice
from util.registry import Registry
from util.types import not_nan, not_negative

FLAG_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Parser(OneLineParser):
    """Until `parse_args`, nothing is required and any value is accepted, as plugins may still add options.
    An option added twice replaces the first, with a notice.
    """

    def __init__(self, argv: Sequence[str]):
        super().__init__(add_help=False, allow_abbrev=False, conflict_handler="resolve",
                         formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        self.argv = list(argv)
        self._strict = False
        self.typed: dict[str, list[str]] = {}

    def add_argument(self, *names: str, **kwargs) -> argparse.Action:
        for name in names:
            if name in self._option_string_actions:
                notice(f"replaced {name}", f"{name} is replaced by a plugin's option of the same name")
        if kwargs.get("type") is float:  # in a plugin: no number is NaN, and no weight of a loss negative or infinite
            kwargs["type"] = not_negative if names[0].startswith("--lambda") else not_nan
        return super().add_argument(*names, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """Without arguments, as plugins call it, parse our command line."""
        args = self._settle_flags(self.argv if args is None else args)
        if self._strict:
            return super().parse_known_args(args, namespace)
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False
        try:
            return super().parse_known_args(args, namespace)
        finally:
            for action in required:
                action.required = True

    def parse_args(self, args=None, namespace=None):
        """Parse strictly; raises UsageError for unknown, missing or invalid options."""
        opt, rest = self.parse_known_args(args)
        if rest:  # before missing options: an unknown one may be a missing one, misspelt
            self.refuse(rest[0].split("=")[0], f"--model {getattr(opt, 'model', '')}")
        self._strict = True
        return self.parse_known_args(args, namespace)[0]

    def refuse(self, word: str, place: str) -> NoReturn:
        """Raise UsageError for an unknown option."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        hint = did_you_mean(word, known) if word.startswith("-") else ""
        raise UsageError(f"unknown option '{word}' for {place}.{hint} --help lists all of them")

    def option_for(self, dest: str) -> Any:
        """The option that sets this attribute, None if there is none."""
        return next((action for action in self._actions if action.dest == dest and action.option_strings), None)

    def tokens(self, values: dict[str, Any]) -> list[str]:
        """Arguments that set known options to these values."""
        return [token for dest, value in values.items() if (action := self.option_for(dest)) and value is not None
                for token in _tokens(action, value)]

    def _settle_flags(self, args: Sequence[str]) -> list[str]:
        """Turn `--no_flip=true` into the flag, and `--no_flip=false` into its absence and a default of off."""
        settled: list[str] = []
        for word in args:
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            if not equals or action is None or action.nargs != 0:
                settled.append(word)
                continue
            if value.lower() not in FLAG_WORDS:
                raise UsageError(f"{name} is on or off, not '{value}'; write true or false")
            settled = [other for other in settled if other != name]
            if FLAG_WORDS[value.lower()] == bool(action.const):
                settled.append(name)
            else:
                self.set_defaults(**{action.dest: not action.const})
        return settled

    def _get_values(self, action, arg_strings):
        """Remember what was typed, for the record of values that no other words stand for."""
        if self._strict and action.option_strings:
            self.typed[action.dest] = list(arg_strings)
        return super()._get_values(action, arg_strings)

    def _check_value(self, action, value):
        if isinstance(action.choices, Registry):
            return  # a plugin may build its own networks; whoever builds refuses an unknown name
        if self._strict and action.choices is not None and value not in action.choices:
            kind = getattr(action.choices, "kind", f"value for {action.option_strings[0]}")
            raise unknown(kind, value, map(str, action.choices))


def _tokens(action: argparse.Action, value: Any) -> list[str]:
    """Arguments that set one option: a list is one argument with commas, several words, or the option repeated."""
    name = action.option_strings[0]
    words = [str(word) for word in (value if isinstance(value, list) else [value])]
    if isinstance(action, argparse.BooleanOptionalAction):
        on = FLAG_WORDS.get(words[0].lower(), True)
        return [next(option for option in action.option_strings if option.startswith("--no-") != on)]
    if isinstance(action, argparse._CountAction):
        return [name] * int(value)
    if isinstance(action, argparse._AppendAction):
        return [f"{name}={word}" for word in words]
    return [f"{name}={','.join(words)}"] if action.nargs in (None, 0, "?") else [name, *words]
