"""`python -m tests.runtimes LINE`: prints the folder that goes first in PATH, nothing where the guest's own runtime is
of that line. All else is said on stderr; what goes wrong in one line, exit 1."""

import argparse
import sys

from tests.cluster.programs import cache
from tests.runtimes.cached import ensure
from vkcri.errors import VkcriError


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.runtimes")
    parser.add_argument("line", help="1.6, 1.7 or 2")
    line = parser.parse_args().line
    try:
        found = ensure(line, cache() / "runtimes", _say)
    except VkcriError as error:
        _say(str(error))
        return 1
    _say(f"containerd {line} is {found.name}")
    print(found.folder or "")
    return 0


def _say(words: str) -> None:
    print(f"runtimes: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
