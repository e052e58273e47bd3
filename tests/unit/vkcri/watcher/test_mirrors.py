"""Every static pod has one mirror pod at the API server, by its hash, whatever happens to it there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.unit.vkcri.watcher.test_staticpods import manifest
from tests.waiting import until
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.mirrors import Mirrors, Step, mirror_of, plan
from vkcri.watcher.pods import Pods
from vkcri.watcher.staticpods import StaticPods
from vkcri.watcher.status import StatusWriter

NODE = {"metadata": {"name": "n1", "uid": "node-uid"}}
PODS = "/api/v1/namespaces/default/pods"
MIRROR = f"{PODS}/a-n1"
NAME = "default/a-n1"


def static(uid: str = "s1") -> dict[str, Any]:
    annotations = {"kubernetes.io/config.hash": uid, "kubernetes.io/config.source": "file"}
    return {"metadata": {"name": "a-n1", "namespace": "default", "uid": uid, "annotations": annotations}}


def mirror(of: str = "s1", **metadata: Any) -> dict[str, Any]:
    annotations = {"kubernetes.io/config.mirror": of}
    return {"metadata": {"name": "a-n1", "namespace": "default", "uid": "m", "annotations": annotations, **metadata}}


DELETED = {"deletionTimestamp": "2026-11-25T10:00:00Z"}
HELD = {**DELETED, "deletionGracePeriodSeconds": 0, "finalizers": ["a/b"]}


@pytest.mark.parametrize(
    ("of", "copy", "known", "lingers", "step"),
    [
        (static(), None, True, False, Step.CREATE),
        (static(), None, True, None, Step.CREATE),  # no provider has ever said anything
        (static(), None, True, True, Step.WAIT),  # the pod of that name before it is ending
        (static(), mirror(), True, False, Step.NOTHING),
        (static(), mirror(**DELETED), True, False, Step.REPLACE),
        (static("s2"), mirror(), True, False, Step.REPLACE),
        (static("s2"), mirror(), True, True, Step.WAIT),
        (static("s2"), mirror(), True, None, Step.WAIT),  # the pod of before may be ending
        (static(), mirror(**HELD), True, False, Step.WAIT),  # it goes when its finalizers do
        (static("s2"), mirror(**HELD), True, False, Step.WAIT),
        (None, mirror(**HELD), True, False, Step.WAIT),
        (static(), mirror(**{**HELD, "finalizers": []}), True, False, Step.REPLACE),  # a deletion that broke off
        (None, None, True, False, Step.NOTHING),
        (None, mirror(), True, False, Step.DELETE),
        (None, mirror(), True, True, Step.WAIT),  # it is ending: its end is to be seen
        (None, mirror(), True, None, Step.WAIT),
        (None, mirror(), False, False, Step.WAIT),  # the folder was not read yet
    ],
)
def test_what_a_mirror_pod_needs(of: Any, copy: Any, known: bool, lingers: bool | None, step: Step) -> None:
    assert plan(of, copy, known=known, lingers=lingers) is step


def test_a_mirror_pod_is_the_static_pod_with_its_hash_and_its_node_as_owner() -> None:
    made = mirror_of({**static(), "spec": {"nodeName": "n1"}}, NODE)
    assert made["spec"] == {"nodeName": "n1"}
    assert made["metadata"] == {
        "name": "a-n1",
        "namespace": "default",
        "annotations": {
            "kubernetes.io/config.hash": "s1",
            "kubernetes.io/config.source": "file",
            "kubernetes.io/config.mirror": "s1",
        },
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": True}],
    }


class House:
    """api-watcher's parts that deal with static pods, running against an API server and a provider's queue."""

    def __init__(self, around: Surroundings, folder: Path) -> None:
        self.around, self.folder = around, folder
        self.node: dict[str, Any] | None = NODE
        self.status = StatusWriter(around.process, around.client, Metrics())
        self.static = StaticPods(around.publisher, around.notices, folder, "n1")
        self.mirrors = Mirrors(
            around.process, around.client, self.static, self.status.reports, lambda: self.node, Metrics()
        )
        self.static.changed = self.mirrors.static_changed
        self.status.mirror = self.mirrors.find
        self.pods = Pods(
            around.client,
            around.publisher,
            around.access,
            "n1",
            changed=self.changed,
            gone=self.gone,
            listed=self.mirrors.pods_listed,
        )
        self.status.start(self.pods)
        self.mirrors.start()
        around.process.start_thread("pods", lambda: self.pods.reflector.run(around.process))

    def changed(self, uid: str, pod: dict[str, Any]) -> None:
        self.mirrors.pod_changed(uid, pod)
        self.status.pod_changed(uid, pod)

    def gone(self, uid: str) -> None:
        self.mirrors.pod_gone(uid)
        self.status.pod_gone(uid)

    def write(self, image: str = "shell:1") -> str:
        """The manifest; the static pod's UID."""
        (self.folder / "a.yaml").write_text(manifest("a", image))
        self.static.look()
        pod = self.static.get(NAME)
        assert pod is not None
        return str(pod["metadata"]["uid"])

    def remove(self) -> None:
        (self.folder / "a.yaml").unlink()
        self.static.look()

    def report(self, uid: str, **status: Any) -> None:
        value = {"namespace": "default", "name": "a-n1", "uid": uid, "status": status, "finished": False}
        self.around.provider.put("pod-status", uid, json.dumps(value).encode())

    def shown(self) -> dict[str, Any]:
        return dict(self.around.api.objects.get(MIRROR, {}))

    def mirrored(self) -> str:
        """The hash of the mirror pod that is there."""
        annotations = self.shown().get("metadata", {}).get("annotations", {})
        return str(annotations.get("kubernetes.io/config.mirror", ""))


@pytest.fixture
def house(around: Surroundings, tmp_path: Path) -> House:
    (tmp_path / "manifests").mkdir()
    return House(around, tmp_path / "manifests")


def test_a_static_pods_status_goes_to_its_mirror_pod(house: House) -> None:
    uid = house.write()
    house.report(uid, phase="Running")
    until(lambda: house.shown().get("status", {}).get("phase") == "Running")
    assert house.mirrored() == uid
    assert house.pods.get(uid) is None, "the API server knows no such pod"


def test_a_mirror_pod_that_is_deleted_comes_back_with_its_status(house: House) -> None:
    uid = house.write()
    house.report(uid, phase="Running")
    until(lambda: house.shown().get("status", {}).get("phase") == "Running")
    house.around.api.change(MIRROR, lambda pod: pod["metadata"].update(DELETED))
    until(lambda: "deletionTimestamp" not in house.shown().get("metadata", DELETED))
    until(lambda: house.shown().get("status", {}).get("phase") == "Running")
    house.around.api.remove(MIRROR)
    until(lambda: house.shown().get("status", {}).get("phase") == "Running")
    assert house.mirrored() == uid


def test_a_changed_manifests_mirror_pod_waits_for_the_end_of_the_pod_before(house: House) -> None:
    first = house.write()
    house.report(first, phase="Running")
    house.around.provider.mark_synced("pod-status")
    until(lambda: house.mirrored() == first)
    second = house.write("shell:2")
    house.report(first, phase="Succeeded")  # its last words are still shown
    until(lambda: house.shown().get("status", {}).get("phase") == "Succeeded")
    assert house.mirrored() == first
    house.around.provider.delete("pod-status", first)
    until(lambda: house.mirrored() == second)


def test_a_mirror_pod_goes_with_its_static_pod_once_that_has_ended(house: House) -> None:
    uid = house.write()
    house.report(uid, phase="Running")
    house.around.provider.mark_synced("pod-status")
    until(lambda: house.shown().get("status"))
    house.remove()
    house.report(uid, phase="Failed")
    until(lambda: house.shown()["status"]["phase"] == "Failed")
    house.around.provider.delete("pod-status", uid)
    until(lambda: house.shown() == {})


def test_a_mirror_pod_of_before_is_removed_only_when_folder_and_provider_are_known(house: House) -> None:
    house.around.api.put(MIRROR, {**mirror("old"), "spec": {"nodeName": "n1"}})
    until(lambda: house.mirrors.find("old"))
    house.around.provider.mark_synced("pod-status")
    house.around.api.put(f"{PODS}/b", {"metadata": {"uid": "b"}, "spec": {"nodeName": "n1"}})
    until(lambda: house.pods.get("b"))
    assert house.mirrored() == "old", "the folder was not read"
    house.static.look()
    until(lambda: house.shown() == {})


def test_without_a_node_of_ours_no_mirror_pod_is_made(house: House) -> None:
    house.node = None
    uid = house.write()
    until(lambda: house.mirrors._listed)
    house.node = NODE
    until(lambda: house.mirrored() == uid)
    assert len(house.around.api.calls("POST", PODS)) == 1


def test_a_pod_of_that_name_which_is_no_mirror_stays(house: House) -> None:
    house.around.api.put(MIRROR, {"metadata": {"uid": "x"}, "spec": {"nodeName": "n1"}})
    until(lambda: house.pods.get("x"))
    house.write()
    until(lambda: house.around.api.calls("POST", PODS))
    assert house.shown()["metadata"]["uid"] == "x"
    house.around.api.remove(MIRROR)
    until(lambda: house.mirrored() != "")


def test_a_mirror_pod_that_has_become_a_pod_like_any_other_is_none_any_more(house: House) -> None:
    uid = house.write()
    until(lambda: house.mirrors.find(uid))
    house.around.api.change(MIRROR, lambda pod: pod["metadata"]["annotations"].clear())
    until(lambda: house.mirrors.find(uid) is None)
    house.around.api.remove(MIRROR)
    until(lambda: house.mirrored() == uid)


def test_a_name_that_stays_taken_is_tried_ever_more_seldom(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.mirrors, "_delete", lambda _name, _mirror: None)
    house.around.api.put(MIRROR, {**mirror("old"), "spec": {"nodeName": "n1"}})
    house.around.provider.mark_synced("pod-status")
    until(lambda: house.mirrors.find("old"))
    house.write()
    until(lambda: house.mirrors._attempts.get(NAME, 0) > 0)


def test_a_mirror_pod_that_is_refused_is_tried_again(house: House) -> None:
    house.around.api.refuse("POST", PODS, 403)
    uid = house.write()
    until(lambda: house.mirrored() == uid)
