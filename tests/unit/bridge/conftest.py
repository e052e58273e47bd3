"""The fake CRI server for the bridge's unit tests, and a client of the wire whose loop runs on a thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.wire.client import Client
from bridge.wire.loop import Loop
from tests.contract.fake_runtime import FakeRuntime
from tests.living import living
from vkcri.instance import Instance


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRuntime]:
    with FakeRuntime(tmp_path / "cri.sock") as server:
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with living("test", Instance("wire-44")) as process:
        made = Client(Loop())
        made.start(process)
        yield made
