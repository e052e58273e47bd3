"""One probe's course: when it is due, what counts, and when it rests. The kubelet's worker.go is the source."""

import pytest

from bridge.probes.track import Kind, Target, Timing, Track

UP = Target("app", "c1", running=True, started=True)
STARTING = Target("app", "c1", running=True, started=False)
NEXT = Target("app", "c2", running=True, started=True)


def track(kind: Kind = "liveness", target: Target = UP, *, at: float = 0.0, age: float = 0.0, **timing: float) -> Track:
    """A probe whose ticks began at 0 and whose container was first seen then."""
    made = Track(kind, Timing(**timing), 0.0)  # type: ignore[arg-type]
    made.see(target, ending=False, now=at, age=age)
    return made


def run(made: Track, *results: bool | None, at: float = 0.0) -> list[bool | None]:
    """Probe that often; the result after each."""
    shown = []
    for passed in results:
        made.ends(made.begins(at), passed)
        shown.append(made.result)
    return shown


def test_defaults_are_kubernetes() -> None:
    assert Timing.of({}) == Timing(delay=0, timeout=1, period=10, successes=1, failures=3)
    given = {
        "initialDelaySeconds": 1,
        "timeoutSeconds": 2,
        "periodSeconds": 3,
        "successThreshold": 4,
        "failureThreshold": 5,
    }
    assert Timing.of(given) == Timing(1, 2, 3, 4, 5)


class TestDue:
    def test_ticks_count_from_the_pod_not_from_the_container(self) -> None:
        assert track(at=3.5).due(3.5) == 10
        assert track(at=10).due(10) == 10
        assert track(at=0).due(0) == 0

    def test_the_delay_counts_from_the_containers_start(self) -> None:
        assert track(at=3.5, age=0.5, delay=15).due(3.5) == 20
        assert track(at=3.5, age=100, delay=15).due(3.5) == 10

    def test_readiness_comes_at_once_after_its_delay(self) -> None:
        assert track("readiness", at=3.5).due(3.5) == 3.5
        assert track("readiness", at=3.5, age=1, delay=15).due(3.5) == 17.5
        made = track("readiness", at=3.5)
        run(made, True, at=3.5)
        assert made.due(3.6) == 13.5

    def test_readiness_comes_at_once_when_its_container_has_started(self) -> None:
        made = track("readiness", STARTING, at=1)
        assert made.due(1) is None
        made.see(UP, ending=False, now=42, age=41)
        assert made.due(42) == 42

    def test_the_next_tick_follows_a_probe(self) -> None:
        made = track()
        turn = made.begins(0.0)
        assert made.due(0.1) is None  # under way
        made.ends(turn, True)
        assert made.due(0.1) == 10

    def test_a_probe_longer_than_its_period_is_followed_at_once(self) -> None:
        made = track(period=1)
        turn = made.begins(0.0)
        made.ends(turn, True)
        assert made.due(5.2) == 1

    @pytest.mark.parametrize("kind", ["liveness", "readiness"])
    def test_others_wait_for_startup_and_startup_for_no_one(self, kind: Kind) -> None:
        assert track(kind, STARTING).due(0) is None
        assert track("startup", STARTING).due(0) == 0
        assert track("startup", UP).due(0) is None

    def test_what_does_not_run_is_not_probed(self) -> None:
        assert track(target=Target("app")).due(0) is None
        assert track(target=Target("app", "c1", running=False, started=True)).due(0) is None

    def test_ticks_may_begin_later_than_now(self) -> None:
        made = Track("readiness", Timing(), 7.0)
        made.see(UP, ending=False, now=0.0, age=100)
        assert made.due(0) == 7


class TestThresholds:
    def test_a_result_counts_once_enough_in_a_row_say_so(self) -> None:
        made = track("readiness", failures=2, successes=3)
        assert run(made, False, True, True, True) == [None, None, None, True]
        assert run(made, False, True, False, False) == [True, True, True, False]

    def test_an_error_counts_for_nothing(self) -> None:
        assert run(track("readiness", failures=2), False, None, False) == [None, None, False]

    def test_only_a_change_is_told(self) -> None:
        made = track("readiness", failures=1)
        assert made.ends(made.begins(0), False)
        assert not made.ends(made.begins(1), False)
        assert made.ends(made.begins(2), True)

    def test_a_liveness_failure_rests_until_there_is_a_new_container(self) -> None:
        made = track(failures=2)
        assert run(made, True, False, False) == [True, True, False]
        assert made.due(100) is None
        made.see(NEXT, ending=False, now=101, age=0)
        assert (made.result, made.due(101)) == (None, 110)
        assert run(made, False) == [None]

    @pytest.mark.parametrize("passed", [True, False])
    def test_startup_rests_after_either_result(self, passed: bool) -> None:
        made = track("startup", STARTING, failures=1)
        assert run(made, passed) == [passed]
        assert made.due(100) is None

    def test_results_in_a_row_are_one_containers(self) -> None:
        made = track(failures=2)
        run(made, False)
        made.see(NEXT, ending=False, now=5, age=0)
        assert run(made, False) == [None]

    def test_a_result_that_comes_after_its_container_is_nobodys(self) -> None:
        made = track(failures=1)
        turn = made.begins(0)
        made.see(NEXT, ending=False, now=5, age=0)
        assert not made.ends(turn, False)
        assert made.result is None
        assert made.due(5) == 10


class TestEnding:
    def test_liveness_and_startup_end_well(self) -> None:
        for kind, target in (("liveness", UP), ("startup", STARTING)):
            made = track(kind, target)  # type: ignore[arg-type]
            assert made.see(target, ending=True, now=1, age=1)
            assert (made.result, made.due(1)) == (True, None)

    def test_a_failure_that_is_under_way_does_not_count_any_more(self) -> None:
        made = track(failures=1)
        turn = made.begins(0)
        made.see(UP, ending=True, now=1, age=1)
        assert not made.ends(turn, False)
        assert made.result is True

    def test_readiness_goes_on(self) -> None:
        made = track("readiness", failures=1)
        run(made, True)
        made.see(UP, ending=True, now=1, age=1)
        assert made.due(1) == 10
        assert run(made, False, at=10) == [False]
