"""When a pod is read again: after an event that CRI does not show yet, and after a kill that may be for memory. And
when it need not be."""

import pytest

from bridge.actions import REFRESH, SANDBOX, START, TEARDOWN, stop_key
from bridge.events import ENDING, EXITED, OOM, STARTED, Hint
from bridge.looks import HINTS, LOG_LOOK, OOM_HINTS, OOM_LOOK, PATIENCE, Looks, is_expected, is_listed
from bridge.observe import Container, Observed, Sandbox
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.relist import Box
from bridge.spec import names

NOW = 1_000_000.0


def one(state: str, **more: object) -> Observed:
    return Observed(containers=(Container("c", "main", "s", state, **more),))  # type: ignore[arg-type]


def test_nothing_was_heard_so_nothing_is_to_be_read_again() -> None:
    assert Looks().next(one("running"), NOW) is None


@pytest.mark.parametrize(("kind", "delays"), [(EXITED, HINTS), (OOM, OOM_HINTS)])
def test_what_cri_does_not_show_yet_is_looked_for_less_and_less_often_and_then_no_more(
    kind: str, delays: tuple[float, ...]
) -> None:
    looks, running = Looks(), one("running")
    looks.add(Hint("c", kind), NOW)
    times = [NOW]
    while (again := looks.next(running, times[-1])) is not None:
        times.append(again)
    assert times == [NOW, *(NOW + seconds for seconds in delays)]


@pytest.mark.parametrize(
    ("kind", "observed", "shown"),
    [
        (ENDING, one("running"), False),
        (ENDING, one("exited"), True),
        (STARTED, one("created"), False),
        (STARTED, one("running"), True),
        (STARTED, one("exited"), True),
        (EXITED, one("running"), False),
        (EXITED, one("exited"), True),
        (EXITED, Observed(sandboxes=(Sandbox("c", 0, ready=True),)), False),
        (EXITED, Observed(sandboxes=(Sandbox("c", 0, ready=False),)), True),
        (STARTED, Observed(sandboxes=(Sandbox("c", 0, ready=True),)), True),
        (STARTED, Observed(), False),
    ],
)
def test_a_reading_that_shows_what_happened_ends_the_looking(kind: str, observed: Observed, shown: bool) -> None:
    looks = Looks()
    looks.add(Hint("c", kind), NOW)
    assert (looks.next(observed, NOW) is None) == shown


@pytest.mark.parametrize(
    ("reason", "age", "again"), [("Error", 0.1, True), ("Error", 14 * OOM_LOOK, True), ("OOMKilled", 0.1, False)]
)
def test_a_container_that_is_seen_to_be_killed_is_read_once_more_for_oomkilled(
    reason: str, age: float, again: bool
) -> None:
    """However long ago it ended: its exit may have shown late."""
    looks, killed = Looks(), one("exited", exit_code=137, reason=reason, finished_at=int((NOW - age) * 1e9))
    assert looks.next(killed, NOW) == (NOW + OOM_LOOK if again else None)
    assert looks.next(killed, NOW + 0.2) == (NOW + OOM_LOOK if again else None)
    assert looks.next(killed, NOW + OOM_LOOK) is None
    assert looks.next(Observed(), NOW + OOM_LOOK) is None
    assert looks._ended == {}


@pytest.mark.parametrize(
    ("code", "message", "policy", "again"),
    [
        (1, "", "FallbackToLogsOnError", True),
        (1, "the first of its words", "FallbackToLogsOnError", True),
        (0, "", "FallbackToLogsOnError", False),
        (1, "", "File", False),
    ],
)
def test_a_container_whose_log_may_not_be_written_yet_is_read_once_more(
    code: int, message: str, policy: str, again: bool
) -> None:
    notes = {names.MESSAGE_POLICY: policy}
    looks, failed = Looks(), one("exited", exit_code=code, message=message, annotations=notes)
    assert looks.next(one("running", annotations=notes), NOW - 5) is None
    assert looks.next(failed, NOW) == (NOW + LOG_LOOK if again else None)
    assert looks.next(failed, NOW + LOG_LOOK) is None


def test_what_an_operation_brings_about_is_looked_for_after_a_moment_and_still_again_and_again() -> None:
    looks, running = Looks(), one("running")
    times = [looks.add(Hint("c", EXITED), NOW, expected=True)]
    while (again := looks.next(running, times[-1])) is not None:
        times.append(again)
    assert times == [NOW + seconds for seconds in HINTS if seconds >= PATIENCE]


@pytest.mark.parametrize(
    ("kind", "busy", "expected"),
    [
        (STARTED, START, True),
        (STARTED, TEARDOWN, False),
        (EXITED, stop_key("c"), True),
        (EXITED, stop_key("another"), False),
        (EXITED, TEARDOWN, True),
        (EXITED, SANDBOX, True),
        (EXITED, START, False),
        (EXITED, REFRESH, False),
        (ENDING, REFRESH, True),
        (OOM, stop_key("c"), False),
    ],
)
def test_an_operation_brings_about_what_it_is_for(kind: str, busy: str, expected: bool) -> None:
    assert is_expected(Hint("c", kind), {busy}) == expected
    assert is_expected(Hint("c", kind), set()) == (kind == ENDING)


def boxes(sandbox: int, container: int | None) -> set[Box]:
    found = {Box("s", "uid", "", "s", sandbox, 1)}
    return found if container is None else found | {Box("c", "uid", "main", "s", container, 2)}


@pytest.mark.parametrize(
    ("sandbox", "container", "known"),
    [
        (cri.SANDBOX_READY, cri.CONTAINER_RUNNING, True),
        (cri.SANDBOX_NOTREADY, cri.CONTAINER_RUNNING, False),
        (cri.SANDBOX_READY, cri.CONTAINER_EXITED, False),
        (cri.SANDBOX_READY, None, False),
    ],
)
def test_a_list_that_shows_what_was_read_is_no_news(sandbox: int, container: int | None, known: bool) -> None:
    read = Observed((Sandbox("s", 0, ready=True),), one("running").containers)
    assert is_listed(read, boxes(sandbox, container)) == known


def test_a_kill_for_memory_that_is_told_after_the_exit_does_not_end_the_looking_for_that() -> None:
    looks, running = Looks(), one("running")
    looks.add(Hint("c", EXITED), NOW)
    looks.add(Hint("c", OOM), NOW)
    assert looks.next(running, NOW + OOM_HINTS[-1]) == NOW + min(delay for delay in HINTS if delay > OOM_HINTS[-1])
    looks.add(Hint("c", EXITED), NOW)
    assert len(looks._hints) == len(HINTS), "that one is looked for oftener and longer"


def test_a_second_event_of_the_same_container_takes_the_place_of_the_first() -> None:
    looks, running = Looks(), one("running")
    looks.add(Hint("c", ENDING), NOW, expected=True)
    looks.add(Hint("c", EXITED), NOW + 0.09)
    looks.add(Hint("another", ENDING), NOW + 0.09, expected=True)
    assert looks.next(running, NOW + 0.09) == NOW + 0.09 + HINTS[0]
    assert looks.next(Observed(containers=()), NOW + 4) == NOW + 0.09 + HINTS[-1]
    assert looks.next(running, NOW + 6) is None
