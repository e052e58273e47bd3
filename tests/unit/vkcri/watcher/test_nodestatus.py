"""The Node's status: truthful conditions, and no patch without a reason."""

from typing import Any

import pytest

from vkcri.watcher.nodestatus import (
    ANNOTATION,
    Identity,
    Report,
    desired,
    labels,
    metadata_patch,
    new_node,
    status_patch,
    taint_cure,
)

TAINT = {"key": "k", "value": "cri", "effect": "NoSchedule"}
ME = Identity("n1", "id-1", "192.0.2.7", 10250, "amd64", TAINT, "v1.37.0-vkcri.0")
GOOD = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
VALUE: dict[str, Any] = {
    "capacity": {"cpu": "2", "memory": "24Gi", "pods": "110"},
    "allocatable": {"cpu": "2", "memory": "23Gi", "pods": "110"},
    "nodeInfo": {"machineID": "m", "kubeletVersion": "", "operatingSystem": "linux"},
    "conditions": [{"type": kind, "status": status, "reason": "R", "message": "m"} for kind, status in GOOD.items()],
    "images": [{"names": [f"i{n}"], "sizeBytes": n} for n in range(60)],
}
NOW = "2026-11-23T12:00:00Z"
LATER = "2026-11-23T12:04:00Z"


def fresh(value: dict[str, Any] | None = VALUE) -> Report:
    return Report(value, 1.0, 1.0)


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["type"]: item for item in status["conditions"]}


def test_the_providers_facts_and_our_addresses_make_the_status() -> None:
    status = desired(ME, fresh(), {}, NOW)
    assert status["capacity"] == VALUE["capacity"]
    assert status["nodeInfo"] == {"machineID": "m", "kubeletVersion": "v1.37.0-vkcri.0", "operatingSystem": "linux"}
    assert status["addresses"] == [
        {"type": "InternalIP", "address": "192.0.2.7"},
        {"type": "Hostname", "address": "n1"},
    ]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert {kind: item["status"] for kind, item in conditions(status).items()} == GOOD
    assert [image["sizeBytes"] for image in status["images"]] == list(range(59, 9, -1))


def test_what_the_provider_declares_and_what_log_server_does_are_declared_in_order() -> None:
    for declared in ([], ["Zeal", "Anything"], ["ExtendWebSocketsToKubelet"]):
        status = desired(ME, fresh({**VALUE, "declaredFeatures": declared}), {}, NOW)
        assert status["declaredFeatures"] == sorted({*declared, "ExtendWebSocketsToKubelet"})
    assert "declaredFeatures" not in desired(ME, Report(None, 0.0), {}, NOW)


def test_before_the_provider_speaks_a_new_node_is_not_ready_and_says_why() -> None:
    status = desired(ME, Report(None, 0.0), {}, NOW)
    ready = conditions(status)["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ProviderNotStarted")
    assert conditions(status)["MemoryPressure"]["status"] == "Unknown"
    assert "capacity" not in status


def test_a_restarted_watcher_waits_before_it_calls_a_ready_node_not_ready() -> None:
    held = desired(ME, fresh(), {}, NOW)
    young = desired(ME, Report(None, 39.0), held, LATER)
    assert status_patch(young, held, beat=False) == {}
    old = desired(ME, Report(None, 41.0), held, LATER)
    assert conditions(old)["Ready"]["status"] == "False"
    patch = status_patch(old, held, beat=False)
    assert "capacity" not in patch


@pytest.mark.parametrize(
    ("report", "reason"),
    [(Report(VALUE, 40.5, 1.0), "ProviderSilent"), (Report(VALUE, 1.0, 181.0), "RuntimeNotRead")],
)
def test_a_silent_provider_or_an_unread_runtime_is_not_ready(report: Report, reason: str) -> None:
    held = desired(ME, fresh(), {}, NOW)
    ready = conditions(desired(ME, report, held, LATER))["Ready"]
    assert (ready["status"], ready["reason"], ready["lastTransitionTime"]) == ("False", reason, LATER)


def test_the_providers_own_not_ready_is_told_as_it_is() -> None:
    told = [{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized"}]
    ready = conditions(desired(ME, fresh({**VALUE, "conditions": told}), {}, NOW))["Ready"]
    assert (ready["status"], ready["message"]) == ("False", "cni plugin not initialized")


def test_a_condition_keeps_its_transition_time_and_heartbeats_are_no_change() -> None:
    held = desired(ME, fresh(), {}, NOW)
    status = desired(ME, fresh(), held, LATER)
    assert conditions(status)["Ready"]["lastTransitionTime"] == NOW
    assert conditions(status)["Ready"]["lastHeartbeatTime"] == LATER
    assert status_patch(status, held, beat=False) == {}


def test_a_due_heartbeat_sends_all_four_conditions_and_nothing_else() -> None:
    held = desired(ME, fresh(), {}, NOW)
    patch = status_patch(desired(ME, fresh(), held, LATER), held, beat=True)
    assert list(patch) == ["conditions"]
    assert {item["lastHeartbeatTime"] for item in patch["conditions"]} == {LATER}
    assert len(patch["conditions"]) == 4


def test_a_vanished_resource_is_removed_and_a_changed_one_changed() -> None:
    held = desired(ME, fresh(), {}, NOW)
    held["capacity"] = {**held["capacity"], "hugepages-2Mi": "1Gi", "cpu": "4"}
    assert status_patch(desired(ME, fresh(), held, NOW), held, beat=False)["capacity"] == {
        "cpu": "2",
        "hugepages-2Mi": None,
    }


def test_extended_resources_that_others_advertise_stay_and_become_allocatable() -> None:
    held = desired(ME, fresh(), {}, NOW)
    held["capacity"] = {**held["capacity"], "example.com/gpu": "3"}
    patch = status_patch(desired(ME, fresh(), held, NOW), held, beat=False)
    assert "capacity" not in patch
    assert patch["allocatable"] == {"example.com/gpu": "3"}
    held["allocatable"] = {**held["allocatable"], "example.com/gpu": "3"}
    del held["capacity"]["example.com/gpu"]  # by whoever advertised it
    assert status_patch(desired(ME, fresh(), held, NOW), held, beat=False)["allocatable"] == {"example.com/gpu": None}


def test_a_fact_that_is_no_longer_true_is_removed() -> None:
    held = desired(ME, fresh(), {}, NOW)
    held["nodeInfo"] = {**held["nodeInfo"], "swap": {"capacity": 1}, "kubeProxyVersion": ""}
    assert status_patch(desired(ME, fresh(), held, NOW), held, beat=False) == {
        "nodeInfo": {"swap": None},
        "conditions": held["conditions"],
    }


def test_what_an_old_server_does_not_keep_is_sent_with_heartbeats_only() -> None:
    held = desired(ME, fresh(), {}, NOW)
    wanted = desired(ME, fresh({**VALUE, "features": {"new": True}}), held, NOW)
    unkept = frozenset({"features"})
    assert status_patch(wanted, held, beat=False, unkept=unkept) == {}
    assert status_patch(wanted, held, beat=True, unkept=unkept)["features"] == {"new": True}


def test_a_new_address_replaces_ours_and_keeps_those_of_others() -> None:
    held = desired(ME, fresh(), {}, NOW)
    held["addresses"] = [
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "Hostname", "address": "n1"},
        {"type": "ExternalIP", "address": "198.51.100.1"},
    ]
    assert status_patch(desired(ME, fresh(), held, NOW), held, beat=False)["addresses"] == [
        {"type": "InternalIP", "address": "192.0.2.7"},
        {"type": "Hostname", "address": "n1"},
        {"type": "ExternalIP", "address": "198.51.100.1"},
        {"$patch": "replace"},
    ]


def test_the_control_planes_unknown_is_corrected() -> None:
    held = desired(ME, fresh(), {}, NOW)
    conditions(held)["Ready"].update(status="Unknown", reason="NodeStatusUnknown")
    patch = status_patch(desired(ME, fresh(), held, LATER), held, beat=False)
    assert conditions(patch)["Ready"]["status"] == "True"
    assert conditions(patch)["Ready"]["lastTransitionTime"] == LATER


def test_conditions_of_others_are_not_sent() -> None:
    held = desired(ME, fresh(), {}, NOW)
    held["conditions"].append({"type": "NetworkUnavailable", "status": "False"})
    patch = status_patch(desired(ME, fresh(), held, LATER), held, beat=True)
    assert set(conditions(patch)) == set(GOOD)


def test_a_new_node_has_the_kubelets_labels_our_annotation_and_the_taint() -> None:
    node = new_node(ME, {"x": 1})
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
    assert node["metadata"]["annotations"] == {ANNOTATION: "id-1"}
    assert node["spec"] == {"taints": [TAINT]}


def test_labels_that_are_there_are_left_alone_and_missing_ones_added() -> None:
    node = {"metadata": {"labels": {**labels(ME), "mine": "x"}, "annotations": {ANNOTATION: "id-1", "other": "y"}}}
    assert metadata_patch(ME, node) == {}
    del node["metadata"]["labels"]["kubernetes.io/os"]
    assert metadata_patch(ME, node) == {"labels": {"kubernetes.io/os": "linux"}}


@pytest.mark.parametrize(
    ("taint", "held", "cure"),
    [
        (TAINT, [TAINT], None),
        (TAINT, [], "kubectl taint nodes n1 --overwrite k=cri:NoSchedule"),
        (TAINT, [{**TAINT, "value": "old"}], "kubectl taint nodes n1 --overwrite k=cri:NoSchedule"),
        (None, [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}], None),
        (None, [TAINT, {**TAINT, "effect": "NoExecute"}], "kubectl taint nodes n1 k:NoSchedule- k:NoExecute-"),
    ],
)
def test_a_taint_that_differs_is_cured_by_a_person(
    taint: dict[str, str] | None, held: list[dict[str, str]], cure: str | None
) -> None:
    me = Identity("n1", "id-1", "192.0.2.7", 10250, "amd64", taint, "v", "k")
    assert taint_cure(me, {"spec": {"taints": held}}) == cure
