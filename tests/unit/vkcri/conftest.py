"""What these tests share."""

import pytest

from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """For code that is given one."""
    return Clock()
