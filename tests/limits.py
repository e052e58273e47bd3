"""A test that meets its limit is named, whatever it was doing; hooks that tests/conftest.py takes over.

pytest-timeout raises from a signal handler. Where the signal meets a loop on its way back to its start, CPython 3.11
takes the instruction before the loop for the place of the error. That may have no line, on which pytest's own report
breaks before it has said which test it was; and it may belong to another `except`, or the error may rise in a callback
that ignores it: then it is lost, and the test hangs for ever.
"""

import signal
from collections.abc import Generator
from types import TracebackType
from typing import Any

import pytest

AGAIN_SECONDS = 120.0
"""After a limit, and between further ones: what a test's teardown may take after its limit was met."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, object, object]:
    """The signal comes again and again until the test has ended."""
    done = yield
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, AGAIN_SECONDS)
    return done


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """Every entry of the traceback has a line before anybody looks for it."""
    error = call.excinfo.value if call.excinfo is not None else None
    while error is not None:
        error.__traceback__ = with_lines(error.__traceback__)
        error = error.__cause__ or error.__context__
    if call.excinfo is not None:
        call.excinfo = pytest.ExceptionInfo.from_exception(call.excinfo.value)


def with_lines(traceback: TracebackType | None) -> TracebackType | None:
    """The same traceback; an entry without a line has the one on which its function begins."""
    if traceback is None:
        return None
    entries = [traceback]
    while (following := entries[-1].tb_next) is not None:
        entries.append(following)
    rest: TracebackType | None = None
    for entry in reversed(entries):
        line: int | None = entry.tb_lineno
        begin = entry.tb_frame.f_code.co_firstlineno
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, begin if line is None else line)
    return rest
