"""`make bench`: print the figures of docs/figures.md, measured here. `python -m benchmarks NAME...` runs some of them.

Each benchmark is a module of this folder with main(), which prints its lines and returns nothing. Machines are noisy:
ratios come from one run, and figures are medians. Those of ON_REQUEST run only where they are named.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

ON_REQUEST = ("rival", "scrapers")  # the one wants Go and half an hour, the other four minutes


def names() -> list[str]:
    return sorted(item.name for item in pkgutil.iter_modules([str(Path(__file__).parent)]) if item.name[0] != "_")


def main(wanted: list[str]) -> int:
    """Run the named benchmarks, all but those of ON_REQUEST where none is named; 2 for an unknown name."""
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    for name in wanted or [name for name in names() if name not in ON_REQUEST]:
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
