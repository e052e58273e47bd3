"""Who may use an image that was pulled with credentials."""

import json
import stat
from pathlib import Path

import pytest

from bridge.pulled import PullRecords
from bridge.spec.keyring import Credentials
from tests.unit.bridge.test_images import Bench, login

ONE, TWO = Credentials("one", "p", "shop/one", "uid-1"), Credentials("two", "p", "shop/two", "uid-2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pulled-images.json"


def test_an_image_that_this_node_did_not_pull_is_open_to_all(path: Path) -> None:
    assert PullRecords(path).may_use("a", "id", [])


def test_an_image_pulled_without_credentials_is_open_to_all(path: Path) -> None:
    records = PullRecords(path)
    records.end("a", "id", None)
    assert PullRecords(path).may_use("a", "id", [])


def test_an_image_pulled_with_a_login_wants_that_login_or_its_secret(path: Path) -> None:
    records = PullRecords(path)
    records.begin("a")
    records.end("a", "id", ONE)
    for known in (records, PullRecords(path)):
        assert not known.may_use("a", "id", [])
        assert not known.may_use("a", "id", [TWO])
        assert known.may_use("a", "id", [TWO, ONE])
        assert known.may_use("a", "id", [Credentials("one", "p", "other/name", "uid-9")])
        assert known.may_use("a", "id", [Credentials("one", "changed", "shop/one", "uid-1")])


def test_once_open_an_image_stays_open(path: Path) -> None:
    records = PullRecords(path)
    records.end("a", "id", ONE)
    records.end("a", "id", None)
    assert records.may_use("a", "id", [])


def test_a_pull_that_was_cut_off_leaves_the_image_trusted_to_nobody(path: Path) -> None:
    PullRecords(path).begin("a")
    records = PullRecords(path)
    assert not records.may_use("a", "id", [ONE])
    records.end("a")
    assert records.may_use("a", "id", [])


def test_images_that_are_gone_are_forgotten(path: Path) -> None:
    records = PullRecords(path)
    records.end("a", "id", ONE)
    records.keep_only(["other"])
    assert json.loads(path.read_text())["images"] == {}


def test_the_file_holds_no_login_and_is_private(path: Path) -> None:
    PullRecords(path).end("a", "id", Credentials("user", "hunter2", "s/s", "u"))
    assert "hunter2" not in path.read_text()
    assert '"user"' not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_broken_file_is_said_and_begun_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("{")
    records = PullRecords(path)
    assert "is broken" in caplog.text
    records.end("a", "id", ONE)
    assert not PullRecords(path).may_use("a", "id", [])


def test_a_pod_without_the_login_pulls_for_itself_and_is_refused_by_the_registry(path: Path) -> None:
    bench = Bench(records=PullRecords(path))
    bench.ensure(policy="IfNotPresent", secrets=[login("one")])
    bench.ensure(policy="IfNotPresent", secrets=[login("one")], uid="u-2")
    assert bench.recorder.events[-1][2] == (
        'Container image "example.com/a:1" already present on machine and can be accessed by the pod'
    )
    assert len(bench.store.pulls) == 1
    problem = bench.problem(policy="Never", uid="u-3")
    assert problem.reason == "ErrImageNeverPull"
    bench.ensure(policy="IfNotPresent", uid="u-4")
    assert len(bench.store.pulls) == 2
    bench.ensure(policy="Never", uid="u-5")
