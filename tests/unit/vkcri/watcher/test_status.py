"""Reports reach the API server once, never over what is newer, and the end of a pod only when all of it is over."""

import json
from typing import Any

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.pods import Pods
from vkcri.watcher.status import StatusWriter

POD = "/api/v1/namespaces/default/pods/a"
STATUS = f"{POD}/status"


class Node:
    """Pods and their statuses of node n1, running."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.status = StatusWriter(around.process, around.client, Metrics())
        self.pods = Pods(
            around.client,
            around.publisher,
            around.access,
            "n1",
            changed=self.status.pod_changed,
            gone=self.status.pod_gone,
        )
        self.status.start(self.pods)
        around.process.start_thread("pods", lambda: self.pods.reflector.run(around.process))

    def make(self, uid: str = "u1", **fields: Any) -> None:
        pod = {"metadata": {"name": "a", "namespace": "default", "uid": uid}, "spec": {"nodeName": "n1"}, **fields}
        self.around.api.put(POD, pod)

    def shown(self) -> Any:
        return self.around.api.objects[POD].get("status", {})


@pytest.fixture
def node(around: Surroundings) -> Node:
    return Node(around)


def patches(around: Surroundings) -> list[Any]:
    return [call.body["status"] for call in around.api.calls("PATCH", STATUS)]


def idle(node: Node) -> None:
    until(lambda: len(node.status._dirty) == 0)


def test_a_report_is_written_with_the_pods_uid_and_written_once(around: Surroundings, node: Node) -> None:
    node.make(status={"phase": "Pending"})
    around.report("u1", {"phase": "Running", "podIP": "10.244.0.2"})
    until(lambda: node.shown() == {"phase": "Running", "podIP": "10.244.0.2"})
    assert around.api.calls("PATCH", STATUS)[0].body["metadata"] == {"uid": "u1"}
    around.report("u1", {"phase": "Running", "podIP": "10.244.0.2", "reason": ""})
    around.api.change(POD, lambda pod: pod["metadata"].update(labels={"x": "y"}))
    until(lambda: (node.pods.get("u1") or {"metadata": {}})["metadata"].get("labels"))
    idle(node)
    assert len(patches(around)) == 1
    assert "kubelet_pod_status_sync_duration_seconds_count 1\n" in node.status._metrics.text()


def test_a_report_that_came_before_its_pod_is_written_when_the_pod_is_known(around: Surroundings, node: Node) -> None:
    around.report("u1", {"phase": "Running"})
    until(lambda: node.status.reports.get("u1"))
    idle(node)
    assert patches(around) == []
    node.make()
    until(lambda: node.shown() == {"phase": "Running"})


def test_the_difference_is_taken_from_our_last_answer_while_the_watch_lags(around: Surroundings, node: Node) -> None:
    node.make(status={"phase": "Pending", "message": "old"})
    until(lambda: node.pods.get("u1"))
    around.api.withhold = True
    around.report("u1", {"phase": "Running", "message": "new"})
    until(lambda: node.shown() == {"phase": "Running", "message": "new"})
    around.report("u1", {"phase": "Running", "message": "old"})
    until(lambda: node.shown() == {"phase": "Running", "message": "old"})
    around.api.release()
    until(lambda: (node.pods.get("u1") or {}).get("status") == {"phase": "Running", "message": "old"})
    idle(node)
    assert patches(around) == [{"phase": "Running", "message": "new"}, {"message": "old"}]


def test_our_answer_is_not_forgotten_for_an_older_copy(around: Surroundings) -> None:
    """The watch comes to know of it just while a worker asks for the newest state."""
    status = StatusWriter(around.process, around.client, Metrics())
    older, answer = ({"metadata": {"uid": "u1", "resourceVersion": text}} for text in ("9", "10"))

    class Overtaken(Pods):
        def __init__(self) -> None:
            pass

        def get(self, uid: str) -> dict[str, Any] | None:
            status.pod_changed(uid, answer)
            return older

    status._pods = Overtaken()
    status._written["u1"] = answer
    assert status._newest("u1") == answer


def test_a_patch_made_from_an_older_copy_is_not_the_last(
    around: Surroundings, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.make(status={"phase": "Pending"})
    until(lambda: node.pods.get("u1"))
    older = node.pods.get("u1")
    around.api.change(POD, lambda pod: pod["status"].update(message="newer"))
    until(lambda: (node.pods.get("u1") or {"status": {}})["status"].get("message"))
    idle(node)
    newest, asked = node.status._newest, iter([older])
    monkeypatch.setattr(node.status, "_newest", lambda uid: next(asked, None) or newest(uid))
    around.report("u1", {"phase": "Running"})
    until(lambda: node.shown() == {"phase": "Running"})


def test_what_the_server_drops_is_not_sent_for_ever(around: Surroundings, node: Node) -> None:
    node.make()
    around.report("u1", {"phase": "Running", "novelty": "x"})
    until(lambda: node.shown().get("novelty"))
    around.api.change(POD, lambda pod: pod["status"].pop("novelty"))
    until(lambda: len(patches(around)) == 2)  # the pod changed, so once more
    idle(node)
    assert len(patches(around)) == 2


def test_a_status_that_somebody_else_changed_is_put_right(around: Surroundings, node: Node) -> None:
    node.make()
    around.report("u1", {"phase": "Running"})
    until(lambda: node.shown() == {"phase": "Running"})
    around.api.change(POD, lambda pod: pod["status"].update(phase="Pending"))
    until(lambda: node.shown() == {"phase": "Running"})


def test_a_phase_that_somebody_made_terminal_stays(around: Surroundings, node: Node) -> None:
    node.make(status={"phase": "Failed", "reason": "Evicted"})
    around.report("u1", {"phase": "Running", "containerStatuses": [{"name": "c"}]})
    until(lambda: node.shown().get("containerStatuses"))
    assert node.shown() == {"phase": "Failed", "reason": "Evicted", "containerStatuses": [{"name": "c"}]}


@pytest.mark.parametrize("status", [429, 500, 503, 409])
def test_a_patch_that_failed_is_tried_again_with_the_newest_report(
    around: Surroundings, node: Node, status: int
) -> None:
    around.api.refuse("PATCH", STATUS, status, times=2)
    node.make()
    around.report("u1", {"phase": "Pending"})
    until(lambda: len(around.api.calls("PATCH", STATUS)) >= 1)
    around.report("u1", {"phase": "Running"})
    until(lambda: node.shown() == {"phase": "Running"})


def test_an_invalid_report_is_not_hammered_and_the_next_one_goes_through(around: Surroundings, node: Node) -> None:
    around.api.refuse("PATCH", STATUS, 422)
    node.make()
    around.report("u1", {"phase": "Runing"})
    until(lambda: len(around.api.calls("PATCH", STATUS)) == 1)
    around.report("u1", {"phase": "Running"})
    until(lambda: node.shown() == {"phase": "Running"})
    assert len(around.api.calls("PATCH", STATUS)) == 2


def test_a_pod_of_the_same_name_does_not_get_the_old_ones_status(around: Surroundings, node: Node) -> None:
    node.make()
    until(lambda: node.pods.get("u1"))
    around.api.withhold = True
    around.api.remove(POD)
    node.make(uid="u2")
    around.report("u1", {"phase": "Failed"}, finished=True)
    until(lambda: around.api.calls("PATCH", STATUS))
    assert node.shown() == {}
    around.api.release()
    until(lambda: node.pods.get("u1") is None and node.pods.get("u2"))
    around.report("u2", {"phase": "Running"})
    until(lambda: node.shown() == {"phase": "Running"})


DELETING = "2026-11-23T12:00:00Z"


def test_a_finished_pod_is_written_and_then_deleted_for_good(around: Surroundings, node: Node) -> None:
    node.make(status={"phase": "Running"})
    around.report("u1", {"phase": "Running"})
    around.api.change(POD, lambda pod: pod["metadata"].update(deletionTimestamp=DELETING))
    around.report("u1", {"phase": "Succeeded"})
    until(lambda: node.shown() == {"phase": "Succeeded"})
    idle(node)
    assert around.api.calls("DELETE", POD) == []
    around.report("u1", {"phase": "Succeeded"}, finished=True)
    until(lambda: POD not in around.api.objects)
    [delete] = around.api.calls("DELETE", POD)
    assert delete.body == {"gracePeriodSeconds": 0, "preconditions": {"uid": "u1"}}
    around.has("pods", "u1", None)


def test_the_last_status_and_the_deletion_need_no_word_from_the_watch(around: Surroundings, node: Node) -> None:
    node.make(status={"phase": "Running"})
    around.api.change(POD, lambda pod: pod["metadata"].update(deletionTimestamp=DELETING))
    until(lambda: (node.pods.get("u1") or {"metadata": {}})["metadata"].get("deletionTimestamp"))
    around.api.withhold = True
    around.report("u1", {"phase": "Failed"}, finished=True)
    until(lambda: POD not in around.api.objects)
    assert patches(around) == [{"phase": "Failed"}]


@pytest.mark.parametrize(
    ("deleting", "phase"), [(None, "Succeeded"), (DELETING, "Running")], ids=["not deleted", "not terminal"]
)
def test_a_pod_is_not_deleted_before_its_time(
    around: Surroundings, node: Node, deleting: str | None, phase: str
) -> None:
    node.make(status={"phase": "Pending"})
    if deleting:
        around.api.change(POD, lambda pod: pod["metadata"].update(deletionTimestamp=deleting))
    around.report("u1", {"phase": phase}, finished=True)
    until(lambda: node.shown() == {"phase": phase})
    until(lambda: (node.pods.get("u1") or {}).get("status") == {"phase": phase})
    idle(node)
    assert around.api.calls("DELETE", POD) == []


def test_pods_are_published_as_they_came_and_no_others(around: Surroundings, node: Node) -> None:
    node.make(odd=[1.5, "é"])
    around.api.put("/api/v1/namespaces/default/pods/b", {"spec": {"nodeName": "other"}})
    until(lambda: around.publisher.synced("pods", source="api") and around.publisher.get("pods", "u1"))
    assert json.loads(around.publisher.get("pods", "u1") or b"")["odd"] == [1.5, "é"]
    assert list(around.publisher.items("pods")) == ["u1"]
    assert not around.publisher.synced("pods", source="file"), "the static pods are read by another"
