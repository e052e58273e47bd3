"""Watches: order, selectors, bookmarks that lose nothing, falling behind, and the end of waiting."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.apiserver.watch import BOOKMARK, Watch

PODS = "/pods"


def pod(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}}


def labelled(**wanted: str) -> Any:
    return lambda obj: wanted.items() <= obj["metadata"]["labels"].items()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store.db", most_events=50)
    yield opened
    opened.close()


def shown(watch: Watch) -> list[tuple[str, str]]:
    return [(kind, obj["metadata"].get("name", "")) for kind, obj, _ in watch]


def test_a_watch_without_a_version_begins_with_what_is_there(store: Store) -> None:
    store.create(PODS, pod("a"))
    store.create(PODS, pod("b", "other"))
    watch = store.watch(PODS, timeout=0)
    store.create(PODS, pod("c"))
    assert shown(watch) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


def test_a_watch_from_a_version_gets_what_came_after_it_in_order(store: Store) -> None:
    rv = int(store.create(PODS, pod("a"))["metadata"]["resourceVersion"])
    store.update(PODS, pod("a", x="1"), expected=None)
    store.create("/secrets", pod("not-a-pod"))
    store.delete(PODS, "default", "a")
    watch = store.watch(PODS, since_rv=rv, timeout=30)
    versions = []
    for kind, _, version in watch:
        versions.append((kind, version))
        if kind == "DELETED":
            watch.close()
    assert versions == [("MODIFIED", 2), ("DELETED", 4)]


def test_a_namespace_hides_the_others(store: Store) -> None:
    watch = store.watch(PODS, "default", 0, timeout=0)
    store.create(PODS, pod("a", "other"))
    store.create(PODS, pod("b"))
    assert shown(watch) == [("ADDED", "b")]


def test_entering_and_leaving_a_selection_is_added_and_deleted(store: Store) -> None:
    store.create(PODS, pod("a"))
    watch = store.watch(PODS, since_rv=1, predicate=labelled(app="x"), timeout=0)
    store.update(PODS, pod("a", app="x"), expected=None)
    store.update(PODS, pod("a", app="x", more="1"), expected=None)
    store.update(PODS, pod("a", app="y"), expected=None)
    store.delete(PODS, "default", "a")
    seen = list(watch)
    assert [kind for kind, _, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    left = seen[-1][1]
    assert left["metadata"]["labels"] == {"app": "x", "more": "1"}
    assert left["metadata"]["resourceVersion"] == "4"


def test_a_deleted_object_is_shown_with_the_deletions_version(store: Store) -> None:
    store.create(PODS, pod("a", app="x"))
    store.delete(PODS, "default", "a")
    ((kind, obj, rv),) = store.watch(PODS, since_rv=1, predicate=labelled(app="x"), timeout=0)
    assert (kind, rv, obj["metadata"]["resourceVersion"]) == ("DELETED", 2, "2")


def test_what_a_reader_gets_is_its_own(store: Store) -> None:
    store.create(PODS, pod("a", app="x"))
    first = next(iter(store.watch(PODS, since_rv=0, predicate=labelled(app="x"), timeout=0)))[1]
    first["metadata"]["labels"]["app"] = "spoilt"
    assert len(list(store.watch(PODS, since_rv=0, predicate=labelled(app="x"), timeout=0))) == 1


def test_what_is_pending_at_the_deadline_comes_before_the_end(store: Store) -> None:
    """A reader that comes late, as on a busy machine, gets it all; then it ends, though more is written."""
    store.create(PODS, pod("a"))
    begun = store.watch(PODS, timeout=30)
    moments = [0.0]
    watch = Watch(
        begun._history, 1, published=store.current_rv, initial=begun.next(0), timeout=30, clock=lambda: moments[-1]
    )
    store.create(PODS, pod("b"))
    moments.append(31.0)
    seen = []
    for kind, obj, _ in watch:
        seen.append((kind, obj["metadata"]["name"]))
        store.create(PODS, pod(f"late-{len(seen)}"))
    assert seen[:2] == [("ADDED", "a"), ("ADDED", "b")]
    assert len(seen) < 5


def test_a_version_of_the_future_is_expired(store: Store) -> None:
    with pytest.raises(StatusError) as caught:
        store.watch(PODS, since_rv=5)
    assert caught.value.code == 410


def test_a_watch_that_fell_behind_is_told_so(store: Store) -> None:
    watch = store.watch(PODS, since_rv=0)
    store.create(PODS, pod("a"))
    for number in range(60):
        store.update(PODS, pod("a", x=str(number)), expected=None)
    with pytest.raises(StatusError) as caught:
        watch.next(0)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")


def test_a_bookmark_carries_the_newest_version_though_others_changed(store: Store) -> None:
    moments = [0.0]
    watch = Watch(
        store.watch(PODS)._history,
        0,
        published=store.current_rv,
        timeout=50,
        bookmark_interval=10,
        clock=lambda: moments[-1],
    )
    store.create("/secrets", pod("s"))
    store.create(PODS, pod("a"))
    store.create("/secrets", pod("t"))
    seen = []
    for item in watch.deliveries():
        seen.append((item.type, item.rv))
        moments.append(10.0 if item.type != BOOKMARK else 50.0)
    assert seen == [("ADDED", 2), (BOOKMARK, 3)]


def test_no_change_is_lost_when_a_watch_is_resumed_from_its_bookmarks(store: Store) -> None:
    """A writer runs while short watches follow each other, each from the last version that the one before showed."""
    total = 300
    done = threading.Event()

    def write() -> None:
        for number in range(total):
            store.create(PODS, pod(f"p{number}"))
            store.create("/secrets", pod(f"s{number}"))
        done.set()

    big = store._histories.setdefault(PODS, store._history(PODS))
    big._most_events = 10_000
    writer = threading.Thread(target=write)
    writer.start()
    seen, rv = [], 0
    while len(seen) < total:
        finished = done.is_set()
        for kind, obj, version in store.watch(PODS, since_rv=rv, timeout=0.01, bookmark_interval=0.002):
            rv = version
            if kind != BOOKMARK:
                seen.append(obj["metadata"]["name"])
        if finished and len(seen) < total:
            break
    writer.join(PATIENCE)
    assert seen == [f"p{number}" for number in range(total)]


def test_close_ends_a_waiting_reader_at_once(store: Store) -> None:
    watch = store.watch(PODS, since_rv=0)
    ended = threading.Event()

    def read() -> None:
        list(watch)
        ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    watch.close()
    assert ended.wait(PATIENCE)


def test_a_waiting_reader_wakes_on_a_change(store: Store) -> None:
    watch = store.watch(PODS, since_rv=0, timeout=30)
    writer = threading.Timer(0.05, lambda: store.create(PODS, pod("a")))
    writer.start()
    assert [item.type for item in watch.next(20)] == ["ADDED"]
    writer.join()
