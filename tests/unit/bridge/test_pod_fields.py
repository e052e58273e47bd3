"""tests/data/pod-fields.tsv has a row for each field of a pod that a person can set, and what a row names is there.

The fields are the kubernetes package's, as the embedded API server reads them: one that a new version brings fails
until somebody has found out what it does here. Tests are looked for in the sources, not run.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge.unsupported import REFUSED
from tests.ignored import Finder, Loader, Renaming
from vkcri.apiserver import schema

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "tests/data/pod-fields.tsv"
ROOTS = ("ObjectMeta", "PodSpec")
WORDS = ("works", "refused", "elsewhere")
LATER = {"Container.devices"}  # refused already; the package does not have it yet


class Row(NamedTuple):
    """DEFINITION.FIELD, one of WORDS, the tests that show it, and what else there is to say."""

    field: str
    word: str
    tests: tuple[str, ...]
    note: str


def parsed(text: str) -> list[Row]:
    cells = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [Row(field, word, tuple(filter(None, tests.split("; "))), note) for field, word, tests, note in cells]


@cache
def table() -> list[Row]:
    return parsed(TABLE.read_text(encoding="utf-8"))


def wanted(rows: list[Row]) -> Iterator[str]:
    """Every field below ROOTS. What is refused, and what has only a reason, speaks for all that lies below it."""
    by_field = {row.field: row for row in rows}
    todo, seen = list(ROOTS), set()
    while todo:
        kind = todo.pop()
        if kind in seen:
            continue
        seen.add(kind)
        for name, field in schema.fields(kind).items():
            yield f"{kind}.{name}"
            row = by_field.get(f"{kind}.{name}")
            if field.nested and (row is None or (row.word != "refused" and row.tests)):
                todo.append(field.type)


@cache
def named_in(file: str) -> frozenset[str]:
    """The tests of a file below the project's root, as pytest names them behind the file; empty without the file."""
    path = ROOT / file
    if not path.is_file() or not path.name.startswith("test_"):
        return frozenset()
    found = set()
    for item in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(item, ast.FunctionDef):
            found.add(item.name)
        elif isinstance(item, ast.ClassDef):
            found |= {f"{item.name}::{inner.name}" for inner in item.body if isinstance(inner, ast.FunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


@cache
def conformance() -> frozenset[str]:
    """The tests of Kubernetes' own that pass, as `make conformance` knows them."""
    return frozenset((ROOT / "tests/conformance/passing.txt").read_text(encoding="utf-8").splitlines())


def exists(test: str) -> bool:
    if test.startswith("["):
        return test in conformance()
    file, _, name = test.partition("::")
    return name in named_in(file)


def test_every_field_has_a_row() -> None:
    assert sorted(set(wanted(table())) - {row.field for row in table()}) == []


def test_no_row_is_of_a_field_that_there_is_not() -> None:
    assert sorted({row.field for row in table()} - set(wanted(table()))) == []


def test_rows_are_sorted_and_one_a_field() -> None:
    fields = [row.field for row in table()]
    assert fields == sorted(set(fields))


def test_every_test_that_a_row_names_exists() -> None:
    assert [(row.field, test) for row in table() for test in row.tests if not exists(test)] == []


def test_a_row_names_a_test_or_says_whose_the_field_is() -> None:
    for row in table():
        assert row.word in WORDS, row
        assert row.tests or (row.word == "elsewhere" and len(row.note) >= 10), row


def test_what_is_refused_by_the_pods_text_stands_there_as_refused() -> None:
    refused = {row.field for row in table() if row.word == "refused"}
    kinds = {"Container": ("Container", "EphemeralContainer")}
    named = {f"{kind}.{name}" for of, names in REFUSED.items() for kind in kinds.get(of, (of,)) for name in names}
    assert named - refused == {*LATER, "EphemeralContainer.devices"}
    assert not {*LATER} & {f"Container.{name}" for name in schema.fields("Container")}


@pytest.mark.parametrize(
    ("test", "there"),
    [
        (f"tests/unit/bridge/test_pod_fields.py::{test_every_field_has_a_row.__name__}", True),
        ("tests/unit/bridge/test_admit.py::TestUnsupported::test_fields_are_named_by_their_path", True),
        ("tests/unit/bridge/test_admit.py::test_fields_are_named_by_their_path", False),
        ("tests/unit/bridge/test_pod_fields.py::exists", False),
        ("tests/unit/bridge/test_none.py::test_every_field_has_a_row", False),
        ("[sig-node] Pods should be updated [Conformance] [NodeConformance]", True),
        ("[sig-node] Pods should be something else [Conformance]", False),
        ("", False),
    ],
)
def test_a_test_is_found_where_it_is_and_nowhere_else(test: str, there: bool) -> None:
    assert exists(test) == there


def test_a_field_without_a_row_is_missed_and_what_a_reason_covers_is_not() -> None:
    rows = parsed("PodSpec.volumes\telsewhere\t\tfor the sake of the argument\n")
    fields = set(wanted(rows))
    assert {"PodSpec.dnsConfig", "PodDNSConfig.nameservers"} <= fields
    assert not any(field.startswith("Volume.") for field in fields)


def test_the_tool_that_has_a_field_ignored_changes_its_name_and_nothing_else() -> None:
    source = """def seen(spec): return spec.get("hostPID"), f"{spec['hostPID']} hostPID", "hostPID too", spec.hostPID"""
    changed = ast.unparse(Renaming("hostPID").visit(ast.parse(source)))
    assert changed.count("hostPIDIgnored") == 2
    assert "'hostPID too'" in changed
    assert "spec.hostPID)" in changed


@pytest.mark.parametrize(
    ("module", "changed"),
    [("bridge.spec.sandbox", True), ("vkcri.api.pods", True), ("bridge.pb.runtime", False), ("vkcri.config", False)],
)
def test_it_changes_what_reads_pods(module: str, changed: bool) -> None:
    package = __import__(module.rpartition(".")[0], fromlist=["__path__"])
    spec = Finder("hostPID").find_spec(module, package.__path__)
    assert (spec is not None and isinstance(spec.loader, Loader)) == changed
