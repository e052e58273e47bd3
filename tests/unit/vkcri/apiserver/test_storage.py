"""The store: versions, conflicts, pages, what a restart keeps, and what happens when several threads write."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.errors import ConfigError

MAPS = "/configmaps"


def config_map(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store.db")
    yield opened
    opened.close()


def test_a_created_object_is_read_back_with_a_version(store: Store) -> None:
    made = store.create(MAPS, config_map("a", x="1"))
    assert store.get(MAPS, "default", "a") == made
    assert made["metadata"]["resourceVersion"] == str(store.current_rv())


def test_every_change_has_a_higher_version_over_all_kinds(store: Store) -> None:
    versions = [
        int(store.create(MAPS, config_map("a"))["metadata"]["resourceVersion"]),
        int(store.create("/secrets", config_map("a"))["metadata"]["resourceVersion"]),
        int(store.update(MAPS, config_map("a", x="1"), expected=None)["metadata"]["resourceVersion"]),
        int(store.delete(MAPS, "default", "a")["metadata"]["resourceVersion"]),
    ]
    assert versions == sorted(set(versions))


def test_creating_twice_is_already_exists(store: Store) -> None:
    store.create(MAPS, config_map("a"))
    with pytest.raises(StatusError) as caught:
        store.create(MAPS, config_map("a"))
    assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")
    assert str(caught.value) == 'configmaps "a" already exists'


def test_an_update_from_an_old_version_is_a_conflict_and_changes_nothing(store: Store) -> None:
    first = store.create(MAPS, config_map("a"))
    second = store.update(MAPS, config_map("a", x="2"), expected=first["metadata"]["resourceVersion"])
    with pytest.raises(StatusError) as caught:
        store.update(MAPS, config_map("a", x="3"), expected=first["metadata"]["resourceVersion"])
    assert caught.value.reason == "Conflict"
    assert store.get(MAPS, "default", "a") == second


def test_an_update_that_changes_nothing_keeps_the_version_and_wakes_nobody(store: Store) -> None:
    made = store.create(MAPS, config_map("a", x="1"))
    assert store.update(MAPS, config_map("a", x="1"), expected=None) == made
    assert store.modify(MAPS, "default", "a", lambda obj: obj) == made
    assert store.current_rv() == int(made["metadata"]["resourceVersion"])


def test_what_is_missing_is_named_with_its_group(store: Store) -> None:
    for action in (
        lambda: store.update("apps/deployments", config_map("a"), expected=None),
        lambda: store.modify("apps/deployments", "default", "a", lambda obj: obj),
        lambda: store.delete("apps/deployments", "default", "a"),
    ):
        with pytest.raises(StatusError, match=r'^deployments\.apps "a" not found$'):
            action()


def test_pages_hold_everything_once_and_keep_the_first_pages_version(store: Store) -> None:
    for number in range(7):
        store.create(MAPS, config_map(f"m{number}", f"ns{number % 2}"))
    rv = store.current_rv()
    names, token, remains = [], None, []
    while token != "":
        items, page_rv, token, remaining = store.list(MAPS, limit=3, continue_=token)
        store.create("/secrets", config_map(f"s{len(names)}"))
        assert page_rv == rv
        names += [item["metadata"]["name"] for item in items]
        remains.append(remaining)
    assert names == ["m0", "m2", "m4", "m6", "m1", "m3", "m5"]
    assert remains == [4, 1, None]


def test_a_limit_counts_what_the_predicate_lets_through(store: Store) -> None:
    for number in range(1200):
        store.create(MAPS, config_map(f"m{number:04}", odd=str(number % 2)))
    items, _, token, remaining = store.list(MAPS, predicate=lambda obj: obj["data"]["odd"] == "1", limit=600)
    assert (len(items), token, remaining) == (600, "", None)
    items, _, token, _ = store.list(MAPS, "default", predicate=lambda obj: obj["data"]["odd"] == "1", limit=599)
    assert len(items) == 599
    assert token
    rest, _, token, _ = store.list(MAPS, "default", predicate=lambda obj: obj["data"]["odd"] == "1", continue_=token)
    assert [item["metadata"]["name"] for item in rest] == ["m1199"]
    assert token == ""


def test_a_page_whose_version_is_too_old_to_watch_from_is_expired(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", most_events=3)
    for number in range(3):
        store.create(MAPS, config_map(f"m{number}"))
    token = store.list(MAPS, limit=1)[2]
    for number in range(10):
        store.update(MAPS, config_map("m0", x=str(number)), expected=None)
    with pytest.raises(StatusError) as caught:
        store.list(MAPS, limit=1, continue_=token)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    store.close()


@pytest.mark.parametrize("token", ["x", "W10=", "bnVsbA==", "MQ=="])
def test_a_forged_continue_token_is_a_bad_request(store: Store, token: str) -> None:
    with pytest.raises(StatusError) as caught:
        store.list(MAPS, limit=1, continue_=token)
    assert caught.value.code == 400


def test_a_transaction_that_raises_leaves_nothing_behind(store: Store) -> None:
    watch = store.watch(MAPS, since_rv=0)
    with pytest.raises(RuntimeError):
        with store.transaction():
            store.create(MAPS, config_map("a"))
            store.create("/secrets", config_map("a"))
            raise RuntimeError
    assert store.get(MAPS, "default", "a") is None
    assert store.current_rv() == 0
    assert watch.next(0) == []
    assert store.create(MAPS, config_map("b"))["metadata"]["resourceVersion"] == "1"


def test_concurrent_modifications_are_all_kept(store: Store) -> None:
    store.create(MAPS, config_map("a", count="0"))

    def increment(obj: dict[str, Any]) -> dict[str, Any]:
        obj["data"]["count"] = str(int(obj["data"]["count"]) + 1)
        return obj

    def work() -> None:
        for _ in range(50):
            store.modify(MAPS, "default", "a", increment)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    final = store.get(MAPS, "default", "a")
    assert final is not None
    assert final["data"]["count"] == "200"
    assert store.current_rv() == 201


def test_a_restart_keeps_objects_versions_and_the_events_for_watches(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    first = store.create(MAPS, config_map("a", x="1"))
    store.update(MAPS, config_map("a", x="2"), expected=None)
    store.delete(MAPS, "default", "a")
    store.create(MAPS, config_map("b"))
    store.close()

    again = Store(tmp_path / "store.db")
    assert again.current_rv() == 4
    assert again.get(MAPS, "default", "a") is None
    seen = again.watch(MAPS, since_rv=int(first["metadata"]["resourceVersion"])).next(0)
    assert [(item.type, item.rv) for item in seen] == [("MODIFIED", 2), ("DELETED", 3), ("ADDED", 4)]
    assert again.create(MAPS, config_map("c"))["metadata"]["resourceVersion"] == "5"
    again.close()


def test_a_restart_keeps_what_was_compacted_expired_and_the_file_small(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", most_events=10)
    store.create(MAPS, config_map("a"))
    for number in range(249):
        store.update(MAPS, config_map("a", x=str(number)), expected=None)
    rows = store._db.execute("SELECT count(*) FROM events").fetchone()[0]
    assert rows <= 110
    store.close()
    again = Store(tmp_path / "store.db", most_events=1000)
    with pytest.raises(StatusError) as caught:
        again.watch(MAPS, since_rv=100)
    assert caught.value.code == 410
    assert again.current_rv() == 250
    again.close()


def test_a_value_too_large_for_the_window_keeps_only_itself(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", most_bytes=10_000)
    store.create(MAPS, config_map("a", x="1"))
    store.update(MAPS, config_map("a", x="y" * 20_000), expected=None)
    assert [item.rv for item in store.watch(MAPS, since_rv=1).next(0)] == [2]
    with pytest.raises(StatusError):
        store.watch(MAPS, since_rv=0)
    store.close()


def test_a_file_that_is_no_database_is_named_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database, though long enough to look at" * 100)
    with pytest.raises(ConfigError, match=r"store\.db .*make reset"):
        Store(tmp_path / "store.db")


@pytest.mark.usefixtures("store")
def test_the_database_is_private(tmp_path: Path) -> None:
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600


def test_a_token_that_is_too_old_comes_with_one_for_the_rest_as_it_is_by_now(tmp_path: Path) -> None:
    small = Store(tmp_path / "small.db", most_events=2)
    for name in ("a", "b", "c"):
        small.create(MAPS, config_map(name))
    token = small.list(MAPS, limit=1)[2]
    for value in ("1", "2", "3"):
        small.update(MAPS, config_map("c", x=value), expected=None)
    with pytest.raises(StatusError) as caught:
        small.list(MAPS, limit=1, continue_=token)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    rest = caught.value.as_status()["metadata"]["continue"]
    found, version, _, _ = small.list(MAPS, continue_=rest)
    assert [item["metadata"]["name"] for item in found] == ["b", "c"]
    assert version == small.current_rv()
    small.close()
