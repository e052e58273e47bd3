"""The reflector against a real HTTP server that ends its watches in every way an API server or a network does."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vkcri.kube.scripted import Call, Server, kubeconfig, status_object
from tests.waiting import PATIENCE, until
from vkcri.backoff import Backoff
from vkcri.errors import Refused, VkcriError
from vkcri.instance import Instance
from vkcri.kube import reflector as reflector_module
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig
from vkcri.kube.reflector import Callbacks, Item, Reflector
from vkcri.lifecycle import Process

FAST = Backoff(first=0.01, factor=2.0, most=0.05)


def pod(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": str(version)}, **more}


def listing(version: int, *items: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    metadata = {"resourceVersion": str(version), **metadata}
    return {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": bare}


class Mirror:
    """What a reader of the reflector holds, and how it came to it."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.raw: dict[str, bytes] = {}
        self.replaces = 0
        self.errors: list[VkcriError] = []
        self.log: list[str] = []

    def callbacks(self) -> Callbacks:
        return Callbacks(self.replace, self.upsert, self.delete, self.errors.append)

    def replace(self, items: list[Item]) -> None:
        self.held = {item.metadata["name"]: item.metadata["resourceVersion"] for item in items}
        self.raw = {item.metadata["name"]: item.raw for item in items}
        self.replaces += 1

    def upsert(self, item: Item) -> None:
        self.held[item.metadata["name"]] = item.metadata["resourceVersion"]
        self.raw[item.metadata["name"]] = item.raw
        self.log.append(f"{item.metadata['name']}@{item.metadata['resourceVersion']}")

    def delete(self, item: Item) -> None:
        del self.held[item.metadata["name"]]


class Bench:
    """A running reflector on a scripted server. script(call, n): n counts the calls of its kind, lists and watches
    apart, from 1."""

    def __init__(self, tmp_path: Path, script: Callable[[Call, int], None], **options: Any) -> None:
        self.mirror = Mirror()
        self.lists: list[Call] = []
        self.watches: list[Call] = []
        self._script = script
        self._lock = threading.Lock()
        self.server = Server(self._answer)
        config = Kubeconfig(kubeconfig(tmp_path / "kubeconfig", self.server.url), "t")
        self.ended: list[int] = []
        self.process = Process("test", Instance("watch-30"), end=self.ended.append)
        client = Client(config, wait=self.process.wait)
        settings = {"retry": FAST, **options}
        callbacks = self.mirror.callbacks()
        self.reflector = Reflector(client, "/api/v1/pods", callbacks, {"fieldSelector": "spec.nodeName=n"}, **settings)
        self.thread = threading.Thread(target=self.reflector.run, args=(self.process,))

    def _answer(self, call: Call) -> None:
        with self._lock:
            calls = self.watches if call.is_watch else self.lists
            calls.append(call)
            number = len(calls)
        self._script(call, number)

    def __enter__(self) -> "Bench":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
        self.reflector.end()
        self.server.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        assert self.ended == [], "a thread died"

    def has(self, **held: str) -> None:
        until(lambda: self.mirror.held == held)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda script, **options: Bench(tmp_path, script, **options)


Make = Callable[..., Bench]


def test_it_lists_then_watches_from_the_lists_version(bench: Make) -> None:
    def script(call: Call, _: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10, pod("a", 7)))
        call.begin()
        call.event("ADDED", pod("b", 11))
        call.event("MODIFIED", pod("a", 12))
        call.event("DELETED", pod("b", 13))
        return call.hold()

    with bench(script) as it:
        it.has(a="12")
        assert it.lists[0].params == {"fieldSelector": "spec.nodeName=n", "limit": "500"}
        params = it.watches[0].params
    assert params["resourceVersion"] == "10"
    assert (params["allowWatchBookmarks"], params["timeoutSeconds"]) == ("true", "300")
    assert params["fieldSelector"] == "spec.nodeName=n"
    assert it.mirror.log == ["b@11", "a@12"]


def test_the_bytes_of_a_watched_object_stay_as_they_came(bench: Make) -> None:
    odd = b'{"metadata":{"name":"a","resourceVersion":"11"}, "unknown" : [1.50, "\\u003c\\u00e9"] }'

    def script(call: Call, _: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10))
        call.begin()
        call.chunk(b'{"type":"ADDED","object":' + odd + b"}\n")
        return call.hold()

    with bench(script) as it:
        it.has(a="11")
        assert it.mirror.raw["a"] == odd


def test_a_lists_items_get_their_kind_and_api_version(bench: Make) -> None:
    def script(call: Call, _: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10, pod("a", 7, spec={"x": "é"})))
        call.begin()
        return call.hold()

    with bench(script) as it:
        it.has(a="7")
        assert json.loads(it.mirror.raw["a"]) == pod("a", 7, spec={"x": "é"})
        assert b'"kind":"Pod","apiVersion":"v1"' in it.mirror.raw["a"]


def test_a_list_comes_in_pages(bench: Make) -> None:
    def script(call: Call, _: int) -> None:
        if call.is_watch:
            call.begin()
            return call.hold()
        if "continue" not in call.params:
            return call.send(200, listing(10, pod("a", 1), **{"continue": "next"}))
        return call.send(200, listing(10, pod("b", 2)))

    with bench(script) as it:
        it.has(a="1", b="2")
        assert it.mirror.replaces == 1


def test_a_list_that_expires_between_pages_is_asked_for_at_once(bench: Make) -> None:
    def script(call: Call, _: int) -> None:
        if call.is_watch:
            call.begin()
            return call.hold()
        if "limit" not in call.params:
            return call.send(200, listing(20, pod("a", 1), pod("b", 2)))
        if "continue" in call.params:
            return call.fail(410, "the token expired", "Expired")
        return call.send(200, listing(10, pod("a", 1), **{"continue": "next"}))

    with bench(script) as it:
        it.has(a="1", b="2")
        until(lambda: it.watches)
        assert it.watches[0].params["resourceVersion"] == "20"
        assert it.mirror.replaces == 1


def _gone_as_status(call: Call) -> None:
    call.fail(410, "too old", "Expired")


def _gone_as_event(call: Call) -> None:
    call.begin()
    call.event("ERROR", status_object(410, "too old", "Expired"))
    call.end()


@pytest.mark.parametrize("gone", [_gone_as_status, _gone_as_event])
def test_410_in_either_form_means_a_new_list(bench: Make, gone: Callable[[Call], None]) -> None:
    def script(call: Call, n: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10, pod("a", 1)) if n == 1 else listing(50, pod("b", 40)))
        if n == 1:
            return gone(call)
        call.begin()
        return call.hold()

    with bench(script) as it:
        it.has(b="40")
        until(lambda: len(it.watches) == 2)
        assert it.watches[1].params["resourceVersion"] == "50"
        assert len(it.lists) == 2


def test_a_410_for_ever_is_met_with_back_off(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector_module, "GOOD_SECONDS", 3600.0)  # no pause of this machine is a good watch

    def script(call: Call, _: int) -> None:
        if call.is_watch:
            return call.fail(410, "too old", "Expired")
        return call.send(200, listing(10))

    with bench(script, retry=Backoff(first=0.1, factor=10_000.0, most=1000.0)) as it:
        until(lambda: len(it.lists) >= 2 and len(it.watches) >= 2)
        assert it.process.wait(0.3) is False
        assert len(it.lists) == 2  # 0.1, then 1000 s


@pytest.mark.parametrize("how", ["cut", "end", "refuse", "nonsense", "half"])
def test_a_broken_watch_resumes_from_the_last_version(bench: Make, how: str) -> None:
    def script(call: Call, n: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10))
        if n == 2 and how == "refuse":
            return call.fail(500, "etcd is away")
        call.begin()
        if n > 1:
            call.event("ADDED", pod("b", 12))
            return call.hold()
        call.event("ADDED", pod("a", 11))
        until(lambda: it.mirror.held)
        if how == "half":
            call.chunk(b'{"type":"ADDED","object":{"metadata":{"name":"hal')
        if how == "nonsense":
            call.chunk(b"{]\n")
        if how == "end":
            return call.end()
        return call.cut()

    with bench(script) as it:
        it.has(a="11", b="12")
        assert [call.params["resourceVersion"] for call in it.watches[1:]] in (["11"], ["11", "11"])
        assert len(it.lists) == 1


def test_a_bookmark_moves_the_version_and_nothing_else(bench: Make) -> None:
    def script(call: Call, n: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10, pod("a", 1)))
        call.begin()
        if n == 1:
            call.event("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "99"}})
            return call.end()
        return call.hold()

    with bench(script) as it:
        until(lambda: len(it.watches) == 2)
        assert it.watches[1].params["resourceVersion"] == "99"
        assert it.mirror.held == {"a": "1"}
        assert it.mirror.log == []


def test_an_error_event_that_is_no_410_resumes(bench: Make) -> None:
    def script(call: Call, n: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10, pod("a", 1)))
        call.begin()
        if n == 1:
            call.event("ERROR", status_object(500, "the watch's source broke"))
            return call.end()
        return call.hold()

    with bench(script) as it:
        until(lambda: len(it.watches) == 2)
        assert it.watches[1].params["resourceVersion"] == "10"
        assert len(it.lists) == 1


def test_three_refusals_in_a_row_end_in_a_new_list(bench: Make) -> None:
    def script(call: Call, n: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10 if n == 1 else 3, pod("a", n)))
        if call.params["resourceVersion"] == "10":
            return call.fail(500, "required revision is a future revision")
        call.begin()
        return call.hold()

    with bench(script) as it:
        it.has(a="2")
        assert len([call for call in it.watches if call.params["resourceVersion"] == "10"]) == 3


def test_a_server_that_is_away_when_it_starts_is_waited_for(bench: Make) -> None:
    def script(call: Call, n: int) -> None:
        if call.is_watch:
            call.begin()
            return call.hold()
        if n < 3:
            return call.cut()
        return call.send(200, listing(10, pod("a", 1)))

    with bench(script) as it:
        it.has(a="1")
        assert it.reflector.synced


def test_a_refusal_is_told_and_tried_again(bench: Make) -> None:
    def script(call: Call, n: int) -> None:
        if call.is_watch:
            call.begin()
            return call.hold()
        if n < 3:
            return call.fail(403, "you may not", "Forbidden")
        return call.send(200, listing(10, pod("a", 1)))

    with bench(script) as it:
        it.has(a="1")
        assert [type(error) for error in it.mirror.errors] == [Refused, Refused]


def test_retry_after_on_a_watch_is_honoured(bench: Make) -> None:
    came: list[float] = []

    def script(call: Call, n: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10))
        came.append(time.monotonic())
        if n == 1:
            return call.fail(429, "slow down", Retry_After="1")
        call.begin()
        return call.hold()

    with bench(script) as it:
        until(lambda: len(came) == 2)
        assert len(it.mirror.errors) == 1
    assert came[1] - came[0] >= 1.0


def test_a_silent_watch_is_asked_anew_without_complaint(bench: Make) -> None:
    def script(call: Call, _: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10))
        call.begin()
        return call.hold()

    with bench(script, read_timeout=5.0) as it:  # which the head of each answer has too
        until(lambda: len(it.watches) > 1)
        assert it.mirror.errors == []
        assert len(it.lists) == 1


def test_end_returns_from_a_quiet_watch(bench: Make) -> None:
    def script(call: Call, _: int) -> None:
        if not call.is_watch:
            return call.send(200, listing(10))
        call.begin()
        return call.hold()

    with bench(script) as it:
        until(lambda: it.watches and it.reflector._stream is not None)
        it.reflector.end()
        it.thread.join(PATIENCE)
        assert not it.thread.is_alive()
        assert it.mirror.errors == []
