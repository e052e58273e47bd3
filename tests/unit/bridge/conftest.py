"""The fake CRI server for the bridge's unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.fake_runtime import FakeRuntime


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRuntime]:
    with FakeRuntime(tmp_path / "cri.sock") as server:
        yield server
