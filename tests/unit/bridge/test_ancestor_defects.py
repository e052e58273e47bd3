"""tests/data/ancestor-defects.tsv: each defect of the ancestor has living regression tests."""

from tests.unit.bridge.test_pod_fields import ROOT, exists

TABLE = ROOT / "tests/data/ancestor-defects.tsv"


def rows() -> dict[str, list[str]]:
    """Defect -> tests."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {defect: tests.split("; ") for defect, tests in (line.split("\t") for line in lines)}


def test_each_defect_has_tests_that_are_there() -> None:
    found = rows()
    assert len(found) > 30
    assert [(defect, test) for defect, tests in found.items() for test in tests if not exists(test)] == []
