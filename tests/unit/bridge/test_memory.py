"""What the end of an action changes in a worker's memory, and that no news is lost while one is under way."""

import pytest

from bridge.actions import Problem, RefreshVolumes, RunSandbox, StartContainer, StopContainer, TearDown
from bridge.memory import Memory
from tests.unit.bridge.building import NOW, a_pod, run, seen

START = StartContainer("app", "s0", 0)


def test_a_failure_is_retried_later_each_time_and_shown() -> None:
    memory = Memory({})
    problem = Problem("CreateContainerError", "no space")
    delays = []
    for _ in range(6):
        memory.begins(START, START.key, NOW)
        delays.append(memory.failed(START, START.key, NOW, problem, None) - NOW)
    assert delays == [1, 2, 4, 8, 10, 10]
    assert memory.prior().problems == {"app": problem}
    assert memory.prior().busy == frozenset()


def test_a_success_forgets_the_failure() -> None:
    memory = Memory({})
    memory.failed(START, START.key, NOW, Problem("CreateContainerError", "no space"), None)
    memory.done(START, START.key, NOW)
    assert (memory.prior().problems, memory.prior().retry) == ({}, {})
    assert memory.failed(START, START.key, NOW, None, None) == NOW + 1


def test_news_during_an_action_makes_its_failure_old() -> None:
    memory = Memory({})
    memory.begins(START, START.key, NOW)
    memory.try_now()
    assert memory.failed(START, START.key, NOW, None, None) == NOW


@pytest.mark.parametrize("action", [RefreshVolumes(), RunSandbox(0)])
def test_news_during_a_refresh_makes_another_one_due(action: RefreshVolumes | RunSandbox) -> None:
    memory = Memory({})
    memory.begins(action, action.key, NOW)
    memory.done(action, action.key, NOW, 3600.0)
    assert memory.refresh_at is not None
    assert memory.refresh_at > NOW
    for news in (memory.try_now, memory.changed):
        memory.begins(action, action.key, NOW)
        news()
        memory.done(action, action.key, NOW, 3600.0)
        assert memory.refresh_at == 0.0


def test_a_changed_pod_hurries_a_refresh_but_not_what_has_failed() -> None:
    memory = Memory({})
    retry = memory.failed(START, START.key, NOW, None, None)
    memory.done(RefreshVolumes(), "refresh", NOW, None)
    memory.changed()
    assert memory.refresh_at == 0.0
    assert memory.prior().retry == {START.name: retry}


def test_volumes_that_never_change_are_not_refreshed() -> None:
    memory = Memory({})
    memory.seen(a_pod(volumes=[{"name": "v", "emptyDir": {}}]), seen(run()))
    assert memory.refresh_at is None
    memory = Memory({})
    memory.seen(a_pod(volumes=[{"name": "v", "secret": {}}]), seen(run()))
    assert memory.refresh_at == 0.0


def test_a_grace_is_remembered_until_the_container_has_ended() -> None:
    memory = Memory({})
    stop = StopContainer("app-0", "app", 30.0, replace=True)
    memory.begins(stop, stop.key, NOW)
    memory.seen(a_pod(), seen(run()))
    assert (memory.prior().stopping, memory.prior().replaced) == ({"app-0": NOW + 30}, {"app-0"})
    memory.seen(a_pod(), seen(run(state="exited")))
    assert (memory.prior().stopping, memory.prior().replaced) == ({}, {"app-0"})
    memory.seen(a_pod(), seen())
    assert memory.prior().replaced == frozenset()


def test_what_was_taken_down_is_there_again_with_a_new_sandbox() -> None:
    memory = Memory({})
    down = TearDown(())
    memory.begins(down, down.key, NOW)
    memory.done(down, down.key, NOW)
    assert memory.prior().down
    memory.begins(RunSandbox(0), "sandbox", NOW)
    assert not memory.prior().down


def test_what_was_under_way_at_a_reading_counts_as_that_until_the_next_one() -> None:
    memory = Memory({})
    memory.problems[START.name] = shown = Problem("CrashLoopBackOff", "back-off")
    memory.begins(START, START.key, NOW)
    memory.reads()
    memory.done(START, START.key, NOW)
    prior = memory.prior()
    assert (prior.busy, prior.problems) == ({START.key}, {START.name: shown})
    memory.reads()
    prior = memory.prior()
    assert (prior.busy, prior.problems) == (frozenset(), {})
