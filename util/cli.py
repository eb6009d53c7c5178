"""How a script starts and ends: one line for bad input, exit code 2, and a traceback only with --verbose."""

import argparse
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from util.errors import UsageError
from util.notices import flush, say
from util.signals import Stopped


class OneLineParser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a main on its arguments and exit: with what it returns, 2 for bad input, 128 + the number of a signal."""
    argv = sys.argv[1:]
    try:
        sys.exit(main(argv))
    except (UsageError, OSError) as error:
        if "--verbose" in argv:
            traceback.print_exc()
        say(f"error: {error}")
        sys.exit(2)
    except Stopped as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is saved; another Ctrl-C would only tear the end
        say(str(stopped))
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    finally:
        flush(sys.stdout)
