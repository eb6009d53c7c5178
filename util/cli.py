"""How a script starts and ends: one line for bad input, exit code 2, and a traceback only with --verbose."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from util.distributed import LAUNCHED
from util.errors import Stopped, UsageError
from util.notices import flush, say


class OneLineParser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a main on its arguments and exit: with its result, 2 for bad input, or 128 + the number of a signal."""
    for name in ("stdout", "stderr"):  # a closed one is None
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if "" not in sys.path:
        sys.path.append("")  # plugins in a package of the working folder: --model my_lab.sharp:SharpModel
    try:
        code = _exit_code(main, sys.argv[1:])
    finally:
        flush(sys.stdout)
    if LAUNCHED:  # libraries of multi-process jobs were seen to abort at interpreter exit
        flush(sys.stderr)
        os._exit(code)
    sys.exit(code)


def _exit_code(main: Callable[[list[str]], int], argv: list[str]) -> int:
    try:
        return main(argv)
    except (UsageError, OSError) as error:
        if "--verbose" in argv:
            traceback.print_exc()
        say(f"error: {error}")
        return 2
    except Stopped as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved; another Ctrl-C would only break the exit
        say(str(stopped))
        return stopped.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
