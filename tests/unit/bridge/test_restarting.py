"""RestartAllContainers, step by step: decide and report together, with CRI and our own last status between them."""

from typing import Any

import pytest

from bridge.actions import REFRESH, RESET, SANDBOX, START, CancelStarts, ResetContainers, StartContainer, TearDown, Wait
from bridge.conditions import OWNED
from bridge.decide import decide
from bridge.lives import RESTARTING
from bridge.observe import Observed
from bridge.report import report
from tests.unit.bridge.building import NOW, a_pod, box, deleted, desired, prior, run, seen, spec

RULE = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
SOURCE = spec("source", restartPolicy="Never", restartPolicyRules=[RULE])
CAR = spec("car", restartPolicy="Always")
Status = dict[str, Any]


def the_pod(**fields: Any) -> dict[str, Any]:
    init = [spec("init"), CAR]
    return a_pod(SOURCE, spec("other"), **{"initContainers": init, "restartPolicy": "Never", **fields})


def up(code: int | None = None, **more: Any) -> Observed:
    """All of it ran once; with a code the source has ended."""
    source = run("source") if code is None else run("source", "exited", exit_code=code)
    others = (run("other"), run("car"), run("init", "exited"))
    return seen(source, *others, run("debug"), **more)


def reported(observed: Observed, status: Status | None = None, pod: dict[str, Any] | None = None) -> Status:
    return report(desired(pod or the_pod()), prior(status=status or {}), observed, NOW)


def states(status: Status) -> dict[str, tuple[str, str, int]]:
    """(state, reason of lastState, restart count) by container."""
    shown = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
    return {
        item["name"]: (
            next(iter(item["state"])),
            (item["lastState"].get("terminated") or {}).get("reason", ""),
            item["restartCount"],
        )
        for item in shown
    }


def condition(status: Status, kind: str = RESTARTING) -> Status | None:
    return next((item for item in status["conditions"] if item["type"] == kind), None)


def truth(status: Status, kind: str = RESTARTING) -> str:
    found = condition(status, kind)
    return "none" if found is None else str(found["status"])


def test_the_condition_is_there_for_a_pod_with_such_a_rule_only_and_it_is_ours() -> None:
    assert truth(reported(up())) == "False"
    assert condition(report(desired(), prior(), seen(run()), NOW)) is None
    assert RESTARTING in OWNED


def test_a_matching_exit_sets_the_condition_and_asks_for_all_to_be_removed_the_source_last() -> None:
    status = reported(up(42), reported(up()))
    found = condition(status)
    assert found is not None
    assert {key: found[key] for key in ("status", "reason", "message")} == {
        "status": "True",
        "reason": "RestartAllContainersStarted",
        "message": "container exited with restart policy rule",
    }
    assert "observedGeneration" not in found
    assert status["phase"] == "Running"
    order = ("other-0", "car-0", "init-0", "source-0")
    assert decide(desired(the_pod()), prior(status=status), up(42), NOW) == [ResetContainers(order)]


@pytest.mark.parametrize("code", [0, 1])
def test_another_exit_restarts_nothing(code: int) -> None:
    status = reported(up(code), reported(up()))
    assert truth(status) == "False"
    assert decide(desired(the_pod()), prior(status=status), up(code), NOW) == []


def test_the_first_rule_that_matches_counts() -> None:
    own = {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}}
    pod = a_pod(spec("source", restartPolicy="Never", restartPolicyRules=[own, RULE]), restartPolicy="Never")
    observed = seen(run("source", "exited", exit_code=42))
    assert truth(reported(observed, pod=pod)) == "False"
    assert decide(desired(pod), prior(), observed, NOW) == [StartContainer("source", "s0", 1, 10.0)]


def test_an_init_container_may_ask_for_it_too() -> None:
    pod = a_pod(spec("app"), initContainers=[CAR, {**SOURCE, "name": "first"}], restartPolicy="Never")
    observed = seen(run("first", "exited", exit_code=42), run("car"))
    assert decide(desired(pod), prior(), observed, NOW) == [ResetContainers(("car-0", "first-0"))]


def test_nothing_of_the_old_runs_is_left_out_and_ephemeral_containers_are() -> None:
    observed = seen(run("source", "exited", count=1, exit_code=42), run("source", "exited", exit_code=1))
    actions = decide(desired(the_pod()), prior(), observed, NOW)
    assert actions == [ResetContainers(("source-0", "source-1"))]


def test_a_start_is_given_up_for_it_and_other_work_is_waited_for() -> None:
    for key in (START, SANDBOX):
        assert decide(desired(the_pod()), prior(busy=frozenset({key})), up(42), NOW) == [CancelStarts()]
    for key in ("stop:other-0", RESET):
        assert decide(desired(the_pod()), prior(busy=frozenset({key})), up(42), NOW) == []
    refreshing = decide(desired(the_pod()), prior(busy=frozenset({REFRESH})), up(42), NOW)
    assert [type(action) for action in refreshing] == [ResetContainers]


def test_a_failed_removal_waits_for_its_retry() -> None:
    assert decide(desired(the_pod()), prior(retry={RESET: NOW + 5}), up(42), NOW) == [Wait(NOW + 5)]


def test_once_it_is_marked_it_goes_through_whatever_is_left() -> None:
    marked = reported(up(42), reported(up()))
    killed = seen(run("car"), run("init", "exited", exit_code=137))
    assert decide(desired(the_pod()), prior(status=marked), killed, NOW) == [ResetContainers(("car-0", "init-0"))]
    assert reported(killed, marked)["phase"] == "Running"


def test_removed_containers_count_one_restart_and_start_in_order_at_once() -> None:
    marked = reported(up(42), reported(up()))
    empty = seen()
    status = reported(empty, marked)
    assert states(status) == dict.fromkeys(
        ("init", "car", "source", "other"), ("waiting", "RestartingAllContainers", 1)
    )
    source = next(item for item in status["containerStatuses"] if item["name"] == "source")
    message = "The container is removed because RestartAllContainers in place"
    assert source["state"]["waiting"] == {"reason": "RestartingAllContainers", "message": message}
    assert source["lastState"]["terminated"]["exitCode"] == 137
    assert (status["phase"], truth(status)) == ("Running", "False")
    assert truth(status, "Initialized") == "True"
    pod = the_pod()
    assert decide(desired(pod), prior(status=status), empty, NOW) == [StartContainer("init", "s0", 1)]
    after_init = seen(run("init", "exited", count=1))
    assert decide(desired(pod), prior(status=status), after_init, NOW) == [StartContainer("car", "s0", 1)]
    after_car = seen(run("car", count=1), run("init", "exited", count=1))
    again = reported(after_car, status)
    assert states(again)["other"] == ("waiting", "RestartingAllContainers", 1)
    assert again["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert decide(desired(pod), prior(status=again), after_car, NOW) == [StartContainer("source", "s0", 1)]


def test_a_container_that_never_ran_is_not_counted() -> None:
    pod = a_pod(spec("app"), initContainers=[{**SOURCE, "name": "first"}], restartPolicy="Never")
    before = reported(seen(run("first", "exited", exit_code=42)), pod=pod)
    status = reported(seen(), before, pod)
    assert states(status) == {"first": ("waiting", "RestartingAllContainers", 1), "app": ("waiting", "", 0)}


def test_the_new_runs_keep_what_is_known_of_the_old_ones_and_are_judged_anew() -> None:
    removed = reported(seen(), reported(up(42), reported(up())))
    anew = seen(*(run(name, count=1) for name in ("source", "other", "car")), run("init", "exited", count=1))
    status = reported(anew, removed)
    assert states(status)["source"] == ("running", "RestartingAllContainers", 1)
    assert truth(status) == "False"
    assert decide(desired(the_pod()), prior(status=status), anew, NOW) == []
    twice = seen(run("source", "exited", count=1, exit_code=42), run("other", count=1))
    assert [type(action) for action in decide(desired(the_pod()), prior(status=status), twice, NOW)] == [
        ResetContainers
    ]


def test_a_status_of_before_a_restart_of_the_bridge_does_not_remove_the_new_runs() -> None:
    """The API server was away while the containers were removed and started: it shows the condition still."""
    marked = reported(up(42), reported(up()))
    anew = seen(*(run(name, count=1) for name in ("source", "other", "car")), run("init", "exited", count=1))
    assert decide(desired(the_pod()), prior(status=marked), anew, NOW) == []


def test_the_sandbox_may_be_gone_as_well() -> None:
    marked = reported(up(42), reported(up()))
    gone = up(42, boxes=(box(ready=False),))
    assert [type(action) for action in decide(desired(the_pod()), prior(status=marked), gone, NOW)] == [ResetContainers]
    status = reported(seen(boxes=(box(ready=False),)), marked)
    assert status["phase"] == "Running"


def test_a_deleted_pod_ends_and_does_not_restart() -> None:
    actions = decide(desired(deleted(the_pod())), prior(), up(42), NOW)
    assert actions
    assert not any(isinstance(action, ResetContainers) for action in actions)
    ended = seen(run("source", "exited", exit_code=42))
    waits = prior(busy=frozenset({RESET}))
    assert decide(desired(deleted(the_pod())), waits, ended, NOW) == []
    assert decide(desired(deleted(the_pod())), prior(), ended, NOW) == [TearDown(("s0",))]


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (1, "Failed", "PodFailed")])
def test_a_pod_that_is_over_says_so(code: int, phase: str, reason: str) -> None:
    pod = a_pod(SOURCE, restartPolicy="Never")
    status = reported(seen(run("source", "exited", exit_code=code)), pod=pod)
    assert status["phase"] == phase
    found = condition(status)
    assert found is not None
    assert (found["status"], found["reason"]) == ("False", reason)
