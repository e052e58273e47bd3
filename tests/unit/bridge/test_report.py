"""The PodStatus that report makes of what is known: phase, conditions, container states, and what is carried over."""

from typing import Any, ClassVar

import pytest

from bridge import preemption
from bridge.actions import Eviction, Probed, Problem
from bridge.report import LOST_DELETED, LOST_TERMINATED, finished, rejected, report
from tests.unit.bridge.building import (
    NANO,
    NOW,
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

STAMP = "2027-01-15T08:00:00Z"
BEFORE = "2027-01-15T07:00:00Z"


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [item for item in status["conditions"] if item["type"] == kind]
    return dict(found)


def state(status: dict[str, Any], field: str = "containerStatuses", index: int = 0) -> tuple[str, dict[str, Any]]:
    ((kind, detail),) = status[field][index]["state"].items()
    return kind, detail


def test_a_new_pod_is_pending_with_its_containers_creating() -> None:
    status = report(desired(), prior(), seen(boxes=()), NOW)
    assert status["phase"] == "Pending"
    assert status["startTime"] == STAMP
    assert status["qosClass"] == "BestEffort"
    assert (status["hostIP"], status["hostIPs"]) == ("192.0.2.1", [{"ip": "192.0.2.1"}])
    assert "podIP" not in status
    assert status["containerStatuses"] == [
        {
            "name": "app",
            "state": {"waiting": {"reason": "ContainerCreating"}},
            "lastState": {},
            "ready": False,
            "restartCount": 0,
            "image": "shell",
            "imageID": "",
            "started": False,
        }
    ]
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    ready = condition(status, "Ready")
    assert (ready["reason"], ready["message"]) == ("ContainersNotReady", "containers with unready status: [app]")
    sandbox = condition(status, "PodReadyToStartContainers")
    assert (sandbox["reason"], sandbox["message"]) == ("PodSandboxNotReady", "no pod sandbox exists")


def test_a_running_pod_is_ready() -> None:
    status = report(desired(), prior(), seen(run()), NOW)
    assert status["phase"] == "Running"
    assert (status["podIP"], status["podIPs"]) == ("10.0.0.9", [{"ip": "10.0.0.9"}])
    assert state(status) == ("running", {"startedAt": "2027-01-15T07:58:20Z"})
    assert {item["status"] for item in status["conditions"]} == {"True"}
    found = status["containerStatuses"][0]
    assert (found["containerID"], found["imageID"]) == ("containerd://app-0", "sha256:1")
    assert (found["ready"], found["started"]) == (True, True)


def test_a_pod_of_the_nodes_network_has_the_nodes_addresses() -> None:
    status = report(desired(a_pod(hostNetwork=True)), prior(), seen(boxes=(box(ips=(), host_network=True),)), NOW)
    assert (status["podIP"], status["podIPs"]) == ("192.0.2.1", [{"ip": "192.0.2.1"}])


def test_statuses_are_sorted_by_name_and_init_containers_by_the_spec() -> None:
    pod = a_pod(spec("b"), spec("a"), initContainers=[spec("z"), spec("y")])
    status = report(desired(pod), prior(), seen(), NOW)
    assert [item["name"] for item in status["containerStatuses"]] == ["a", "b"]
    assert [item["name"] for item in status["initContainerStatuses"]] == ["z", "y"]


class TestInitPhase:
    pod = a_pod(initContainers=[spec("one"), spec("two")])

    def test_shows_what_is_incomplete(self) -> None:
        status = report(desired(self.pod), prior(), seen(run("one")), NOW)
        assert status["phase"] == "Pending"
        assert state(status) == ("waiting", {"reason": "PodInitializing"})
        found = condition(status, "Initialized")
        assert (found["status"], found["reason"]) == ("False", "ContainersNotInitialized")
        assert found["message"] == "containers with incomplete status: [one two]"

    def test_is_over_when_all_have_succeeded(self) -> None:
        status = report(desired(self.pod), prior(), seen(run("two", "exited"), run("one", "exited")), NOW)
        assert condition(status, "Initialized")["status"] == "True"
        assert [item["ready"] for item in status["initContainerStatuses"]] == [True, True]
        assert status["phase"] == "Pending"

    def test_a_sidecar_counts_for_readiness(self) -> None:
        pod = a_pod(initContainers=[spec("car", restartPolicy="Always")])
        pod["spec"]["initContainers"][0]["readinessProbe"] = {"exec": {}}
        status = report(desired(pod), prior(), seen(run(), run("car")), NOW)
        assert status["phase"] == "Running"
        assert condition(status, "ContainersReady")["message"] == "containers with unready status: [car]"
        assert condition(status, "Initialized")["status"] == "True"

    def test_a_sidecar_that_has_not_started_keeps_the_pod_pending(self) -> None:
        pod = a_pod(initContainers=[spec("car", restartPolicy="Always", startupProbe={"exec": {}})])
        status = report(desired(pod), prior(), seen(run("car")), NOW)
        assert status["phase"] == "Pending"
        assert condition(status, "Initialized")["message"] == "containers with incomplete status: [car]"


class TestPhase:
    @pytest.mark.parametrize(
        ("policy", "codes", "phase"),
        [
            ("Never", (0, 0), "Succeeded"),
            ("Never", (0, 1), "Failed"),
            ("OnFailure", (0, 0), "Succeeded"),
            ("OnFailure", (0, 1), "Running"),
            ("Always", (0, 0), "Running"),
        ],
    )
    def test_of_a_pod_whose_containers_have_ended(self, policy: str, codes: tuple[int, int], phase: str) -> None:
        pod = a_pod(spec("a"), spec("b"), restartPolicy=policy)
        observed = seen(run("a", "exited", exit_code=codes[0]), run("b", "exited", exit_code=codes[1]))
        assert report(desired(pod), prior(), observed, NOW)["phase"] == phase

    def test_is_running_as_long_as_one_runs(self) -> None:
        pod = a_pod(spec("a"), spec("b"), restartPolicy="Never")
        assert report(desired(pod), prior(), seen(run("a", "exited"), run("b")), NOW)["phase"] == "Running"

    def test_is_pending_until_all_have_started_once(self) -> None:
        pod = a_pod(spec("a"), spec("b"))
        assert report(desired(pod), prior(), seen(run("a")), NOW)["phase"] == "Pending"

    def test_is_terminal_only_once_nothing_runs(self) -> None:
        pod = a_pod(initContainers=[spec("car", restartPolicy="Always")], restartPolicy="Never")
        known = prior(status={"phase": "Running"})
        assert report(desired(pod), known, seen(run("app", "exited"), run("car")), NOW)["phase"] == "Running"
        ended = seen(run("app", "exited"), run("car", "exited"))
        assert report(desired(pod), known, ended, NOW)["phase"] == "Succeeded"

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_is_never_left_once_terminal(self, phase: str) -> None:
        assert report(desired(), prior(status={"phase": phase}), seen(run()), NOW)["phase"] == phase
        pod = {**a_pod(), "status": {"phase": phase}}
        assert report(desired(pod), prior(), seen(boxes=()), NOW)["phase"] == phase

    def test_of_a_pod_deleted_before_it_ran_is_failed(self) -> None:
        status = report(desired(deleted(a_pod())), prior(), seen(), NOW)
        assert status["phase"] == "Failed"
        assert state(status)[1]["message"] == LOST_TERMINATED

    def test_a_deadline_is_the_reason_once_nothing_runs(self) -> None:
        pod = a_pod(activeDeadlineSeconds=5)
        known = prior(status={"startTime": BEFORE, "phase": "Running"})
        assert report(desired(pod), known, seen(run()), NOW)["phase"] == "Running"
        status = report(desired(pod), known, seen(run(state="exited", exit_code=0)), NOW)
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


class TestEndedContainers:
    def test_completed(self) -> None:
        kind, ended = state(report(desired(a_pod(restartPolicy="Never")), prior(), seen(run(state="exited")), NOW))
        assert kind == "terminated"
        assert ended == {
            "exitCode": 0,
            "reason": "Completed",
            "startedAt": "2027-01-15T07:58:20Z",
            "finishedAt": "2027-01-15T07:58:30Z",
            "containerID": "containerd://app-0",
        }

    @pytest.mark.parametrize(
        ("reason", "code", "shown"),
        [
            ("", 1, "Error"),
            ("", 0, "Completed"),
            ("OOMKilled", 137, "OOMKilled"),
            ("StartError", 128, "StartError"),
            ("ContainerCannotRun", 127, "ContainerCannotRun"),
        ],
    )
    def test_the_reason_is_the_runtimes(self, reason: str, code: int, shown: str) -> None:
        observed = seen(run(state="exited", exit_code=code, reason=reason))
        assert state(report(desired(), prior(), observed, NOW))[1]["reason"] == shown

    def test_a_waiting_restart_shows_the_end_as_the_last_state(self) -> None:
        known = prior(problems={"app": Problem("CrashLoopBackOff", "back-off 10s")})
        status = report(desired(), known, seen(run(state="exited", exit_code=2, count=1)), NOW)
        assert state(status) == ("waiting", {"reason": "CrashLoopBackOff", "message": "back-off 10s"})
        assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 2
        assert status["phase"] == "Running"

    def test_what_will_not_restart_shows_its_end_whatever_the_problem_was(self) -> None:
        known = prior(problems={"app": Problem("RunContainerError", "no such file")})
        pod = a_pod(restartPolicy="Never")
        observed = seen(run(state="exited", exit_code=128, reason="StartError"))
        assert state(report(desired(pod), known, observed, NOW))[0] == "terminated"

    def test_the_run_before_is_the_last_state(self) -> None:
        observed = seen(run(count=1), run(state="exited", count=0, exit_code=3))
        found = report(desired(), prior(), observed, NOW)["containerStatuses"][0]
        assert (found["restartCount"], found["lastState"]["terminated"]["exitCode"]) == (1, 3)

    def test_a_last_state_that_the_runtime_has_forgotten_is_kept(self) -> None:
        last = {"terminated": {"exitCode": 9}}
        known = {"containerStatuses": [{**container_status(count=1, running={}), "lastState": last}]}
        found = report(desired(), prior(status=known), seen(run(count=1)), NOW)["containerStatuses"][0]
        assert found["lastState"] == last

    def test_messages_of_a_pod_share_twelve_kibibytes(self) -> None:
        containers = [spec(f"c{number}") for number in range(4)]
        observed = seen(*(run(item["name"], "exited", message="é" * 3000) for item in containers))
        status = report(desired(a_pod(*containers)), prior(), observed, NOW)
        lengths = [len(item["state"]["terminated"]["message"].encode()) for item in status["containerStatuses"]]
        assert lengths == [3072] * 4


class TestLostContainers:
    known = prior(status={"phase": "Running", "containerStatuses": [container_status(count=2, running={})]})

    def test_are_unknown_where_they_do_not_restart(self) -> None:
        status = report(desired(a_pod(restartPolicy="Never")), self.known, seen(boxes=()), NOW)
        kind, ended = state(status)
        assert (kind, ended["reason"], ended["exitCode"]) == ("terminated", "ContainerStatusUnknown", 137)
        assert status["phase"] == "Failed"

    def test_wait_for_their_next_run_where_they_do(self) -> None:
        status = report(desired(), self.known, seen(boxes=()), NOW)
        assert state(status) == ("waiting", {"reason": "ContainerCreating"})
        found = status["containerStatuses"][0]
        assert found["lastState"]["terminated"]["message"] == LOST_DELETED
        assert found["restartCount"] == 2
        assert status["phase"] == "Running"

    def test_one_that_succeeded_stays_so(self) -> None:
        ended = container_status(terminated={"exitCode": 0, "reason": "Completed"})
        known = prior(status={"phase": "Succeeded", "containerStatuses": [ended]})
        status = report(desired(a_pod(restartPolicy="Never")), known, seen(boxes=()), NOW)
        assert state(status) == ("terminated", {"exitCode": 0, "reason": "Completed"})
        assert status["containerStatuses"][0]["containerID"] == "containerd://x"
        assert status["phase"] == "Succeeded"


class TestConditions:
    def test_a_transition_time_is_kept_as_long_as_the_status_is(self) -> None:
        before = [
            {"type": "Ready", "status": "True", "lastTransitionTime": BEFORE},
            {"type": "ContainersReady", "status": "False", "lastTransitionTime": BEFORE},
        ]
        status = report(desired(), prior(status={"conditions": before}), seen(run()), NOW)
        assert condition(status, "Ready")["lastTransitionTime"] == BEFORE
        assert condition(status, "ContainersReady")["lastTransitionTime"] == STAMP

    def test_those_of_others_are_kept(self) -> None:
        foreign = {"type": "example.com/gate", "status": "True", "lastTransitionTime": BEFORE}
        pod = {**a_pod(), "status": {"conditions": [foreign]}}
        assert condition(report(desired(pod), prior(), seen(run()), NOW), "example.com/gate") == foreign

    def test_a_readiness_gate_holds_ready_back(self) -> None:
        pod = a_pod(readinessGates=[{"conditionType": "example.com/gate"}])
        found = condition(report(desired(pod), prior(), seen(run()), NOW), "Ready")
        assert (found["status"], found["reason"]) == ("False", "ReadinessGatesNotReady")
        assert found["message"] == 'corresponding condition of pod readiness gate "example.com/gate" does not exist.'
        pod["status"] = {"conditions": [{"type": "example.com/gate", "status": "False"}]}
        found = condition(report(desired(pod), prior(), seen(run()), NOW), "Ready")
        assert found["message"] == 'the status of pod readiness gate "example.com/gate" is not "True", but False'

    def test_an_ended_pod_is_not_ready(self) -> None:
        for code, reason in ((0, "PodCompleted"), (1, "PodFailed")):
            observed = seen(run(state="exited", exit_code=code))
            status = report(desired(a_pod(restartPolicy="Never")), prior(), observed, NOW)
            assert condition(status, "Ready")["reason"] == reason
        assert condition(status, "Initialized")["status"] == "True"

    def test_generation_is_observed_where_there_is_one(self) -> None:
        pod = a_pod()
        pod["metadata"]["generation"] = 7
        status = report(desired(pod), prior(), seen(run()), NOW)
        assert status["observedGeneration"] == 7
        assert {item["observedGeneration"] for item in status["conditions"]} == {7}

    def test_a_container_that_is_not_ready_or_not_started_is_said(self) -> None:
        pod = a_pod(spec(readinessProbe={"exec": {}}))
        status = report(desired(pod), prior(), seen(run()), NOW)
        assert condition(status, "Ready")["message"] == "containers with unready status: [app]"
        pod = a_pod(spec(startupProbe={"exec": {}}))
        status = report(desired(pod), prior(), seen(run()), NOW)
        assert [status["containerStatuses"][0][key] for key in ("started", "ready")] == [False, False]
        assert status["phase"] == "Running"


class TestProbes:
    pod = a_pod(spec(startupProbe={"exec": {}}, readinessProbe={"exec": {}}, livenessProbe={"exec": {}}))

    @pytest.mark.parametrize(
        ("said", "started", "ready"),
        [
            (Probed(), False, False),
            (Probed(startup=False), False, False),
            (Probed(startup=True), True, False),
            (Probed(startup=True, readiness=False), True, False),
            (Probed(startup=True, readiness=True), True, True),
            (Probed(startup=True, readiness=True, liveness=False), True, True),
            (Probed(readiness=True), False, False),
        ],
    )
    def test_results_become_started_and_ready(self, said: Probed, started: bool, ready: bool) -> None:
        status = report(desired(self.pod), prior(probed={"app-0": said}), seen(run()), NOW)
        shown = status["containerStatuses"][0]
        assert (shown["started"], shown["ready"]) == (started, ready)
        for kind in ("Ready", "ContainersReady"):
            assert condition(status, kind)["status"] == str(ready)

    def test_what_was_reported_of_this_very_run_stands_until_a_probe_says_something(self) -> None:
        good = prior(probed={"app-0": Probed(startup=True, readiness=True)})
        known = report(desired(self.pod), good, seen(run()), NOW)
        again = report(desired(self.pod), prior(status=known), seen(run()), NOW)
        assert again["containerStatuses"][0]["ready"]
        failed = prior(status=known, probed={"app-0": Probed(readiness=False)})
        assert not report(desired(self.pod), failed, seen(run()), NOW)["containerStatuses"][0]["ready"]
        other = report(desired(self.pod), prior(status=known), seen(run(count=1)), NOW)["containerStatuses"][0]
        assert (other["started"], other["ready"]) == (False, False)

    def test_a_container_that_has_ended_is_not_ready_whatever_its_probes_said(self) -> None:
        good = prior(probed={"app-0": Probed(startup=True, readiness=True)})
        shown = report(desired(self.pod), good, seen(run(state="exited")), NOW)["containerStatuses"][0]
        assert (shown["started"], shown["ready"]) == (False, False)

    def test_readiness_goes_on_while_the_pod_ends(self) -> None:
        known = prior(probed={"app-0": Probed(startup=True, readiness=False)})
        status = report(desired(deleted(self.pod)), known, seen(run()), NOW)
        assert condition(status, "Ready")["status"] == "False"


def test_a_problem_of_the_pod_as_a_whole_is_its_reason() -> None:
    known = prior(problems={"": Problem("InternalError", "KeyError: 'x'")})
    status = report(desired(), known, seen(run()), NOW)
    assert (status["reason"], status["message"]) == ("InternalError", "KeyError: 'x'")
    assert "reason" not in report(desired(), prior(status=status), seen(run()), NOW)


def test_mounts_and_resources_are_shown() -> None:
    mount = {"name": "v", "mountPath": "/v", "readOnly": True}
    resources = {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}
    status = report(desired(a_pod(spec(volumeMounts=[mount], resources=resources))), prior(), seen(run()), NOW)
    found = status["containerStatuses"][0]
    assert found["volumeMounts"] == [{**mount, "recursiveReadOnly": "Disabled"}]
    assert (found["resources"], found["allocatedResources"]) == (resources, {"memory": "1Gi"})
    assert status["qosClass"] == "Burstable"


def test_a_refused_pod_is_failed_with_the_reason() -> None:
    status = rejected(desired(), prior(), "OutOfcpu", "Node didn't have enough resource: cpu", NOW)
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["message"] == "Pod was rejected: Node didn't have enough resource: cpu"
    assert "containerStatuses" not in status


class TestFinished:
    status: ClassVar[dict[str, Any]] = {"phase": "Failed"}

    def test_once_nothing_is_left(self) -> None:
        observed = seen(run(state="exited"), boxes=(box(ready=False),))
        assert finished(desired(deleted(a_pod())), prior(down=True), observed, {})
        assert finished(desired(), prior(down=True), observed, self.status)

    def test_not_before(self) -> None:
        ending = desired(deleted(a_pod()))
        gone = seen(run(state="exited"), boxes=(box(ready=False),))
        assert not finished(ending, prior(down=False), gone, self.status)
        assert not finished(ending, prior(down=True), seen(run()), self.status)
        assert not finished(ending, prior(down=True), seen(run(state="exited")), self.status)
        assert not finished(ending, prior(down=True, busy=frozenset({"start"})), gone, self.status)
        assert not finished(desired(), prior(down=True), gone, {"phase": "Running"})


def test_reporting_again_changes_nothing() -> None:
    observed = seen(run("app", "exited", count=1, exit_code=1), run("app", "exited", count=0))
    first = report(desired(), prior(), observed, NOW)
    assert report(desired(), prior(status=first), observed, NOW + 100) == first
    assert first["startTime"] == STAMP
    assert NANO == 10**9


def test_an_evicted_pod_fails_with_the_reason_once_nothing_of_it_runs() -> None:
    going = prior(eviction=Eviction("too much. ", 1.0), status={"phase": "Running"})
    status = report(desired(), going, seen(run()), NOW)
    assert (status["phase"], status.get("reason")) == ("Running", None)
    ended = report(desired(), going, seen(run(state="exited", exit_code=137)), NOW)
    assert (ended["phase"], ended["reason"], ended["message"]) == ("Failed", "Evicted", "too much. ")
    assert state(ended)[1]["exitCode"] == 137
    assert condition(ended, "Ready")["reason"] == "PodFailed"
    assert not any(item["type"] == "DisruptionTarget" for item in ended["conditions"])


def test_an_eviction_wins_over_an_end_by_itself() -> None:
    pod = a_pod(restartPolicy="Never")
    status = report(desired(pod), prior(eviction=Eviction("m", 1.0)), seen(run(state="exited")), NOW)
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")


def test_a_pod_evicted_for_the_nodes_sake_is_a_disruption_target_unless_it_was_one() -> None:
    evicted = prior(eviction=Eviction("low. ", 1.0, disrupts=True), status={"phase": "Running"})
    assert not any(
        item["type"] == "DisruptionTarget" for item in report(desired(), evicted, seen(run()), NOW)["conditions"]
    )
    ended = seen(run(state="exited", exit_code=137))
    status = report(desired(), evicted, ended, NOW)
    assert condition(status, "DisruptionTarget") == {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": "low. ",
        "lastProbeTime": None,
        "lastTransitionTime": STAMP,
    }
    theirs = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    pod = {**a_pod(), "status": {"conditions": [theirs]}}
    assert condition(report(desired(pod), evicted, ended, NOW), "DisruptionTarget") == theirs


def test_a_preempted_pod_has_the_reason_and_the_condition_its_own_words() -> None:
    words = Eviction(preemption.MESSAGE, 1.0, disrupts=True, reason="Preempting", disruption=preemption.DISRUPTION)
    status = report(desired(), prior(eviction=words), seen(run(state="exited", exit_code=137)), NOW)
    assert (status["phase"], status["reason"]) == ("Failed", "Preempting")
    assert status["message"] == "Preempted in order to admit critical pod"
    told = condition(status, "DisruptionTarget")
    assert told["message"] == "Pod was preempted by Kubelet to accommodate a critical pod."
