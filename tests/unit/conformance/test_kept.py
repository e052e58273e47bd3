import json
from pathlib import Path

import pytest

from tests.conformance import kept
from tests.conformance.kept import Selection

NODE = Selection("sig-node", "", "v1.37.2")


def finish(run: Path, state: str) -> None:
    spec = {"LeafNodeType": "It", "LeafNodeText": "a", "State": state, "Failure": {"Message": "no"}}
    (run / "report.json").write_text(json.dumps([{"SpecReports": [spec]}]))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run a second later than the one before."""
    times = (f"20261125T0000{second:02}" for second in range(60))
    monkeypatch.setattr(kept.time, "strftime", lambda *_: next(times))


def test_a_run_is_compared_with_the_newest_one_before_it(tmp_path: Path) -> None:
    finish(kept.new_run(tmp_path, NODE), "passed")
    finish(second := kept.new_run(tmp_path, NODE), "failed")
    third = kept.new_run(tmp_path, NODE)
    finish(third, "passed")
    found = kept.last(tmp_path, NODE, third)
    assert found is not None
    assert found[0] == second
    assert [item.state for item in found[1]] == ["failed"]


def test_a_run_that_was_broken_off_is_passed_over(tmp_path: Path) -> None:
    finish(first := kept.new_run(tmp_path, NODE), "passed")
    kept.new_run(tmp_path, NODE)
    (kept.new_run(tmp_path, NODE) / "report.json").write_text('[{"SpecRep')
    found = kept.last(tmp_path, NODE, kept.new_run(tmp_path, NODE))
    assert found is not None
    assert found[0] == first


def test_another_selection_is_no_predecessor(tmp_path: Path) -> None:
    finish(kept.new_run(tmp_path, NODE), "passed")
    for other in (
        Selection("sig-node", "x", "v1.37.2"),
        Selection("sig-node", "", "v1.34.2"),
        Selection("", "", "v1.37.2"),
        Selection("sig-node", "", "v1.37.2", ("a",), "further.txt"),
    ):
        assert kept.last(tmp_path, other, kept.new_run(tmp_path, other)) is None


def test_the_oldest_runs_go(tmp_path: Path) -> None:
    runs = [kept.new_run(tmp_path, NODE) for _ in range(7)]
    assert [run.exists() for run in runs] == [False, False, True, True, True, True, True]


def test_two_runs_that_begin_in_one_second_have_a_folder_each_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept.time, "strftime", lambda *_: "20261125T000000")
    finish(kept.new_run(tmp_path, NODE), "passed")
    finish(second := kept.new_run(tmp_path, NODE), "failed")
    found = kept.last(tmp_path, NODE, kept.new_run(tmp_path, NODE))
    assert found is not None
    assert found[0] == second


def test_a_selection_says_itself_in_makes_words() -> None:
    assert str(Selection("a && b", "x", "v1.37.2")) == "LABELS='a && b' FOCUS='x' of Kubernetes v1.37.2"
    assert str(Selection("", "", "v1.37.2")) == "all tests of Kubernetes v1.37.2"
