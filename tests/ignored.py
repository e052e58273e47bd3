"""Do the tests that tests/data/pod-fields.tsv names fail where their field is ignored?

    python -m tests.ignored [--unit] [DEFINITION.FIELD ...]

The tests of each row that says "works" run with the field's name changed wherever the node's code (bridge, vkcri.api)
has it as a word of its own: a pod that sets the field is then read as if it did not. A row whose tests all pass proves
nothing. Names that several definitions share are changed for all of them, so such a row may fail for another's sake;
it is marked "shared". --unit leaves tests on a runtime out. Run by a developer, not by CI: some ten minutes.

The same module is pytest's plugin (-p tests.ignored), which changes modules as they are imported.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests/data/pod-fields.tsv"
VARIABLE = "VKCRI_IGNORED_FIELD"
READERS = ("bridge.", "vkcri.api.")
GENERATED = "bridge.pb."
FAILED = 1  # pytest's exit status


class Renaming(ast.NodeTransformer):
    """Changes each text that is exactly the field's name."""

    def __init__(self, field: str) -> None:
        self._field = field

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if node.value != self._field:
            return node
        return ast.copy_location(ast.Constant(f"{self._field}Ignored"), node)


class Loader(SourceFileLoader):
    """Compiles the changed source; what is cached of the true one is not asked."""

    field = ""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        return compile(ast.fix_missing_locations(Renaming(self.field).visit(tree)), path, "exec")


class Finder(MetaPathFinder):
    """In front of Python's own, for the readers' modules."""

    def __init__(self, field: str) -> None:
        self._field = field

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(READERS) or fullname.startswith(GENERATED):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            loader = Loader(spec.loader.name, spec.loader.path)
            loader.field = self._field
            spec.loader = loader
        return spec


def rows() -> dict[str, list[str]]:
    """Field -> tests, of the rows that work."""
    cells = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {field: list(filter(None, tests.split("; "))) for field, word, tests, _ in cells if word == "works"}


def status(field: str, tests: list[str]) -> int:
    """pytest's, with that field ignored."""
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-x", "-p", "tests.ignored", *tests]
    name = field.rpartition(".")[2]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: name}, capture_output=True).returncode


def main(arguments: Sequence[str]) -> int:
    """1 where a row proves nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.ignored")
    parser.add_argument("--unit", action="store_true", help="only rows that a unit test shows")
    parser.add_argument("fields", nargs="*", metavar="DEFINITION.FIELD")
    given = parser.parse_args(arguments)
    listed = rows()
    names = Counter(field.rpartition(".")[2] for field in listed)
    counted: Counter[str] = Counter()
    for field in given.fields or listed:
        tests = [test for test in listed[field] if test.startswith("tests/unit/" if given.unit else "tests/")]
        if not tests:
            continue
        found = status(field, tests)
        word = {FAILED: "proven", 0: "IGNORED AND NOT NOTICED"}.get(found, f"not run: pytest ended with {found}")
        if word == "proven" and names[field.rpartition(".")[2]] > 1:
            word = "shared"
        counted[word] += 1
        print(f"{field}\t{word}", flush=True)
    print(", ".join(f"{count} {word}" for word, count in counted.most_common()))
    return int(any(word not in ("proven", "shared") for word in counted))


if VARIABLE in os.environ:
    sys.meta_path.insert(0, Finder(os.environ[VARIABLE]))
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
