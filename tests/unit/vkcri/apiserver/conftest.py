"""Fixtures for the tests of kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.vkcri.apiserver.house import House, open_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = open_house(tmp_path)
    yield opened
    opened.store.close()
