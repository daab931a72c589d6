"""What goes wrong by the user's hand or wish, and the exit status that says so."""

import sys
from collections.abc import Callable

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2  # one line says what to change; what was saved before stays
EXIT_STOPPED = 75  # saved before the end; the same command goes on (EX_TEMPFAIL of sysexits.h)


class UserError(ValueError):
    """The user's input is wrong.

    The text is one line that names what was found, what was expected and what to do.
    """


class DataError(UserError):
    """A data set is missing, damaged or not the one that the config describes."""


class RunFailed(RuntimeError):
    """A run cannot go on though its input looked right.

    The text is one line that names the step, the reason and the last good checkpoint.
    """


class Stopped(Exception):
    """The run was asked to stop (SIGTERM, preemption) and has saved.

    The same command goes on from there.
    """


def exit_status(main: Callable[[], int | None]) -> int:
    """Runs a command's `main` and turns its outcome into the exit status that the README lists.

    Returns:
        What `main` returned (0 for None), 2 after a `UserError`, 1 after `RunFailed`, 75 after
        `Stopped`. Any other exception goes on: a traceback and status 1.
    """
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except RunFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return EXIT_FAILED
    except Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        return EXIT_STOPPED
