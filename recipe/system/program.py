"""How a program ends: with an exit status, and one line for what its user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable

from recipe.system import streams
from recipe.system.errors import UserError, is_of_environment
from recipe.system.terminal import message

EXTRAS = {"torch": "PyTorch", "torchvision": "torchvision"}  # modules that an installation may lack


def run(program: Callable[[], int], interrupted: str) -> int:
    """Run a program and return its exit status: 2 for wrong input, 130 when interrupted, else its own.

    Args:
      program: returns its exit status.
      interrupted: what is said after Ctrl-C.
    """
    streams.open_closed()
    try:
        status = program()
        sys.stdout.flush()  # here, where an error can still be told
        return status
    except BrokenPipeError:  # whoever read the output has gone, such as `head -1`
        streams.silence(sys.stdout)
        return 141  # as a shell says of a program that SIGPIPE ended
    except (UserError, OSError) as error:  # OSError: a full disk, a folder that can't be written
        streams.tell(f"error: {message(str(error))}")
        return 2
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        print(
            f"error: this needs {EXTRAS[error.name]}, which is not installed: make setup in a checkout, "
            "pip install torch torchvision elsewhere",
            file=sys.stderr,
        )
        return 2
    except ValueError as error:
        if not is_of_environment(error):
            raise
        streams.tell(f"error: {error}; correct the variable, or unset it")
        return 2
    except KeyboardInterrupt:
        streams.tell(interrupted)
        return 130
