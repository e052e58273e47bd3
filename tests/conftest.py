"""What tests of several folders share: a real containerd, private to the pytest worker.

The fixture runs vkcri's own launcher on an instance that it claims, and takes everything away again. Tests that
share it give their sandboxes labels or names of their own and remove them.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import cleanup, containerd, images_local, network
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.instances import claimed
from tests.limits import pytest_runtest_makereport, pytest_timeout_set_timer  # noqa: F401  hooks
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings
from vkcri.errors import VkcriError
from vkcri.instance import Instance

_START_SECONDS = 30.0
RUNTIME = os.environ.get("VKCRI_TEST_RUNTIME", "")  # `make test RUNTIME=2`: the containerd that leads PATH
_LAUNCH = "from bridge.containerd import main; main()"


def remove_folders(instance: Instance) -> None:
    """Everything that an instance keeps on the guest's disk; nothing may be mounted in it."""
    for folder in (instance.run_dir, instance.state_dir, instance.log_dir):
        shutil.rmtree(folder, ignore_errors=True)
        assert not folder.exists(), f"{folder} could not be removed"


def start_containerd(settings: RuntimeSettings) -> "subprocess.Popen[bytes]":
    """vkcri's launcher, which becomes containerd; returns once CRI answers. Its parent is the calling thread."""
    instance = settings.instance
    instance.log_dir.mkdir(parents=True, exist_ok=True)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("VKCRI_", "CONTAINER_RUNTIME"))
    }
    with open(instance.log_dir / "containerd.log", "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH],
            cwd=Path(__file__).parents[1],
            env={**environment, "VKCRI_INSTANCE": instance.name},
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(settings):
        log = instance.log_dir / "containerd.log"
        assert process.poll() is None, f"containerd ended with {process.returncode}: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"containerd does not answer: {log.read_text()[-2000:]}"
        time.sleep(0.05)
    return process


def _answers(settings: RuntimeSettings) -> bool:
    try:
        return containerd.answering(settings) is not None
    except VkcriError:
        return False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        choices=("embedded", "real"),
        default="embedded",
        help="which API server the flow tests' nodes belong to; real: a Kubernetes control plane, and tests marked "
        "`cluster` run (make test-cluster)",
    )
    parser.addoption(
        "--kubernetes",
        default="",
        help="with --cluster=real: the version of the flow tests' control plane, as 1.34 or 1.34.2",
    )
    parser.addoption(
        "--selection",
        metavar="FILE",
        help="add a line to FILE for each test that is run and each that is left out: CI finds what no verb runs",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    _note(session.config, "run", session.items)


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        _note(items[0].config, "left", items)


def _note(config: pytest.Config, word: str, items: list[pytest.Item]) -> None:
    """Word, name and markers of each test, tab-separated. A name is no node id, which pytest-xdist changes."""
    path: str | None = config.getoption("selection")
    if path is not None:
        rows = [
            (word, f"{item.location[0]}::{item.location[2]}", ",".join(mark.name for mark in item.iter_markers()))
            for item in items
        ]
        with open(path, "a") as file:
            file.write("".join("\t".join(row) + "\n" for row in rows))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What the chosen API server is not for is not there at all: nothing that a machine can run counts as skipped."""
    other = "cluster" if config.getoption("cluster") == "embedded" else "embedded_only"
    apart = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if not item.get_closest_marker(other)]


def pytest_report_header() -> list[str]:
    """Which programs run the containers of this run."""
    found = [shutil.which(name, path=containerd.environment()["PATH"]) for name in ("containerd", "runc")]
    lines = [subprocess.run([path, "--version"], capture_output=True, text=True, check=False) for path in found if path]
    return [
        f"{path}: {done.stdout.partition(chr(10))[0]}" for path, done in zip(filter(None, found), lines, strict=True)
    ]


def _require_line(runtime: Runtime) -> None:
    """A run against a certain containerd must not fall back to another."""
    version = runtime.version(cri.VersionRequest(version="v1")).runtime_version
    assert version.startswith(f"{RUNTIME}.") or not RUNTIME, f"this is containerd {version}, not {RUNTIME}"


@pytest.fixture(scope="session")
def claim() -> Iterator[Callable[[str], Instance]]:
    """`claim(name)`: an instance NAME-N that no other worker and no other run on this guest uses, until the end."""
    with contextlib.ExitStack() as held:
        yield lambda name: held.enter_context(claimed(name))


@pytest.fixture(scope="session")
def containerd_settings(claim: Callable[[str], Instance]) -> Iterator[RuntimeSettings]:
    """A private containerd with its network and both local images, as the settings that lead to it."""
    settings = RuntimeSettings(instance=claim("ctr"), pod_ip="127.0.0.1")
    cleanup.cleanup(settings)  # of a run that was killed
    process = start_containerd(settings)
    try:
        runtime = Runtime(settings.runtime_endpoint)
        _require_line(runtime)
        images_local.ensure_images(runtime, settings)
        network.ensure_network(runtime, settings, settings.instance.pod_subnet)
        network.wait_ready(runtime, threading.Event().wait)
        runtime.close()
        yield settings
    finally:
        cleanup.cleanup(settings)
        process.wait(PATIENCE)
        remove_folders(settings.instance)


@pytest.fixture
def containerd_runtime(containerd_settings: RuntimeSettings) -> Iterator[Runtime]:
    """The CRI client of that containerd."""
    runtime = Runtime(containerd_settings.runtime_endpoint)
    yield runtime
    runtime.close()
