"""Who gets a worker and who is told that it is gone: by what `pods` and CRI say, in every order of the two.

The workers are real and so is what is around them; nothing steps unless a test lets it.
"""

import copy
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

from bridge.actions import Eviction
from bridge.admission import Admission
from bridge.assembly import Bridge
from bridge.relist import Box, Listing
from bridge.roster import Roster
from bridge.spec import names
from bridge.worker import Worker
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from tests.unit.bridge.building import NOW, UID, a_pod
from tests.waiting import wait_for
from vkcri.api import pods
from vkcri.config import RuntimeSettings
from vkcri.lifecycle import Process
from vkcri.queue import Change

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-roster")]
INSTANCE = own("core")


class Between(Admission):
    """An admission in which something else happens while CRI's pods are counted: after what waits was collected, and
    before it begins."""

    def __init__(self) -> None:
        self.room = {"pods": "10"}
        super().__init__(lambda: self.room, dict)
        self.meanwhile: Callable[[], object] = lambda: None

    def count(self, found: Any) -> None:
        super().count(found)
        self.meanwhile()


class House:
    """A roster, and what its tests say to it. synced: the sources of `pods` that were read whole."""

    def __init__(self, fake: FakeRuntime) -> None:
        settings = RuntimeSettings(instance=INSTANCE, runtime_endpoint=fake.endpoint, node_name="n")
        self.process = Process("test", INSTANCE, end=lambda _: None)
        self.bridge = Bridge(self.process, settings)
        self.admission = Between()
        self.synced: set[str] = set()
        self.roster = Roster(self.make, self.admission, self.synced.__contains__, lambda: NOW)

    def make(self, pod: Mapping[str, Any]) -> Worker:
        bridge = self.bridge
        return Worker(
            bridge.guest, self.process, bridge.scheduler, self.admission, bridge.publisher, pod, self.roster.forget
        )

    def put(self, pod: Mapping[str, Any], source: str = "api") -> None:
        self.roster.pod_changed(Change("pods", pods.uid(pod), json.dumps(pod).encode(), source))

    def delete(self, uid: str = UID, source: str = "api") -> None:
        self.roster.pod_changed(Change("pods", uid, None, source))

    def sync(self, source: str) -> None:
        self.synced.add(source)
        self.roster.pods_synced(source)

    def read(self, listing: Listing | None = None) -> None:
        """CRI was read."""
        self.roster.runtime_changed(set(listing or {}), listing or {})

    def workers(self) -> dict[str, bool]:
        """UID -> whether the worker was told that its pod is gone."""
        return {worker.uid: worker.gone for worker in self.roster.workers()}


@pytest.fixture
def house(fake: FakeRuntime) -> Iterator[House]:
    house = House(fake)
    yield house
    house.process.drain()
    house.bridge.runtime.close()
    for folder in (INSTANCE.run_dir, INSTANCE.state_dir, INSTANCE.log_dir):
        shutil.rmtree(folder, ignore_errors=True)


def sandbox(uid: str = UID, *, source: str = "api", labels: Mapping[str, str] | None = None) -> Listing:
    ours = {names.POD_NAME: "p", names.POD_NAMESPACE: "default", names.POD_UID: uid}
    annotations = {pods.SOURCE_ANNOTATION: source, names.DELETION_GRACE: "7"}
    box = Box("s0", uid, "", "s0", 0, 1, ours if labels is None else labels, annotations)
    return {uid: frozenset({box})}


def from_file(pod: dict[str, Any]) -> dict[str, Any]:
    pod = copy.deepcopy(pod)
    pod["metadata"]["annotations"] = {pods.SOURCE_ANNOTATION: "file"}
    return pod


def test_nothing_begins_and_nothing_is_an_orphan_before_the_source_is_synced(house: House) -> None:
    house.put(a_pod())
    house.read(sandbox("22222222-0000-0000-0000-000000000000"))
    assert house.workers() == {}
    house.sync("api")
    assert house.workers() == {UID: False, "22222222-0000-0000-0000-000000000000": True}


def test_nothing_begins_before_cri_was_read(house: House) -> None:
    house.sync("api")
    house.put(a_pod())
    assert house.workers() == {}
    house.read()
    assert house.workers() == {UID: False}


def test_a_source_that_is_not_synced_holds_up_its_own_pods_only(house: House) -> None:
    house.read()
    house.sync("api")
    static = from_file(a_pod())
    static["metadata"]["uid"] = "static"
    house.put(static, "file")
    house.put(a_pod())
    assert house.workers() == {UID: False}
    assert not house.roster.complete()
    house.sync("file")
    assert house.workers() == {UID: False, "static": False}
    assert house.roster.complete()


def test_an_api_pod_that_calls_itself_static_is_none(house: House) -> None:
    house.read()
    house.sync("file")
    house.put(from_file(a_pod()), "api")
    assert house.workers() == {}, "its own source is not synced yet"
    house.sync("api")
    worker = house.roster.worker(UID)
    assert worker is not None
    assert (pods.is_static(worker.pod), pods.is_critical(worker.pod)) == (False, False)
    assert names.sandbox_annotations(worker.pod)[pods.SOURCE_ANNOTATION] == "api"
    assert house.roster.desired() == {False: 1, True: 0}


def test_a_pod_deleted_before_it_began_gets_no_worker(house: House) -> None:
    house.put(a_pod())
    house.delete()
    house.read()
    house.sync("api")
    assert house.workers() == {}
    assert house.roster.wanted() == set()


def test_a_pod_deleted_while_the_waiting_are_collected_gets_no_worker(house: House) -> None:
    house.put(a_pod())
    house.read()
    house.admission.meanwhile = house.delete
    house.sync("api")
    assert house.workers() == {}


def test_a_pod_changed_while_the_waiting_are_collected_begins_as_it_is_now(house: House) -> None:
    house.put(a_pod())
    house.read()
    newer = a_pod(nodeName="n")
    house.admission.meanwhile = lambda: house.put(newer)
    house.sync("api")
    assert [pods.spec(worker.pod) for worker in house.roster.workers()] == [newer["spec"]]


def test_a_pod_that_comes_while_orphans_are_collected_is_none(house: House) -> None:
    house.synced.add("api")
    house.admission.meanwhile = lambda: house.put(a_pod())
    house.read(sandbox())
    assert house.workers() == {UID: False}


def test_the_same_uid_back_after_its_end_gets_a_new_worker_that_is_judged(house: House) -> None:
    house.read()
    house.sync("api")
    house.put(a_pod())
    (first,) = house.roster.workers()
    house.delete()
    assert first.gone
    house.put(a_pod(resourceClaims=[{"name": "x"}]))
    house.admission.forget(UID)  # what the first one's end does
    house.roster.forget(first)
    (second,) = house.roster.workers()
    assert second is not first
    assert not second.gone
    refusal = house.admission.verdict(UID)
    assert refusal is not None
    assert refusal.reason == "UnsupportedField"


def test_a_pod_deleted_while_its_worker_is_replaced_gets_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.read()
    house.sync("api")
    house.put(a_pod())
    (first,) = house.roster.workers()
    begin = house.roster._begin

    def deleted_before(found: Iterable[Mapping[str, Any]]) -> None:
        house.delete()
        begin(found)

    monkeypatch.setattr(house.roster, "_begin", deleted_before)
    house.roster.forget(first)
    assert house.workers() == {}


def test_a_forgotten_worker_does_nothing_when_it_was_due_or_is_woken(house: House, fake: FakeRuntime) -> None:
    house.read()
    house.sync("api")
    house.put(a_pod())
    house.delete()
    (worker,) = house.roster.workers()
    scheduler = house.bridge.scheduler
    scheduler.wake_at(worker, 4e9)
    wait_for("its end", lambda: not house.workers() or (scheduler.run_one() and None))
    assert scheduler.due(worker) is None
    house.put(a_pod())
    house.bridge.publisher.put("pod-status", UID, b"{}")  # what the next worker of that UID has said
    calls = fake.count("ListPodSandbox")
    worker.step()
    assert house.bridge.publisher.get("pod-status", UID) == b"{}"
    assert fake.count("ListPodSandbox") == calls


def test_an_orphan_with_foreign_labels_is_left_alone(house: House) -> None:
    house.sync("api")
    house.read(sandbox(labels={"io.kubernetes.pod.uid": UID}))
    assert house.workers() == {}


def test_an_orphan_is_ended_once_its_own_source_is_synced_and_by_its_annotations(house: House) -> None:
    house.sync("api")
    house.read(sandbox(source="file"))
    assert house.workers() == {}
    house.sync("file")
    assert house.workers() == {UID: True}
    (worker,) = house.roster.workers()
    assert worker.pod["metadata"]["deletionGracePeriodSeconds"] == 7


def test_a_mirror_pod_is_nobodys(house: House) -> None:
    house.read()
    house.sync("api")
    mirror = a_pod()
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    house.put(mirror)
    assert house.workers() == {}
    assert house.roster.known() == set()


def with_config(name: str, **metadata: Any) -> dict[str, Any]:
    pod = a_pod(volumes=[{"name": "v", "configMap": {"name": name}}])
    pod["metadata"] |= metadata
    return pod


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The UIDs whose workers were told to try again."""
    found: list[str] = []
    monkeypatch.setattr(Worker, "try_now", lambda worker: found.append(worker.uid))
    return found


def test_a_pod_is_told_of_the_objects_that_it_names_now(house: House, tried: list[str]) -> None:
    house.read()
    house.sync("api")
    house.put(with_config("old"))
    house.put(with_config("kept", uid="other"))
    house.put(with_config("new"))
    house.roster.object_changed("configmaps/default/old")
    assert tried == []
    house.roster.object_changed("configmaps/default/new")
    house.roster.object_changed("configmaps/default/kept")
    assert tried == [UID, "other"]


def test_a_pod_that_comes_back_is_told_of_its_objects(house: House, tried: list[str]) -> None:
    house.read()
    house.sync("api")
    house.put(with_config("c"))
    (first,) = house.roster.workers()
    house.roster.forget(first)
    assert len(house.roster.workers()) == 1
    house.roster.object_changed("configmaps/default/c")
    assert tried == [UID]


def test_nothing_is_kept_of_the_objects_of_pods_that_are_gone(house: House) -> None:
    house.put(with_config("before-it-began"))
    house.delete()
    house.read()
    house.sync("api")
    house.put(with_config("c"))
    house.put(with_config("d"))
    (worker,) = house.roster.workers()
    house.delete()
    house.roster.forget(worker)
    assert house.roster._references == {}
    assert house.roster._keys == {}


def test_a_pod_that_has_ended_before_it_began_holds_no_room(house: House) -> None:
    house.admission.room = {"pods": "1"}
    other = a_pod()
    other["metadata"] |= {"uid": "other", "creationTimestamp": "2026-02"}
    house.put(a_pod())
    assert house.admission.verdict(UID) is None
    over = a_pod()
    over["status"] = {"phase": "Failed"}
    house.put(over)
    house.put(other)
    assert house.admission.verdict("other") is None


def a_static(uid: str) -> dict[str, Any]:
    """A static pod; all of them have one name."""
    pod = from_file(a_pod())
    pod["metadata"]["uid"] = uid
    return pod


def test_a_changed_static_pod_waits_for_the_end_of_the_one_before(house: House) -> None:
    house.read()
    house.sync("file")
    house.put(a_static("first"), "file")
    first = house.roster.worker("first")
    assert first is not None
    house.put(a_static("second"), "file")
    assert house.workers() == {"first": False}, "its delete has not come yet"
    house.delete("first", "file")
    assert house.workers() == {"first": True}
    house.put(a_static("third"), "file")
    house.delete("second", "file")
    house.roster.forget(first)
    assert house.workers() == {"third": False}


def test_a_changed_static_pod_is_not_judged_beside_the_one_before(house: House) -> None:
    """`pods` tells of the new one first, and whoever asks next has all judged that were offered."""
    house.read()
    house.sync("file")
    house.sync("api")
    for uid in ("first", "second"):
        pod = a_static(uid)
        pod["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "hostPort": 80}]
        house.put(pod, "file")
    first = house.roster.worker("first")
    assert first is not None
    assert house.admission.verdict("first") is None
    house.put(a_pod())
    assert house.admission.verdict(UID) is None
    house.delete("first", "file")
    house.admission.forget("first")
    house.roster.forget(first)
    assert set(house.workers()) == {"second", UID}
    assert house.admission.verdict("second") is None


def test_a_static_pod_waits_for_the_orphan_of_its_name(house: House) -> None:
    house.put(a_static("second"), "file")
    house.read(sandbox("first", source="file"))
    assert house.workers() == {}
    house.sync("file")
    assert house.workers() == {"first": True}
    orphan = house.roster.worker("first")
    assert orphan is not None
    house.roster.forget(orphan)
    assert house.workers() == {"second": False}


def test_api_pods_of_one_name_do_not_wait_for_each_other(house: House) -> None:
    house.read()
    house.sync("api")
    house.put(a_pod())
    second = a_pod()
    second["metadata"]["uid"] = "second"
    house.put(second)
    assert set(house.workers()) == {UID, "second"}


EVICTION = Eviction("Preempted.", 30.0, disrupts=True, reason="Preempting")


def test_who_is_evicted_before_it_has_a_worker_is_as_soon_as_it_has_one(house: House) -> None:
    """A critical pod's worker was quicker, after a restart of the bridge."""
    house.put(a_pod())
    assert house.roster.evict(UID, EVICTION)
    house.sync("api")
    house.read()
    worker = house.roster.worker(UID)
    assert worker is not None
    assert not worker.evict(EVICTION), "it is being evicted already"
    assert not house.roster.evict("gone", EVICTION)
    assert house.roster._owed == {}


def test_an_eviction_ends_with_the_pod_that_it_was_for(house: House) -> None:
    house.put(a_pod())
    assert house.roster.evict(UID, EVICTION)
    house.delete()
    house.put(a_pod())
    house.sync("api")
    house.read()
    worker = house.roster.worker(UID)
    assert worker is not None
    assert worker.evict(EVICTION)
