"""Each object that a pod names is known while a pod names it, soon after it changes, at a bounded price."""

import json
import math
import threading
from typing import Any

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.watcher import references as references_module
from vkcri.watcher.references import PATIENCE, References

MAP = "/api/v1/namespaces/default/configmaps"
SECRET = "/api/v1/namespaces/default/secrets"


def pod(*maps: str, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    volumes = [{"name": name, "configMap": {"name": name}} for name in maps]
    return {
        "metadata": {"name": "a", "namespace": "default", "uid": "u"},
        "spec": {"volumes": volumes, "imagePullSecrets": [{"name": name} for name in secrets], "containers": []},
    }


def references(around: Surroundings, **options: Any) -> References:
    found = References(around.process, around.client, around.publisher, **options)
    found.start()
    return found


def value(around: Surroundings, key: str) -> Any:
    raw = around.publisher.get("objects", key)
    return json.loads(raw) if raw not in (None, b"absent", b"forbidden") else raw


def test_an_object_is_read_by_name_and_followed(around: Surroundings) -> None:
    around.api.put(f"{MAP}/m", {"data": {"k": "1"}})
    around.api.put(f"{MAP}/other", {"data": {}})
    refs = references(around)
    refs.pod_changed("u1", pod("m"))
    until(lambda: (value(around, "configmaps/default/m") or {}).get("data") == {"k": "1"})
    around.api.change(f"{MAP}/m", lambda item: item.update(data={"k": "2"}))
    until(lambda: value(around, "configmaps/default/m")["data"] == {"k": "2"})
    assert [call.is_watch for call in around.api.calls("GET", MAP)] == [False, True]
    assert {call.params["fieldSelector"] for call in around.api.calls("GET", MAP)} == {"metadata.name=m"}
    assert list(around.publisher.items("objects")) == ["configmaps/default/m"]


def test_an_absent_object_is_absent_until_it_appears_and_again_when_it_goes(around: Surroundings) -> None:
    refs = references(around)
    refs.pod_changed("u1", pod(secrets=("s",)))
    around.has("objects", "secrets/default/s", b"absent")
    around.api.put(f"{SECRET}/s", {"data": {"a": "Yg=="}})
    until(lambda: value(around, "secrets/default/s") != b"absent")
    around.api.remove(f"{SECRET}/s")
    around.has("objects", "secrets/default/s", b"absent")


def test_a_refused_object_is_forbidden_after_some_patience_and_known_when_allowed(around: Surroundings) -> None:
    around.api.put(f"{SECRET}/s", {"data": {}})
    around.api.refuse("GET", SECRET, 403, times=math.inf)
    refs = references(around)
    refs.pod_changed("u1", pod(secrets=("s",)))
    around.has("objects", "secrets/default/s", b"forbidden")
    around.api.forgive()
    until(lambda: value(around, "secrets/default/s") != b"forbidden")


@pytest.mark.parametrize("most_watches", [256, 0], ids=["watched", "read in turn"])
def test_credentials_that_are_not_known_make_no_object_forbidden(
    around: Surroundings, most_watches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references_module, "POLL_SECONDS", 0.05)
    around.api.put(f"{SECRET}/s", {"data": {}})
    around.api.refuse("GET", f"{SECRET}(/s)?", 401, times=math.inf)
    refs = references(around, most_watches=most_watches)
    refs.pod_changed("u1", pod(secrets=("s",)))
    until(lambda: len(around.api.calls("GET", f"{SECRET}(/s)?")) > PATIENCE + 2)
    assert value(around, "secrets/default/s") is None
    around.api.forgive()
    until(lambda: value(around, "secrets/default/s") is not None)


def test_the_authorizers_short_lag_is_not_told_as_forbidden(around: Surroundings) -> None:
    seen: list[bytes | None] = []
    around.api.put(f"{SECRET}/s", {"data": {}})
    around.api.refuse("GET", SECRET, 403, times=2)
    refs = references(around)
    refs.pod_changed("u1", pod(secrets=("s",)))

    def arrived() -> bool:
        seen.append(around.publisher.get("objects", "secrets/default/s"))
        return seen[-1] is not None

    until(arrived)
    assert b"forbidden" not in seen


def test_an_object_is_shared_and_leaves_with_the_last_pod(around: Surroundings) -> None:
    around.api.put(f"{MAP}/m", {})
    refs = references(around)
    refs.pod_changed("u1", pod("m"))
    refs.pod_changed("u2", pod("m"))
    until(lambda: value(around, "configmaps/default/m"))
    assert refs.counts() == {"objects": 1, "watched": 1, "threads": 1}
    refs.pod_gone("u1")
    assert value(around, "configmaps/default/m")
    refs.pod_gone("u2")
    assert around.publisher.items("objects") == {}
    assert refs.counts()["objects"] == 0


def test_a_thread_is_used_again_for_the_next_object(around: Surroundings) -> None:
    refs = references(around)
    for name in ("m1", "m2", "m3", "m2"):
        around.api.put(f"{MAP}/{name}", {"data": {"is": name}})
        refs.pod_changed("u1", pod(name))
        until(lambda name=name: (value(around, f"configmaps/default/{name}") or {}).get("data") == {"is": name})
        refs.pod_gone("u1")
        until(lambda: refs._idle == refs._threads)
    assert refs.counts()["threads"] == 1


def test_a_pod_that_changes_its_references_begins_and_ends_watches(around: Surroundings) -> None:
    refs = references(around)
    refs.pod_changed("u1", pod("m1"))
    around.has("objects", "configmaps/default/m1", b"absent")
    refs.pod_changed("u1", pod("m2"))
    around.has("objects", "configmaps/default/m2", b"absent")
    assert list(around.publisher.items("objects")) == ["configmaps/default/m2"]


def test_an_immutable_object_is_read_once(around: Surroundings) -> None:
    around.api.put(f"{MAP}/m", {"immutable": True, "data": {"k": "1"}})
    refs = references(around)
    refs.pod_changed("u1", pod("m"))
    until(lambda: value(around, "configmaps/default/m"))
    until(lambda: refs._idle == refs._threads)
    assert [call.is_watch for call in around.api.calls("GET", MAP)] in ([False], [False, True])


def test_beyond_the_limit_objects_are_read_in_turn(around: Surroundings) -> None:
    names = [f"m{number}" for number in range(6)]
    for name in names:
        around.api.put(f"{MAP}/{name}", {"data": {"is": name}})
    refs = references(around, most_watches=2)
    refs.pod_changed("u1", pod(*names, "nowhere"))
    keys = {f"configmaps/default/{name}" for name in [*names, "nowhere"]}
    until(lambda: set(around.publisher.items("objects")) == keys)
    assert around.publisher.get("objects", "configmaps/default/nowhere") == b"absent"
    assert refs.counts()["threads"] == 2
    assert sum(thread.name.startswith("objects-") for thread in threading.enumerate() if thread.is_alive()) >= 3


def test_many_objects_come_and_go_without_a_thread_lost(around: Surroundings) -> None:
    refs = references(around)
    for round_ in range(3):
        for number in range(20):
            refs.pod_changed(f"u{number}", pod(f"m{number}", f"m{number + 1}", "common"))
        until(lambda: len(around.publisher.items("objects")) == 22)
        for number in range(20):
            refs.pod_gone(f"u{number}")
        assert around.publisher.items("objects") == {}, round_
        until(lambda: refs._idle == refs._threads)
    assert refs._threads <= 22
