"""Build hook: compile protos/ into vkcri/pb and bridge/pb, and the API schema from the pinned kubernetes package.

Runs for wheels and for editable installs alike (`pip install -e .` and `make protos`). The generated files are
never committed: .gitignore names them.
"""

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "protos"))

import generate  # noqa: E402  (protos/generate.py: found once the path above is set)


class BuildWithProtos(build_py):
    """build_py that first generates what is not in the source tree."""

    def run(self) -> None:
        os.chdir(ROOT)
        generate.protos(ROOT)
        generate.schema(ROOT)
        super().run()


setup(cmdclass={"build_py": BuildWithProtos})
