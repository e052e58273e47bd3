"""What kubectl get shows: the words and columns that people know from a real API server."""

from typing import Any

import pytest

from vkcri.apiserver import table
from vkcri.apiserver.cells import duration
from vkcri.apiserver.resources import RESOURCES, Resource, by_key
from vkcri.apiserver.status import StatusError

NOW = 1_795_000_000.0  # 2026-11-18T...
CREATED = "2026-11-18T10:00:00Z"
PODS = by_key("/pods")


def cells(key: str, obj: dict[str, Any], now: float = NOW) -> dict[str, Any]:
    """One object's row by column name."""
    obj.setdefault("metadata", {"name": "x", "creationTimestamp": None})
    shown = table.table(by_key(key), [obj], "v1", now=now)
    return dict(zip([item["name"] for item in shown["columnDefinitions"]], shown["rows"][0]["cells"], strict=True))


def pod(status: dict[str, Any], *, containers: int = 1, **more: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": f"c{index}"} for index in range(containers)], **more.pop("spec", {})}
    return {"metadata": {"name": "p", **more}, "spec": spec, "status": status}


def state(name: str = "c0", *, restarts: int = 0, ready: bool = False, last: Any = None, **now: Any) -> dict[str, Any]:
    return {"name": name, "restartCount": restarts, "ready": ready, "state": now, "lastState": last or {}}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (73 * 3600, "3d1h"),
        (8 * 86400 + 3600, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (761 * 86400, "2y31d"),
        (3000 * 86400, "8y"),
    ],
)
def test_ages_read_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (pod({"phase": "Pending"}), "Pending"),
        (pod({"phase": "Failed", "reason": "Evicted"}), "Evicted"),
        (pod({"phase": "Running", "containerStatuses": [state(running={}, ready=True)]}), "Running"),
        (
            pod({"phase": "Pending", "containerStatuses": [state(waiting={"reason": "ImagePullBackOff"})]}),
            "ImagePullBackOff",
        ),
        (
            pod({"phase": "Running", "containerStatuses": [state(waiting={"reason": "CrashLoopBackOff"})]}),
            "CrashLoopBackOff",
        ),
        (
            pod(
                {"phase": "Succeeded", "containerStatuses": [state(terminated={"exitCode": 0, "reason": "Completed"})]}
            ),
            "Completed",
        ),
        (
            pod({"phase": "Failed", "containerStatuses": [state(terminated={"exitCode": 137, "reason": "OOMKilled"})]}),
            "OOMKilled",
        ),
        (pod({"phase": "Failed", "containerStatuses": [state(terminated={"exitCode": 3})]}), "ExitCode:3"),
        (pod({"phase": "Failed", "containerStatuses": [state(terminated={"exitCode": 137, "signal": 9})]}), "Signal:9"),
        (
            pod(
                {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [
                        state("c0", terminated={"exitCode": 0, "reason": "Completed"}),
                        state("c1", running={}, ready=True),
                    ],
                },
                containers=2,
            ),
            "Running",
        ),
        (pod({"phase": "Running"}, deletionTimestamp=CREATED), "Terminating"),
        (pod({"phase": "Succeeded"}, deletionTimestamp=CREATED), "Succeeded"),
        (pod({"phase": "Running", "reason": "NodeLost"}, deletionTimestamp=CREATED), "Unknown"),
    ],
)
def test_a_pods_status_is_the_word_that_tells_most(given: dict[str, Any], text: str) -> None:
    assert cells("/pods", given)["Status"] == text


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([state("i0", running={}), state("i1", waiting={"reason": "PodInitializing"})], "Init:0/2"),
        ([state("i0", terminated={"exitCode": 0}), state("i1", running={})], "Init:1/2"),
        ([state("i0", waiting={"reason": "CrashLoopBackOff"})], "Init:CrashLoopBackOff"),
        ([state("i0", terminated={"exitCode": 1, "reason": "Error"})], "Init:Error"),
        ([state("i0", terminated={"exitCode": 7})], "Init:ExitCode:7"),
    ],
)
def test_a_pod_in_its_init_containers_says_which(states: list[dict[str, Any]], text: str) -> None:
    given = pod(
        {
            "phase": "Pending",
            "initContainerStatuses": states,
            "containerStatuses": [state(waiting={"reason": "PodInitializing"})],
        },
        spec={"initContainers": [{"name": "i0"}, {"name": "i1"}]},
    )
    assert cells("/pods", given)["Status"] == text


def test_a_sidecar_counts_as_a_container() -> None:
    sidecar = {**state("s", running={}, ready=True), "started": True}
    given = pod(
        {
            "phase": "Running",
            "conditions": [{"type": "Initialized", "status": "True"}],
            "initContainerStatuses": [sidecar],
            "containerStatuses": [state(running={}, ready=True)],
        },
        spec={"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
    )
    row = cells("/pods", given)
    assert (row["Ready"], row["Status"]) == ("2/2", "Running")


def test_restarts_tell_how_long_ago_the_last_was() -> None:
    last = {"terminated": {"finishedAt": "2026-11-18T10:00:00Z"}}
    given = pod({"phase": "Running", "containerStatuses": [state(restarts=3, last=last, running={}, ready=True)]})
    from vkcri.api import times

    assert cells("/pods", given, times.to_epoch("2026-11-18T10:05:30Z"))["Restarts"] == "3 (5m30s ago)"
    given["status"]["containerStatuses"][0]["restartCount"] = 0
    assert cells("/pods", given)["Restarts"] == "0"


def test_wide_columns_have_priority_one_and_say_where_a_pod_runs() -> None:
    given = pod(
        {"phase": "Running", "podIP": "10.1.2.3"}, spec={"nodeName": "n", "readinessGates": [{"conditionType": "g"}]}
    )
    row = cells("/pods", given)
    assert [row[name] for name in ("IP", "Node", "Nominated Node", "Readiness Gates")] == [
        "10.1.2.3",
        "n",
        "<none>",
        "0/1",
    ]
    shown = table.table(PODS, [], "v1")
    assert [item["priority"] for item in shown["columnDefinitions"]] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_a_finished_pod_carries_the_condition_by_which_kubectl_may_hide_it() -> None:
    shown = table.table(PODS, [pod({"phase": "Succeeded"}), pod({"phase": "Running"})], "v1")
    assert [row.get("conditions", [{}])[0].get("type") for row in shown["rows"]] == ["Completed", None]


def test_a_node_shows_state_roles_and_addresses() -> None:
    given = {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/a": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "1.2.3.4"}],
            "nodeInfo": {"kubeletVersion": "v1", "osImage": "Debian"},
        },
    }
    row = cells("/nodes", given)
    assert row["Status"] == "NotReady,SchedulingDisabled"
    assert (row["Roles"], row["Internal-IP"], row["External-IP"], row["Version"]) == (
        "a,worker",
        "1.2.3.4",
        "<none>",
        "v1",
    )


def test_a_service_shows_its_ports_and_selector() -> None:
    spec = {
        "type": "NodePort",
        "clusterIP": "10.0.0.1",
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        "selector": {"b": "2", "a": "1"},
    }
    row = cells("/services", {"metadata": {"name": "s"}, "spec": spec})
    assert (row["Cluster-IP"], row["External-IP"]) == ("10.0.0.1", "<none>")
    assert (row["Port(s)"], row["Selector"]) == ("80:30080/TCP,53/UDP", "a=1,b=2")


def test_an_event_shows_what_happened_to_what() -> None:
    given = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        "type": "Warning",
        "reason": "BackOff",
        "message": " again ",
        "count": 4,
        "source": {"component": "vkcri", "host": "n"},
        "firstTimestamp": None,
        "lastTimestamp": None,
    }
    row = cells("/events", given)
    assert (row["Object"], row["Message"], row["Count"], row["Source"]) == ("pod/p", "again", 4, "vkcri, n")
    assert row["Last Seen"] == "<unknown>"


def test_many_endpoints_are_shortened() -> None:
    subsets = [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)], "ports": [{"port": 80}]}]
    row = cells("/endpoints", {"metadata": {"name": "e"}, "subsets": subsets})
    assert row["Endpoints"] == "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."


@pytest.mark.parametrize("resource", [item for item in RESOURCES if not item.virtual], ids=lambda item: item.plural)
def test_every_kind_makes_a_row_of_a_bare_object(resource: Resource) -> None:
    shown = table.table(resource, [{"metadata": {"name": "bare"}}], "v1beta1", now=NOW)
    assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"])
    assert "bare" in shown["rows"][0]["cells"]
    assert shown["apiVersion"] == "meta.k8s.io/v1beta1"


def test_a_rows_object_is_what_was_asked_for() -> None:
    given = pod({"phase": "Running"})
    full, part, none = (
        table.table(PODS, [given], "v1", include=what)["rows"][0] for what in ("Object", "Metadata", "None")
    )
    assert full["object"] == {"kind": "Pod", "apiVersion": "v1", **given}
    assert part["object"]["kind"] == "PartialObjectMetadata"
    assert "spec" not in part["object"]
    assert none["object"] is None
    with pytest.raises(StatusError):
        table.table(PODS, [given], "v1", include="Everything")
