"""What of a pod may change once it is there."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, container
from tests.unit.vkcri.apiserver.house import pod as house_pod
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


def rule(action: str, *codes: int) -> Object:
    return {"action": action, "exitCodes": {"operator": "In", "values": list(codes) or [42]}}


def changed(pod: Object, change: Callable[[Object], object]) -> Object:
    new = copy.deepcopy(pod)
    change(new)
    return new


ALLOWED: dict[str, Callable[[Object], object]] = {
    "image": lambda pod: pod["spec"]["containers"][0].update(image="other:1"),
    "labels": lambda pod: pod["metadata"].update(labels={"a": "b"}),
    "toleration added": lambda pod: pod["spec"]["tolerations"].append({"key": "x", "operator": "Exists"}),
    "toleration seconds": lambda pod: pod["spec"]["tolerations"][0].update(tolerationSeconds=5),
    "deadline set": lambda pod: pod["spec"].update(activeDeadlineSeconds=100),
}
REFUSED: dict[str, tuple[Callable[[Object], object], str]] = {
    "command": (lambda pod: pod["spec"]["containers"][0].update(command=["x"]), "pod updates may not change fields"),
    "grace": (lambda pod: pod["spec"].update(terminationGracePeriodSeconds=5), "pod updates may not change fields"),
    "node": (lambda pod: pod["spec"].update(nodeName="other"), "pod updates may not change fields"),
    "volume": (lambda pod: pod["spec"]["volumes"].append({"name": "v"}), "pod updates may not change fields"),
    "container added": (
        lambda pod: pod["spec"]["containers"].append(container(name="b")),
        "pod updates may not add or remove containers",
    ),
    "toleration removed": (
        lambda pod: pod["spec"].update(tolerations=[]),
        "spec.tolerations[0]: Forbidden: existing toleration can not be modified",
    ),
    "empty image": (lambda pod: pod["spec"]["containers"][0].update(image=""), "Required value"),
    "gate added": (
        lambda pod: pod["spec"].update(schedulingGates=[{"name": "a/b"}]),
        "only deletion is allowed, but found new scheduling gate 'a/b'",
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(house: House, name: str) -> None:
    pod = house.pod(nodeName="n1")
    new = changed(pod, ALLOWED[name])
    stored = house.update("/pods", new)
    assert stored["spec"] == new["spec"]
    assert stored["metadata"].get("labels") == new["metadata"].get("labels")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(house: House, name: str) -> None:
    pod = house.pod(nodeName="n1", tolerations=[{"key": "own", "operator": "Exists"}])
    change, text = REFUSED[name]
    with pytest.raises(StatusError) as caught:
        house.update("/pods", changed(pod, change))
    assert caught.value.code == 422
    assert text in caught.value.message
    assert house.get("/pods", "default", "p") == pod


MIRROR = "kubernetes.io/config.mirror"


@pytest.mark.parametrize("subresource", [None, "status"])
@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, {MIRROR: "hash"}, "may not add mirror pod annotation"),
        ({MIRROR: "hash"}, {MIRROR: "other"}, "may not remove or update mirror pod annotation"),
        ({MIRROR: "hash"}, {}, "may not remove or update mirror pod annotation"),
    ],
)
def test_a_pod_is_a_mirror_pod_of_one_static_pod_or_none_for_ever(
    house: House, before: Object, after: Object, text: str, subresource: str | None
) -> None:
    made = house_pod("p", nodeName="n1")
    made["metadata"]["annotations"] = before
    pod = house.create("/pods", made)
    with pytest.raises(StatusError) as caught:
        house.update(
            "/pods", changed(pod, lambda new: new["metadata"].update(annotations=after)), subresource=subresource
        )
    assert caught.value.code == 422
    assert caught.value.message.endswith(f"metadata.annotations[{MIRROR}]: Forbidden: {text}")
    other = changed(pod, lambda new: new["metadata"].setdefault("annotations", {}).update(note="mine"))
    assert house.update("/pods", other, subresource=subresource)["metadata"]["annotations"] == {
        **before,
        "note": "mine",
    }


def test_default_tolerations_that_are_removed_are_given_again(house: House) -> None:
    pod = house.pod(nodeName="n1")
    assert house.update("/pods", changed(pod, lambda new: new["spec"].update(tolerations=[]))) == pod


def test_a_deadline_may_come_nearer_and_never_go_away(house: House) -> None:
    pod = house.pod(activeDeadlineSeconds=100)
    house.update("/pods", changed(pod, lambda new: new["spec"].update(activeDeadlineSeconds=50)))
    for later in (60, None):
        with pytest.raises(StatusError) as caught:
            house.update(
                "/pods", changed(pod, lambda new, later=later: new["spec"].update(activeDeadlineSeconds=later))
            )
        assert "spec.activeDeadlineSeconds" in caught.value.message


def test_an_update_that_leaves_out_what_admission_wrote_keeps_it(house: House) -> None:
    pod = house.pod(nodeName="n1")

    def strip(new: Object) -> None:
        for field in ("priority", "preemptionPolicy", "serviceAccountName", "serviceAccount", "nodeName"):
            del new["spec"][field]

    assert house.update("/pods", changed(pod, strip)) == pod


def test_a_gated_pod_may_lose_its_gate_and_narrow_where_it_goes(house: House) -> None:
    pod = house.pod(schedulingGates=[{"name": "a/b"}])
    assert pod["status"]["conditions"][0]["reason"] == "SchedulingGated"

    def open_gate(new: Object) -> None:
        del new["spec"]["schedulingGates"]
        new["spec"]["nodeSelector"] = {"a": "b"}

    stored = house.update("/pods", changed(pod, open_gate))
    assert "schedulingGates" not in stored["spec"]


@pytest.mark.parametrize(
    ("policy", "exit_code", "allowed"),
    [("Always", 0, True), ("Never", 1, False), ("OnFailure", 0, False), ("OnFailure", 1, True)],
)
def test_a_status_brings_back_only_what_the_restart_policy_restarts(
    house: House, policy: str, exit_code: int, allowed: bool
) -> None:
    pod = house.pod(restartPolicy=policy, nodeName="n1")
    ended = {"name": "main", "state": {"terminated": {"exitCode": exit_code}}}
    pod["status"]["containerStatuses"] = [ended]
    house.update("/pods", pod, subresource="status")
    running = changed(pod, lambda new: new["status"]["containerStatuses"][0].update(state={"running": {}}))
    if allowed:
        house.update("/pods", running, subresource="status")
        return
    with pytest.raises(StatusError) as caught:
        house.update("/pods", running, subresource="status")
    assert "may not be transitioned to non-terminated state" in caught.value.message


@pytest.mark.parametrize(
    ("policy", "own", "code", "allowed"),
    [
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule("Restart")]}, 42, True),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule("Restart")]}, 1, False),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [rule("RestartAllContainers")]}, 1, True),
        ("Never", {"restartPolicy": "OnFailure"}, 1, True),
        ("Always", {"restartPolicy": "Never"}, 1, False),
    ],
)
@pytest.mark.parametrize("field", ["containers", "initContainers"])
def test_a_containers_own_policy_and_rules_say_it_too(
    house: House, field: str, policy: str, own: Object, code: int, allowed: bool
) -> None:
    container = {"name": "own", "image": "busybox:1", **own}
    spec = {"restartPolicy": policy, "nodeName": "n1"}
    pod = house.pod(**spec, **({field: [container]}))
    part = "containerStatuses" if field == "containers" else "initContainerStatuses"
    pod["status"][part] = [{"name": "own", "state": {"terminated": {"exitCode": code}}}]
    house.update("/pods", pod, subresource="status")
    waiting = changed(pod, lambda new: new["status"][part][0].update(state={"waiting": {}}))
    if allowed:
        house.update("/pods", waiting, subresource="status")
        return
    with pytest.raises(StatusError, match="may not be transitioned to non-terminated state"):
        house.update("/pods", waiting, subresource="status")
