"""Building, with a go of our own in PATH: a small shell program that answers as go does, so that no test needs Go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import golang, programs
from tests.waiting import PATIENCE, until
from vkcri.errors import ConfigError, Unavailable

PROJECT = Path(__file__).parents[3]
VERSION = "v1.37.2"
GO = r"""#!/bin/sh
# A go whose behaviour the environment sets: FAKE_VERSION, FAKE_DOWNLOAD (an error), FAKE_BUILD (a shell command).
echo "$*" >>"$FAKE_CALLS"
case "$1 $2" in
"env GOVERSION") echo "${FAKE_VERSION:-go1.26.8}" ;;
"list -m") echo "$4 v1.36.0 v1.37.1 v1.37.2 v1.37.3-rc.0" ;;
"mod download")
    if [ -n "${FAKE_DOWNLOAD:-}" ]; then
        printf '{\n\t"Path": "k8s.io/kubernetes",\n\t"Error": "%s"\n}\n' "$FAKE_DOWNLOAD"
        exit 1
    fi
    echo '{"GoMod": "/nowhere/go.mod"}' ;;
"mod edit") echo '{"Go": "1.26.0", "Require": [{"Path": "k8s.io/api", "Version": "v0.0.0"}]}' ;;
"mod tidy") touch go.sum ;;
*)
    while [ $# -gt 0 ]; do
        [ "$1" != -o ] || target=$2
        shift
    done
    eval "${FAKE_BUILD:-true}" || exit 1
    echo built >"$target" ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that lists what go was asked, a line a call. The cache is a folder of this test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "go").write_text(GO)
    (folder / "go").chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CALLS", str(calls))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


def _builds(calls: Path) -> list[str]:
    """The packages that go was asked to build, in order."""
    return [line.split()[-1] for line in calls.read_text().splitlines() if line.startswith(("build", "test"))]


def test_what_is_missing_is_built_in_order_and_what_is_there_is_not(go: Path) -> None:
    first = programs.ensure(VERSION, ["kube-apiserver"])
    assert first["kube-apiserver"].read_text() == "built\n"
    programs.ensure(VERSION, ["kube-scheduler", "kube-apiserver"])
    assert _builds(go) == ["k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-scheduler"]


def test_nothing_at_all_is_asked_of_go_once_everything_is_there(go: Path) -> None:
    programs.ensure(VERSION, ["kubelet"])
    go.write_text("")
    programs.ensure(VERSION, ["kubelet"])
    assert go.read_text() == ""


def test_two_releases_are_kept_beside_each_other(go: Path) -> None:
    both = {programs.ensure(version, ["kubelet"])["kubelet"] for version in (VERSION, "v1.36.0")}
    assert len(both) == 2
    assert len(_builds(go)) == 2


def test_a_minor_version_is_asked_of_the_proxy_and_a_patch_version_is_not(go: Path) -> None:
    assert programs.resolve("1.37") == "v1.37.2"
    go.write_text("")
    assert programs.resolve("1.37.1") == "v1.37.1"
    assert go.read_text() == ""


@pytest.mark.usefixtures("go")
def test_an_unknown_program_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'kube'.*kube-apiserver"):
        programs.ensure(VERSION, ["kube"])


def test_missing_go_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"^Go is missing: [^\n]*$"):
        programs.ensure(VERSION, ["kubelet"])


def test_a_go_that_is_too_old_builds_nothing(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VERSION", "go1.21.3")
    with pytest.raises(ConfigError, match=r"go1\.21\.3 is here, and kubernetes v1\.37\.2 wants go1\.26\.0"):
        programs.ensure(VERSION, ["kubelet"])
    assert _builds(go) == []


@pytest.mark.usefixtures("go")
def test_what_the_proxy_answered_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DOWNLOAD", "k8s.io/kubernetes@v1.37.2: dial tcp: no route to host")
    with pytest.raises(Unavailable, match=r"^[^\n]*no route to host$"):
        programs.ensure(VERSION, ["kubelet"])


@pytest.mark.usefixtures("go")
def test_a_failed_build_leaves_no_program_and_says_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BUILD", 'echo half >"$target"; echo "x.go:1: undefined: y" >&2; false')
    with pytest.raises(Unavailable, match=r"undefined: y \(all: .*kubelet\.log\)"):
        programs.ensure(VERSION, ["kubelet"])
    assert not programs.binary(VERSION, "kubelet").exists()
    monkeypatch.delenv("FAKE_BUILD")
    assert programs.ensure(VERSION, ["kubelet"])["kubelet"].read_text() == "built\n"


def test_a_module_whose_tidy_was_cut_short_is_made_anew(go: Path) -> None:
    folder = programs.ensure_module(VERSION)
    (folder / "module.ready").unlink()
    (folder / "go.mod").write_text("half")
    programs.ensure_module(VERSION)
    assert (folder / "go.mod").read_text().startswith("module ")
    assert go.read_text().count("mod tidy") == 2


def test_a_second_build_waits_for_the_first_even_if_its_starter_was_killed(
    go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, began = tmp_path / "gate", tmp_path / "began"
    monkeypatch.setenv("FAKE_BUILD", f"touch {began}; while [ ! -e {gate} ]; do sleep 0.05; done")
    code = f"from tests.cluster import programs; programs.ensure({VERSION!r}, ['kubelet'])"
    command = [sys.executable, "-c", code]
    first = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    until(began.exists)
    first.kill()
    first.wait()
    second = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    try:
        assert "waiting for it" in second.stdout.readline()
        assert len(_builds(go)) == 1
        gate.touch()
        assert second.wait(PATIENCE) == 0
        assert len(_builds(go)) == 2, "what the killed one built was not put in place by it"
        assert programs.binary(VERSION, "kubelet").exists()
    finally:
        gate.touch()
        second.kill()
        second.stdout.close()
        second.wait()


@pytest.mark.usefixtures("go")
def test_progress_is_asked_for_while_go_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv("FAKE_BUILD", f"while [ ! -e {gate} ]; do sleep 0.05; done")
    with open(tmp_path / "lock", "w") as lock:
        golang.build(["go", "build", "-o", str(tmp_path / "x")], tmp_path, tmp_path / "log", lock.fileno(), gate.touch)
    assert (tmp_path / "x").exists()
