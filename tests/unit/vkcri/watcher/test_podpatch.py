"""What a report changes at the API server, and above all what it does not."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.watcher.podpatch import plain, status_patch

READY = {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-11-23T10:00:00Z"}
GATE = {"type": "example.com/gate", "status": "True", "lastTransitionTime": "2026-11-23T09:00:00Z"}
RUNNING = {
    "phase": "Running",
    "conditions": [READY],
    "hostIP": "10.0.0.1",
    "podIP": "10.244.0.5",
    "podIPs": [{"ip": "10.244.0.5"}],
    "startTime": "2026-11-23T09:59:00Z",
    "qosClass": "BestEffort",
    "containerStatuses": [
        {"name": "a", "ready": True, "restartCount": 0, "lastState": {}, "image": "x", "imageID": ""}
    ],
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(RUNNING), **fields}


def test_everything_is_reported_already_so_nothing_is_patched() -> None:
    assert status_patch(RUNNING, RUNNING) == {}


def test_what_go_leaves_out_is_no_difference() -> None:
    reported = changed(reason="", message="", initContainerStatuses=[], resize="")
    reported["containerStatuses"][0] |= {"lastState": {}, "volumeMounts": [{"name": "v", "readOnly": False}]}
    base = changed()
    base["containerStatuses"][0] |= {"volumeMounts": [{"name": "v"}]}
    assert status_patch(base, reported) == {}


def test_a_new_phase_and_its_containers_are_patched_and_no_more() -> None:
    containers = [{"name": "a", "ready": False, "restartCount": 1}]
    patch = status_patch(RUNNING, changed(phase="Succeeded", containerStatuses=containers))
    assert patch == {"phase": "Succeeded", "containerStatuses": containers}


@pytest.mark.parametrize("final", ["Succeeded", "Failed"])
@pytest.mark.parametrize("reported", ["Pending", "Running", "Succeeded", "Failed"])
def test_a_terminal_phase_is_final(final: str, reported: str) -> None:
    base = changed(phase=final, reason="Evicted", message="by somebody")
    patch = status_patch(base, changed(phase=reported, reason="Other", containerStatuses=[{"name": "a"}]))
    assert "phase" not in patch
    if reported != final:
        assert patch == {"containerStatuses": [{"name": "a"}]}


def test_conditions_of_others_are_never_touched() -> None:
    base = changed(conditions=[READY, GATE, {"type": "DisruptionTarget", "status": "True", "reason": "Theirs"}])
    stale = [READY, {**GATE, "status": "False"}, {"type": "DisruptionTarget", "status": "True", "reason": "Ours"}]
    assert status_patch(base, changed(conditions=stale)) == {}
    assert status_patch(base, changed(conditions=[READY])) == {}
    assert status_patch(RUNNING, changed(conditions=[READY, GATE])) == {}


def test_our_own_disruption_is_told() -> None:
    ours = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    assert status_patch(RUNNING, changed(conditions=[READY, ours])) == {"conditions": [ours]}


def test_a_condition_keeps_its_transition_time_while_its_status_is_the_same() -> None:
    later = {**READY, "lastTransitionTime": "2026-11-23T11:00:00Z"}
    assert status_patch(RUNNING, changed(conditions=[later])) == {}
    [patched] = status_patch(RUNNING, changed(conditions=[{**later, "reason": "R"}]))["conditions"]
    assert patched["lastTransitionTime"] == READY["lastTransitionTime"]
    [patched] = status_patch(RUNNING, changed(conditions=[{**later, "status": "False"}]))["conditions"]
    assert patched["lastTransitionTime"] == later["lastTransitionTime"]


def test_a_conditions_vanished_fields_are_cleared() -> None:
    base = changed(conditions=[{**READY, "status": "False", "reason": "ContainersNotReady", "message": "a"}])
    [patched] = status_patch(base, RUNNING)["conditions"]
    assert patched["reason"] is None
    assert patched["message"] is None
    assert patched["status"] == "True"


def test_a_vanished_condition_of_ours_is_deleted_and_the_schedulers_is_not() -> None:
    base = changed(conditions=[READY, {"type": "PodResizePending", "status": "True"}, {"type": "PodScheduled"}])
    assert status_patch(base, RUNNING) == {"conditions": [{"$patch": "delete", "type": "PodResizePending"}]}


def test_addresses_replace_the_old_ones_instead_of_merging_with_them() -> None:
    patch = status_patch(RUNNING, changed(podIP="10.244.0.9", podIPs=[{"ip": "10.244.0.9"}]))
    assert patch == {"podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}, {"$patch": "replace"}]}


def test_what_is_gone_is_cleared_and_what_is_unknown_stays() -> None:
    base = changed(reason="Waiting", message="for a node", nominatedNodeName="x", resourceClaimStatuses=[{"name": "c"}])
    reported = {key: value for key, value in RUNNING.items() if key not in ("podIP", "podIPs", "hostIP")}
    assert status_patch(base, reported) == {"message": None, "reason": None, "podIP": None, "podIPs": None}


def test_start_time_and_qos_class_stay_as_they_were_first_set() -> None:
    assert status_patch(RUNNING, changed(startTime="2026-11-23T12:00:00Z", qosClass="Burstable")) == {}
    assert status_patch({}, {"startTime": "t", "qosClass": "Burstable"}) == {"startTime": "t", "qosClass": "Burstable"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "signal"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_fields = st.sampled_from(
    ["phase", "message", "containerStatuses", "startTime", "podIP", "resize", "observedGeneration"]
)
_statuses = st.dictionaries(_fields, _json, max_size=5)


@given(_statuses, _statuses)
def test_once_the_patch_is_applied_no_other_follows(base: dict[str, Any], reported: dict[str, Any]) -> None:
    patch = status_patch(base, reported)
    applied = {key: value for key, value in {**base, **patch}.items() if value is not None}
    assert status_patch(applied, reported) == {}


@given(_json)
def test_a_plain_value_is_its_own_plain_value(value: Any) -> None:
    assert plain(plain(value)) == plain(value)


def test_a_resize_condition_is_dated_by_its_reason() -> None:
    held = {
        "type": "PodResizePending",
        "status": "True",
        "reason": "Deferred",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    told = {**held, "reason": "Infeasible", "lastTransitionTime": "2026-01-02T00:00:00Z"}
    assert status_patch({"conditions": [held]}, {"conditions": [told]})["conditions"] == [told]
    assert status_patch({"conditions": [held]}, {"conditions": []})["conditions"] == [
        {"$patch": "delete", "type": "PodResizePending"}
    ]


def test_what_vanishes_inside_of_an_object_is_taken_away() -> None:
    """A merge keeps what a patch does not name."""
    base = changed(resources={"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}})
    patch = status_patch(base, changed(resources={"limits": {"cpu": "1"}}))
    assert patch == {"resources": {"limits": {"cpu": "1", "memory": None}, "requests": None}}
