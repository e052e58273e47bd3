"""`python -m tests.runtimes LINE`: prints the folder that goes first in PATH, nothing where the guest's own runtime is
of that line. All else is said on stderr; what goes wrong in one line, exit 1."""

import argparse
import os
import sys
from pathlib import Path

from tests.runtimes.cached import ensure
from vkcri.errors import VkcriError


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.runtimes")
    parser.add_argument("line", help="1.6, 1.7 or 2")
    line = parser.parse_args().line
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vkcri" / "runtimes"
    try:
        found = ensure(line, cache, _say)
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
