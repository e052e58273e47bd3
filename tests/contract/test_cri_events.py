"""CRI's own event stream, where the runtime has one: containerd from 1.7 on. containerd's own event service, which all
of them have and which goes first, is shut out here."""

from collections.abc import Iterator

import pytest

from bridge.events import CONNECTED, EXITED, STARTED, Hint, Hints
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.conftest import Guest
from tests.waiting import wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused
from vkcri.instance import Instance
from vkcri.lifecycle import Process

pytestmark = [pytest.mark.container]


@pytest.fixture
def guest(containerd_settings: RuntimeSettings, containerd_runtime: Runtime) -> Iterator[Guest]:
    instance = containerd_settings.instance
    found = Guest(containerd_runtime, "events", instance.pod_logs_dir, instance.cgroup_root)
    yield found
    found.clean()


@pytest.fixture
def has_events(containerd_runtime: Runtime) -> bool:
    version = containerd_runtime.version(cri.VersionRequest(version="v1")).runtime_version
    return tuple(int(part) for part in version.lstrip("v").split(".")[:2]) >= (1, 7)


def test_starts_and_ends_are_hinted_or_the_runtime_is_polled(
    guest: Guest, has_events: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Hint] = []
    process = Process("test", Instance("hints-1"), end=lambda _: None)
    hints = Hints(guest.runtime, heard.append)
    monkeypatch.setattr(hints, "_containerd", shut)
    hints.start(process)
    try:
        if not has_events:
            wait_for("the refusal", lambda: "this runtime has no events: polling it" in caplog.text)
            assert not hints.live
            return
        wait_for("the stream", lambda: hints.live)
        container = guest.start(guest.run("told"), command=("sh", "-c", "exit 3"))
        expected = {Hint(container, STARTED), Hint(container, EXITED)}
        wait_for("start and end", lambda: expected <= set(heard))
        assert heard[0] == Hint("", CONNECTED)
    finally:
        process.drain()


def shut() -> None:
    raise Refused("shut out by this test")
