"""Dirty keys, back-off, feeds that fall behind, and all controllers together."""

import threading
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.living import living
from tests.unit.vkcri.apiserver.house import NODE, House, pod
from tests.waiting import PATIENCE, until
from vkcri.apiserver import bootstrap, controllers
from vkcri.apiserver.controllers.loop import DirtyKeys, KeysOf, Loop
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


class Recorder:
    """A controller that notes its keys and fails as often as it is told."""

    name = "recorder"

    def __init__(self, failures: int = 0, again: float | None = None) -> None:
        self.seen: list[str] = []
        self.failures = failures
        self.again = again
        self.sources: dict[str, KeysOf] = {"/configmaps": lambda obj, _gone: [obj["metadata"]["name"]]}

    def all_keys(self) -> Iterable[str]:
        return ["first"]

    def reconcile(self, key: str) -> float | None:
        self.seen.append(key)
        if self.failures:
            self.failures -= 1
            raise StatusError.conflict("configmaps", key)
        return self.again


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_come_when_due_once_and_the_earliest_time_wins() -> None:
    clock = Clock()
    dirty = DirtyKeys(clock)
    dirty.add(("c", "late"), 5)
    dirty.add(("c", "now"))
    dirty.add(("c", "now"))
    dirty.add(("c", "late"), 2)
    dirty.add(("c", "late"), 9)
    assert dirty.take(0) == ("c", "now")
    assert dirty.take(0) is None
    clock.now = 2
    assert dirty.take(0) == ("c", "late")
    clock.now = 100
    assert dirty.take(0) is None
    assert len(dirty) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10)), max_size=30))
def test_every_key_comes_exactly_once_not_before_its_earliest_time(adds: list[tuple[str, float]]) -> None:
    clock = Clock()
    dirty = DirtyKeys(clock)
    for key, delay in adds:
        dirty.add(("c", key), delay)
    earliest = {key: min(delay for other, delay in adds if other == key) for key, _ in adds}
    came: dict[str, float] = {}
    for moment in sorted(earliest.values()):
        clock.now = moment
        while (taken := dirty.take(0)) is not None:
            assert taken[1] not in came
            came[taken[1]] = moment
    assert came == earliest


def test_a_waiting_take_wakes_for_a_new_key() -> None:
    dirty = DirtyKeys()
    taken: list[tuple[str, str] | None] = []
    thread = threading.Thread(target=lambda: taken.append(dirty.take(10)))
    thread.start()
    dirty.add(("c", "x"))
    thread.join(PATIENCE)
    assert taken == [("c", "x")]


def test_a_failed_key_comes_again_after_a_back_off(house: House) -> None:
    clock, recorder = Clock(), Recorder(failures=2)
    loop = Loop(house.store, [recorder], clock=clock)
    loop.mark("/configmaps", {"metadata": {"name": "x"}})
    assert loop.step()
    assert not loop.step()
    clock.now = 0.1
    assert loop.step()
    clock.now = 0.2
    assert not loop.step()
    clock.now = 0.4
    assert loop.step()
    clock.now = 100
    assert not loop.step()
    assert recorder.seen == ["x", "x", "x"]


def test_a_controller_may_ask_to_be_called_again(house: House) -> None:
    clock, recorder = Clock(), Recorder(again=5.0)
    loop = Loop(house.store, [recorder], clock=clock)
    loop.mark_all()
    assert loop.step()
    clock.now = 4.9
    assert not loop.step()
    clock.now = 5.0
    assert loop.step()


def test_changes_reach_the_controller_that_watches_their_kind(house: House) -> None:
    recorder = Recorder()
    with living("test", house.settings.instance) as process:
        Loop(house.store, [recorder]).start(process)
        until(lambda: "first" in recorder.seen)
        house.create("/configmaps", {"metadata": {"name": "new", "namespace": "default"}})
        until(lambda: "new" in recorder.seen)


def test_all_controllers_make_a_server_that_furnishes_schedules_and_cleans_up(house: House) -> None:
    bootstrap.ensure(house.settings, house.store)
    house.node()
    with living("test", house.settings.instance) as process:
        controllers.start_all(process, house.store, house.settings)
        house.create("/namespaces", {"metadata": {"name": "x"}})
        until(lambda: house.get("/configmaps", "x", "kube-root-ca.crt") is not None)
        until(lambda: house.get("/serviceaccounts", "x", "default") is not None)
        metadata = {"name": "web", "namespace": "x"}
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        house.create("/services", {"metadata": metadata, "spec": spec})
        house.create("/pods", pod(namespace="x", labels={"app": "web"}))
        until(lambda: (house.get("/pods", "x", "p") or {})["spec"].get("nodeName") == NODE)
        made = house.get("/pods", "x", "p")
        assert made is not None
        conditions = [{"type": "Ready", "status": "True"}]
        made["status"] = {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}
        house.update("/pods", made, subresource="status")
        until(lambda: _addresses(house) == ["10.0.0.1"])
        house.delete("/namespaces", "", "x")
        until(lambda: "deletionTimestamp" in (house.get("/pods", "x", "p") or {}).get("metadata", {}))
        house.delete("/pods", "x", "p", gracePeriodSeconds=0)
        until(lambda: house.get("/namespaces", "", "x") is None)
        assert house.store.list("discovery.k8s.io/endpointslices", "x")[0] == []


def _addresses(house: House) -> list[str]:
    found = house.store.list("discovery.k8s.io/endpointslices", "x")[0]
    return [address for item in found for endpoint in item["endpoints"] or [] for address in endpoint["addresses"]]
