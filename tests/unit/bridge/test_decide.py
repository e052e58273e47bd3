"""What decide orders for a pod that starts, runs, fails, ends and is deleted."""

from typing import Any

import pytest

from bridge.actions import (
    Action,
    BackOff,
    CancelStarts,
    Eviction,
    Forget,
    Prior,
    Probed,
    Problem,
    RefreshVolumes,
    RemoveAll,
    RemoveContainer,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
    Wait,
)
from bridge.decide import decide, grace
from bridge.lives import lives
from bridge.observe import Observed
from bridge.outcome import Outcome, outcome
from tests.unit.bridge.building import (
    NANO,
    NOW,
    UID,
    a_pod,
    box,
    container_status,
    deleted,
    desired,
    prior,
    run,
    seen,
    spec,
)


def starts(actions: list[Action]) -> list[str]:
    return [action.name for action in actions if isinstance(action, StartContainer)]


def stops(actions: list[Action]) -> list[str]:
    return [action.name for action in actions if isinstance(action, StopContainer)]


def test_everything_is_good_do_nothing() -> None:
    assert decide(desired(), prior(), seen(run()), NOW) == []


def test_a_new_pod_gets_a_sandbox() -> None:
    assert decide(desired(), prior(), seen(boxes=()), NOW) == [RunSandbox(0)]


def test_nothing_is_made_before_services_and_node_are_known() -> None:
    waiting = desired(may_create=False)
    assert decide(waiting, prior(), seen(boxes=()), NOW) == []
    assert decide(waiting, prior(), seen(), NOW) == []


def test_nothing_is_begun_twice() -> None:
    assert decide(desired(), prior(busy=frozenset({"sandbox"})), seen(boxes=()), NOW) == []
    assert decide(desired(), prior(busy=frozenset({"start"})), seen(), NOW) == []


def test_containers_start_one_after_the_other() -> None:
    pod = a_pod(spec("a"), spec("b"))
    assert decide(desired(pod), prior(), seen(), NOW) == [StartContainer("a", "s0", 0)]
    assert decide(desired(pod), prior(), seen(run("a")), NOW) == [StartContainer("b", "s0", 0)]


def test_a_container_that_must_wait_holds_up_no_other() -> None:
    pod = a_pod(spec("a"), spec("b"))
    waiting = prior(retry={"a": NOW + 5})
    assert decide(desired(pod), waiting, seen(), NOW) == [Wait(NOW + 5), StartContainer("b", "s0", 0)]


def test_a_sandbox_that_failed_is_tried_again_later() -> None:
    assert decide(desired(), prior(retry={"sandbox": NOW + 3}), seen(boxes=()), NOW) == [Wait(NOW + 3)]


class TestInitPhase:
    pod = a_pod(initContainers=[spec("one"), spec("two")])

    def test_the_first_one_starts_first(self) -> None:
        assert starts(decide(desired(self.pod), prior(), seen(), NOW)) == ["one"]

    def test_one_that_runs_is_waited_for(self) -> None:
        assert decide(desired(self.pod), prior(), seen(run("one")), NOW) == []

    def test_the_next_one_follows_one_that_succeeded(self) -> None:
        assert starts(decide(desired(self.pod), prior(), seen(run("one", "exited")), NOW)) == ["two"]

    def test_the_containers_follow_the_last_one(self) -> None:
        observed = seen(run("two", "exited"), run("one", "exited"))
        assert starts(decide(desired(self.pod), prior(), observed, NOW)) == ["app"]

    def test_one_that_failed_is_run_again(self) -> None:
        observed = seen(run("one", "exited", exit_code=1))
        assert decide(desired(self.pod), prior(), observed, NOW) == [StartContainer("one", "s0", 1, 10.0)]

    def test_one_that_failed_ends_a_pod_that_may_run_once(self) -> None:
        pod = {**self.pod, "spec": {**self.pod["spec"], "restartPolicy": "Never"}}
        assert decide(desired(pod), prior(), seen(run("one", "exited", exit_code=1)), NOW) == [TearDown(("s0",))]

    def test_all_of_them_run_again_in_a_new_sandbox(self) -> None:
        observed = seen(
            run("app", "exited", exit_code=137), run("two", "exited"), run("one", "exited"), boxes=(box(1), box(0))
        )
        observed = seen(*observed.containers, boxes=(box(1), box(0, ready=False)))
        assert decide(desired(self.pod), prior(), observed, NOW) == [StartContainer("one", "s1", 1, 10.0)]

    def test_they_are_over_once_a_container_was_made_though_they_are_gone(self) -> None:
        assert decide(desired(self.pod), prior(), seen(run("app")), NOW) == []


class TestSidecars:
    pod = a_pod(initContainers=[spec("one"), spec("car", restartPolicy="Always"), spec("two")])

    def test_the_next_init_container_waits_until_the_sidecar_runs(self) -> None:
        assert starts(decide(desired(self.pod), prior(), seen(run("one", "exited")), NOW)) == ["car"]
        observed = seen(run("car"), run("one", "exited"))
        assert starts(decide(desired(self.pod), prior(), observed, NOW)) == ["two"]

    def test_it_waits_for_the_sidecars_startup(self) -> None:
        car = spec("car", restartPolicy="Always", startupProbe={"exec": {}})
        pod = a_pod(initContainers=[spec("one"), car, spec("two")])
        observed = seen(run("car"), run("one", "exited"))
        assert decide(desired(pod), prior(), observed, NOW) == []
        known = prior(probed={"car-0": Probed(startup=True)})
        assert starts(decide(desired(pod), known, observed, NOW)) == ["two"]

    def test_one_that_died_is_run_again_at_any_time(self) -> None:
        observed = seen(run("app"), run("two", "exited"), run("car", "exited"), run("one", "exited"))
        assert starts(decide(desired(self.pod), prior(), observed, NOW)) == ["car"]

    def test_one_is_run_again_even_in_a_pod_that_may_run_once(self) -> None:
        pod = {**self.pod, "spec": {**self.pod["spec"], "restartPolicy": "Never"}}
        observed = seen(run("app"), run("two", "exited"), run("car", "exited"), run("one", "exited"))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == ["car"]

    def test_they_stop_after_the_containers_the_last_one_first(self) -> None:
        cars = [spec("car1", restartPolicy="Always"), spec("car2", restartPolicy="Always")]
        pod = deleted(a_pod(initContainers=cars))
        alive = [run("app"), run("car2"), run("car1")]
        assert stops(decide(desired(pod), prior(), seen(*alive), NOW)) == ["app"]
        assert stops(decide(desired(pod), prior(), seen(*alive[1:]), NOW)) == ["car2"]
        assert stops(decide(desired(pod), prior(), seen(*alive[2:]), NOW)) == ["car1"]

    def test_a_pod_whose_containers_ended_stops_them(self) -> None:
        pod = a_pod(initContainers=[spec("car", restartPolicy="Always")], restartPolicy="Never")
        assert stops(decide(desired(pod), prior(), seen(run("app", "exited"), run("car")), NOW)) == ["car"]


def test_an_ephemeral_container_starts_once() -> None:
    pod = a_pod(ephemeralContainers=[spec("debug")])
    assert starts(decide(desired(pod), prior(), seen(run()), NOW)) == ["debug"]
    assert decide(desired(pod), prior(), seen(run("debug", "exited", exit_code=1), run()), NOW) == []


class TestRestarts:
    @pytest.mark.parametrize(
        ("policy", "code", "again"),
        [
            ("Always", 0, True),
            ("Always", 1, True),
            ("OnFailure", 0, False),
            ("OnFailure", 1, True),
            ("Never", 0, False),
            ("Never", 1, False),
        ],
    )
    def test_by_policy_and_exit_code(self, policy: str, code: int, again: bool) -> None:
        pod = a_pod(spec("app"), spec("other"), restartPolicy=policy)
        observed = seen(run("app", "exited", exit_code=code), run("other"))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == (["app"] if again else [])

    def test_a_container_may_have_a_policy_of_its_own(self) -> None:
        pod = a_pod(spec("app", restartPolicy="Always"), spec("other"), restartPolicy="Never")
        observed = seen(run("app", "exited", exit_code=1), run("other"))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == ["app"]

    @pytest.mark.parametrize(("operator", "code", "again"), [("In", 42, True), ("In", 1, False), ("NotIn", 1, True)])
    def test_by_its_own_rules(self, operator: str, code: int, again: bool) -> None:
        rule = {"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}
        pod = a_pod(spec("app", restartPolicy="Never", restartPolicyRules=[rule]), spec("other"), restartPolicy="Never")
        observed = seen(run("app", "exited", exit_code=code), run("other"))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == (["app"] if again else [])

    @pytest.mark.parametrize(
        ("policy", "operator", "code", "again"),
        [
            ("Never", "In", 42, True),
            ("Never", "In", 1, False),
            ("Never", "NotIn", 1, True),
            ("Never", "NotIn", 42, False),
            ("OnFailure", "In", 1, True),
        ],
    )
    def test_an_init_container_by_its_own_rules(self, policy: str, operator: str, code: int, again: bool) -> None:
        rule = {"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}
        first = spec("first", restartPolicy=policy, restartPolicyRules=[rule])
        pod = a_pod(initContainers=[first], restartPolicy="Never")
        observed = seen(run("first", "exited", exit_code=code))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == (["first"] if again else [])
        ended = outcome(desired(pod), prior(), observed, lives(pod, prior(), observed), NOW)
        assert ended == (None if again else Outcome("Failed"))

    def test_an_init_container_that_ended_well_is_not_started_for_a_rule(self) -> None:
        rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [0]}}
        pod = a_pod(initContainers=[spec("first", restartPolicy="Never", restartPolicyRules=[rule])])
        observed = seen(run("first", "exited"))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == ["app"]

    def test_the_first_one_is_immediate(self) -> None:
        observed = seen(run(state="exited", exit_code=1))
        assert decide(desired(), prior(), observed, NOW) == [StartContainer("app", "s0", 1, 10.0)]

    def test_but_not_so_quick_that_the_sandbox_may_be_going_too(self) -> None:
        ended = int(NOW * NANO) - NANO // 10
        assert decide(desired(), prior(), seen(run(state="exited", finished_at=ended)), NOW) == [Wait(NOW + 0.4)]

    @pytest.mark.parametrize(("held", "following"), [(10, 20), (20, 40), (160, 300), (300, 300)])
    def test_the_back_off_doubles_up_to_five_minutes(self, held: int, following: int) -> None:
        ended = int((NOW - held) * NANO)
        observed = seen(run(state="exited", count=3, backoff=held, finished_at=ended, exit_code=1))
        assert decide(desired(), prior(), observed, NOW) == [StartContainer("app", "s0", 4, float(following))]

    def test_it_is_waited_for_and_said_once(self) -> None:
        observed = seen(run(state="exited", count=3, backoff=80, finished_at=int((NOW - 50) * NANO)))
        (action,) = decide(desired(), prior(), observed, NOW)
        assert isinstance(action, BackOff)
        message = action.problem.message
        assert message == f"back-off 1m20s restarting failed container=app pod=p_default({UID})"
        assert action.until == pytest.approx(NOW + 30)
        known = prior(problems={"app": Problem("CrashLoopBackOff", message)})
        assert decide(desired(), known, observed, NOW) == [Wait(action.until)]

    def test_ten_good_minutes_forget_it(self) -> None:
        began = int((NOW - 700) * NANO)
        observed = seen(run(state="exited", count=3, backoff=160, created_at=began, finished_at=int((NOW - 1) * NANO)))
        assert decide(desired(), prior(), observed, NOW) == [StartContainer("app", "s0", 4, 10.0)]


class TestFailedProbes:
    """What computePodActions makes of a container that runs and has failed its liveness or startup probe."""

    def stop(self, pod: dict[str, Any], observed: Observed | None = None, **probed: Probed) -> StopContainer:
        known = prior(probed={f"{name}-0": said for name, said in probed.items()})
        (action,) = decide(desired(pod), known, observed or seen(run()), NOW)
        assert isinstance(action, StopContainer)
        return action

    @pytest.mark.parametrize("kind", ["liveness", "startup"])
    @pytest.mark.parametrize("policy", ["Always", "OnFailure"])
    def test_the_container_is_stopped_to_be_started_anew(self, kind: str, policy: str) -> None:
        stop = self.stop(a_pod(restartPolicy=policy), app=Probed(**{kind: False}))
        assert stop == StopContainer(
            "app-0", "app", 30.0, f"Container app failed {kind} probe, will be restarted", True
        )

    def test_a_readiness_failure_stops_nothing(self) -> None:
        known = prior(probed={"app-0": Probed(startup=True, liveness=True, readiness=False)})
        assert decide(desired(), known, seen(run()), NOW) == []

    def test_a_result_of_another_run_means_nothing(self) -> None:
        known = prior(probed={"app-0": Probed(liveness=False)})
        assert decide(desired(), known, seen(run(count=1)), NOW) == []

    def test_the_probes_own_grace_counts(self) -> None:
        probes = {
            "livenessProbe": {"exec": {}, "terminationGracePeriodSeconds": 7},
            "startupProbe": {"exec": {}, "terminationGracePeriodSeconds": 1},
        }
        pod = a_pod(spec(**probes), terminationGracePeriodSeconds=500)
        assert self.stop(pod, app=Probed(liveness=False)).grace == 7
        assert self.stop(pod, app=Probed(startup=False)).grace == 2  # the kubelet's minimum
        del pod["spec"]["containers"][0]["livenessProbe"]["terminationGracePeriodSeconds"]
        assert self.stop(pod, app=Probed(liveness=False)).grace == 500

    def test_a_container_that_may_not_restart_is_stopped_and_the_others_go_on(self) -> None:
        pod = a_pod(spec(), spec("other"), restartPolicy="Never")
        stop = self.stop(pod, seen(run(), run("other")), app=Probed(liveness=False))
        assert (stop.because, stop.replace) == ("Container app failed liveness probe", False)

    def test_where_none_goes_on_all_is_stopped_as_at_a_pods_end(self) -> None:
        grace = {"exec": {}, "terminationGracePeriodSeconds": 7}
        pod = a_pod(spec(livenessProbe=grace), restartPolicy="Never")
        assert self.stop(pod, app=Probed(liveness=False)) == StopContainer("app-0", "app", 30.0)

    def test_a_containers_own_policy_wins(self) -> None:
        pod = a_pod(spec(restartPolicy="Always"), restartPolicy="Never")
        assert self.stop(pod, app=Probed(liveness=False)).replace
        pod = a_pod(spec(restartPolicy="Never"), spec("other"))
        stop = self.stop(pod, seen(run(), run("other")), app=Probed(liveness=False))
        assert not stop.replace

    @pytest.mark.parametrize("kind", ["liveness", "startup"])
    def test_a_sidecar_is_stopped_whatever_the_policy(self, kind: str) -> None:
        pod = a_pod(initContainers=[spec("car", restartPolicy="Always")], restartPolicy="Never")
        stop = self.stop(pod, seen(run(), run("car")), car=Probed(**{kind: False}))
        assert (stop.id, stop.because) == ("car-0", f"Init container car failed {kind} probe")

    def test_it_is_stopped_once(self) -> None:
        known = prior(probed={"app-0": Probed(liveness=False)}, busy=frozenset({"stop:app-0"}))
        assert decide(desired(), known, seen(run()), NOW) == []

    def test_a_pod_that_ends_is_stopped_by_its_own_grace(self) -> None:
        pod = a_pod(spec(livenessProbe={"exec": {}, "terminationGracePeriodSeconds": 7}))
        known = prior(probed={"app-0": Probed(liveness=False)})
        assert decide(desired(deleted(pod, 60)), known, seen(run()), NOW) == [StopContainer("app-0", "app", 60.0)]

    def test_a_short_grace_of_one_container_does_not_shorten_the_pods(self) -> None:
        pod = deleted(a_pod(spec(), spec("other")), 60)
        known = prior(busy=frozenset({"stop:app-0"}), stopping={"app-0": NOW + 3}, apart=frozenset({"app-0"}))
        (stop,) = decide(desired(pod), known, seen(run(), run("other")), NOW)
        assert stop == StopContainer("other-0", "other", 60.0)

    def test_it_starts_at_once_if_it_had_outlived_its_back_off(self) -> None:
        ended = int((NOW - 1) * NANO)
        previous = run(state="exited", count=0, finished_at=int((NOW - 42) * NANO))
        newest = run(state="exited", count=1, backoff=40, finished_at=ended, exit_code=0)
        known = prior(replaced=frozenset({"app-1"}))
        observed = seen(newest, previous)
        pod = desired(a_pod(restartPolicy="OnFailure"))
        assert decide(pod, known, observed, NOW) == [StartContainer("app", "s0", 2, 80.0)]
        previous = run(state="exited", count=0, finished_at=int((NOW - 30) * NANO))
        (wait,) = decide(pod, known, seen(newest, previous), NOW)
        assert isinstance(wait, BackOff)
        assert wait.until == NOW + 39


class TestChangedImage:
    pod = a_pod({"name": "app", "image": "newer"})

    def test_stops_the_container_to_start_it_anew(self) -> None:
        (stop,) = decide(desired(self.pod), prior(), seen(run()), NOW)
        assert isinstance(stop, StopContainer)
        assert stop.replace
        assert stop.because == "Container app definition changed, will be restarted"

    def test_starts_it_anew_without_back_off(self) -> None:
        observed = seen(run(state="exited", backoff=300, exit_code=137))
        assert decide(desired(self.pod), prior(), observed, NOW) == [StartContainer("app", "s0", 1, 0.0)]

    def test_starts_it_anew_even_in_a_pod_that_may_run_once(self) -> None:
        pod = {**self.pod, "spec": {**self.pod["spec"], "restartPolicy": "Never"}}
        observed = seen(run(state="exited", exit_code=0))
        assert starts(decide(desired(pod), prior(replaced=frozenset({"app-0"})), observed, NOW)) == ["app"]


class TestSandbox:
    def test_a_dead_one_is_replaced(self) -> None:
        observed = seen(run(state="exited", exit_code=137), boxes=(box(2, ready=False), box(1, ready=False)))
        assert decide(desired(), prior(), observed, NOW) == [RunSandbox(3, ("s2", "s1"))]

    def test_what_still_runs_in_a_dead_one_is_stopped_first(self) -> None:
        assert stops(decide(desired(), prior(), seen(run(), boxes=(box(ready=False),)), NOW)) == ["app"]

    def test_one_without_an_address_is_replaced(self) -> None:
        assert decide(desired(), prior(), seen(boxes=(box(ips=()),)), NOW) == [RunSandbox(1, ("s0",))]

    def test_one_of_the_nodes_network_needs_none(self) -> None:
        pod = a_pod(hostNetwork=True)
        observed = seen(boxes=(box(ips=(), host_network=True),))
        assert starts(decide(desired(pod), prior(), observed, NOW)) == ["app"]

    def test_two_that_are_ready_are_one_too_many(self) -> None:
        assert decide(desired(), prior(), seen(boxes=(box(1), box(0))), NOW) == [RunSandbox(2, ("s1", "s0"))]

    def test_none_is_made_for_a_pod_that_may_run_once_and_has_run(self) -> None:
        pod = a_pod(restartPolicy="Never")
        observed = seen(run(state="exited", exit_code=137), boxes=(box(ready=False),))
        assert decide(desired(pod), prior(), observed, NOW) == [TearDown(("s0",))]

    def test_what_succeeded_is_not_run_again_in_a_new_one(self) -> None:
        pod = a_pod(spec("app"), spec("other"), restartPolicy="OnFailure")
        observed = seen(
            run("app", "exited", exit_code=137), run("other", "exited"), boxes=(box(1), box(0, ready=False))
        )
        assert starts(decide(desired(pod), prior(), observed, NOW)) == ["app"]


class TestMemory:
    """CRI has nothing of the pod: everything was removed while we were away."""

    def test_a_pod_that_may_run_once_and_ran_is_not_run_again(self) -> None:
        pod = a_pod(restartPolicy="Never")
        known = prior(status={"phase": "Running", "containerStatuses": [container_status(running={})]})
        assert decide(desired(pod), known, seen(boxes=()), NOW) == [TearDown(())]

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_a_terminal_phase_is_final(self, phase: str) -> None:
        assert decide(desired(), prior(status={"phase": phase}), seen(boxes=()), NOW) == [TearDown(())]

    def test_a_pod_that_restarts_runs_again_and_counts_on(self) -> None:
        known = prior(status={"phase": "Running", "containerStatuses": [container_status(count=4, running={})]})
        assert decide(desired(), known, seen(boxes=()), NOW) == [RunSandbox(0)]
        assert decide(desired(), known, seen(), NOW) == [StartContainer("app", "s0", 5, 10.0)]

    def test_a_pod_that_never_got_so_far_may_begin(self) -> None:
        pod = a_pod(restartPolicy="Never")
        known = prior(status={"phase": "Pending", "containerStatuses": [container_status(waiting={})]})
        assert decide(desired(pod), known, seen(boxes=()), NOW) == [RunSandbox(0)]


def test_a_container_made_and_never_started_is_removed_and_made_anew() -> None:
    observed = seen(run(state="created", count=2), run(state="exited", count=1, exit_code=1))
    assert decide(desired(), prior(), observed, NOW) == [RemoveContainer("app-2", "app")]
    failed = prior(retry={RemoveContainer("app-2", "app").key: NOW + 3})
    assert decide(desired(), failed, observed, NOW) == [Wait(NOW + 3)], "a removal that failed is not tried at once"
    assert decide(desired(), prior(busy=frozenset({"start"})), observed, NOW) == []
    assert decide(desired(), prior(), seen(run(state="exited", count=1, exit_code=1)), NOW) == [
        StartContainer("app", "s0", 2, 10.0)
    ]


def test_volumes_are_refreshed_when_due() -> None:
    assert decide(desired(), prior(refresh_at=NOW - 1), seen(run()), NOW) == [RefreshVolumes()]
    assert decide(desired(), prior(refresh_at=NOW + 9), seen(run()), NOW) == [Wait(NOW + 9)]
    assert decide(desired(), prior(refresh_at=0.0, busy=frozenset({"refresh"})), seen(run()), NOW) == []


class TestDeadline:
    pod = a_pod(activeDeadlineSeconds=60)

    def test_is_waited_for(self) -> None:
        known = prior(status={"startTime": "2027-01-15T07:59:30Z"})
        assert decide(desired(self.pod), known, seen(run()), NOW) == [Wait(NOW + 30)]

    def test_stops_the_pod(self) -> None:
        known = prior(status={"startTime": "2027-01-15T07:59:00Z"})
        assert stops(decide(desired(self.pod), known, seen(run()), NOW)) == ["app"]


class TestEnd:
    pod = deleted(a_pod(spec("a"), spec("b")))

    def test_all_containers_stop_at_once_with_the_deletions_grace(self) -> None:
        actions = decide(desired(self.pod), prior(), seen(run("a"), run("b")), NOW)
        assert actions == [StopContainer("a-0", "a", 30.0), StopContainer("b-0", "b", 30.0)]

    def test_a_stop_under_way_is_not_repeated(self) -> None:
        known = prior(busy=frozenset({"stop:a-0"}), stopping={"a-0": NOW + 20})
        assert decide(desired(self.pod), known, seen(run("a")), NOW) == []

    def test_a_second_delete_shortens_it(self) -> None:
        known = prior(busy=frozenset({"stop:a-0"}), stopping={"a-0": NOW + 20})
        shorter = deleted(self.pod, 5)
        assert decide(desired(shorter), known, seen(run("a")), NOW) == [StopContainer("a-0", "a", 5.0)]

    def test_a_second_delete_never_lengthens_it(self) -> None:
        known = prior(busy=frozenset({"stop:a-0"}), stopping={"a-0": NOW + 20})
        assert decide(desired(deleted(self.pod, 300)), known, seen(run("a")), NOW) == []

    def test_what_stops_later_has_what_is_left_of_the_grace(self) -> None:
        known = prior(stopping={"a-0": NOW + 7}, busy=frozenset({"stop:a-0"}))
        assert decide(desired(self.pod), known, seen(run("a"), run("b")), NOW) == [StopContainer("b-0", "b", 7.0)]

    def test_a_stop_that_failed_is_repeated_later(self) -> None:
        known = prior(stopping={"a-0": NOW + 7}, retry={"stop:a-0": NOW + 2})
        assert decide(desired(self.pod), known, seen(run("a")), NOW) == [Wait(NOW + 2)]

    def test_starts_are_cancelled_and_waited_for(self) -> None:
        known = prior(busy=frozenset({"start"}))
        assert decide(desired(self.pod), known, seen(), NOW) == [CancelStarts()]

    def test_then_everything_is_taken_down(self) -> None:
        observed = seen(run("a", "exited"), boxes=(box(1), box(0, ready=False)))
        assert decide(desired(self.pod), prior(), observed, NOW) == [TearDown(("s1", "s0"))]

    def test_a_sandbox_that_is_ready_is_taken_down_again(self) -> None:
        assert decide(desired(self.pod), prior(down=True), seen(), NOW) == [TearDown(("s0",))]

    def test_containers_stay_until_the_api_object_is_gone(self) -> None:
        observed = seen(run("a", "exited"), boxes=(box(ready=False),))
        assert decide(desired(self.pod), prior(down=True), observed, NOW) == []
        assert decide(desired(self.pod, gone=True), prior(down=True), observed, NOW) == [RemoveAll(("a-0",), ("s0",))]

    def test_then_the_pod_is_forgotten(self) -> None:
        assert decide(desired(self.pod, gone=True), prior(down=True), seen(boxes=()), NOW) == [Forget()]

    def test_a_pod_that_is_gone_without_having_been_deleted_is_ended_too(self) -> None:
        assert stops(decide(desired(a_pod(), gone=True), prior(), seen(run()), NOW)) == ["app"]

    def test_nothing_is_restarted_in_it(self) -> None:
        observed = seen(run("a", "exited", exit_code=1), run("b"))
        assert starts(decide(desired(self.pod), prior(), observed, NOW)) == []

    def test_a_container_whose_state_is_unknown_is_stopped(self) -> None:
        assert stops(decide(desired(self.pod), prior(), seen(run("a", "unknown")), NOW)) == ["a"]


@pytest.mark.parametrize(
    ("deletion", "term", "expected"), [(5, 60, 5), (None, 60, 60), (None, None, 30), (0, 60, 60), (None, 0, 1)]
)
def test_the_grace_is_the_deletions_else_the_specs_and_at_least_a_second(
    deletion: int | None, term: int | None, expected: int
) -> None:
    fields: dict[str, Any] = {} if term is None else {"terminationGracePeriodSeconds": term}
    assert grace(desired(deleted(a_pod(**fields), deletion))) == expected


def test_the_same_is_decided_again_while_nothing_has_changed() -> None:
    known = Prior(status={"phase": "Running"})
    observed = seen(run("app", "exited", exit_code=1))
    assert decide(desired(), known, observed, NOW) == decide(desired(), known, observed, NOW)


EVICTED = Eviction("too much. ", 1.0)


def test_an_evicted_pods_containers_have_the_least_grace_whatever_their_own() -> None:
    pod = a_pod(terminationGracePeriodSeconds=300)
    assert decide(desired(pod), prior(eviction=EVICTED), seen(run()), NOW) == [StopContainer("app-0", "app", 2.0)]
    begun = prior(eviction=EVICTED, busy=frozenset({"stop:app-0"}), stopping={"app-0": NOW + 300})
    assert decide(desired(pod), begun, seen(run()), NOW) == [StopContainer("app-0", "app", 2.0)]
    soft = prior(eviction=Eviction("", 90.0))
    assert decide(desired(pod), soft, seen(run()), NOW) == [StopContainer("app-0", "app", 90.0)]
    assert decide(desired(), soft, seen(run()), NOW) == [StopContainer("app-0", "app", 30.0)]


def test_an_evicted_pod_is_not_started_again_and_is_torn_down() -> None:
    ended = seen(run(state="exited", exit_code=137))
    assert decide(desired(), prior(eviction=EVICTED), ended, NOW) == [TearDown(("s0",))]
    starting = prior(eviction=EVICTED, busy=frozenset({"start"}))
    assert decide(desired(), starting, seen(), NOW) == [CancelStarts()]
