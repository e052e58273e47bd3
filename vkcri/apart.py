"""Run a function in a process of its own, for the sake of what it imports: that is gone again with the process.

`cryptography` takes 8 MiB for as long as a process lives, and api-watcher needs it for a moment at its start and once
in a certificate's life. Blocks the caller for some 0.3 s. The child is this Python; function, arguments and outcome
are pickles over its pipes, never in its command line.
"""

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from vkcri.errors import VkcriError

SECONDS = 30.0
_CHILD = "from vkcri.apart import main; main()"
_NO_PICKLE = (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, ImportError)
_T = TypeVar("_T")
log = logging.getLogger(__name__)


def call(function: Callable[..., _T], *arguments: Any) -> _T:
    """What the function returns, or raises of vkcri.errors. It is found by its module and name, so it is no lambda.
    Where the child fails it is called here: memory is not worth an error."""
    work = pickle.dumps((function, arguments))
    try:
        done = subprocess.run([sys.executable, "-P", "-c", _CHILD], input=work, stdout=subprocess.PIPE, timeout=SECONDS)
        done.check_returncode()
        outcome = pickle.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, *_NO_PICKLE) as error:
        log.warning("%s could not be run in a process of its own: %s", function.__name__, error)
        return function(*arguments)
    if isinstance(outcome, VkcriError):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def main() -> None:
    """The child: what stdin says is done, stdout is the outcome."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever an import prints is no part of the outcome
    function, arguments = pickle.load(sys.stdin.buffer)
    try:
        outcome = function(*arguments)
    except VkcriError as error:
        outcome = error
    with answer:
        answer.write(pickle.dumps(outcome))
