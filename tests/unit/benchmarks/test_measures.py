"""A figure is taken of what happened: a watch that ends before is an error, and no pod is left behind either way."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks._measures import BURST, EXITS_A_POD, Work
from benchmarks._pods import Contender

READY = [{"type": "Ready", "status": "True"}]
NODE = Contender("n", dict)


class Server:
    """In the place of an API server whose node makes pods Ready, of which a watch shows the first `shown`."""

    def __init__(self, shown: int) -> None:
        self.shown, self.pods, self.made = shown, {}, 0
        self.nodes: set[str] = set()

    def create(self, _: str, pod: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        self.nodes.add(pod["spec"]["nodeName"])
        self.pods[pod["metadata"]["name"]] = pod | {"status": {"conditions": READY}}
        return {"metadata": {"resourceVersion": str(self.made)}}

    def get(self, _: str, params: Mapping[str, str]) -> dict[str, Any]:
        name = params["fieldSelector"].partition("=")[2]
        return {"items": [self.pods[name]] if name in self.pods else []}

    def delete(self, path: str, _: Mapping[str, Any]) -> None:
        del self.pods[path.rpartition("/")[2]]

    @contextlib.contextmanager
    def watch(self, *_: Any, **__: Any) -> Iterator[Iterator[bytes]]:
        events = [{"type": "MODIFIED", "object": pod} for pod in self.pods.values()]
        yield iter([json.dumps(event).encode() for event in events[: self.shown]])


def work(server: Any) -> Work:
    return Work(server, Path("/admin.conf"))


def test_a_pod_that_is_ready_is_timed_and_gone() -> None:
    server = Server(shown=1)
    assert work(server).create_to_ready(NODE) >= 0
    assert (server.made, server.pods, server.nodes) == (1, {}, {"n"})


def test_a_watch_that_ends_before_the_pod_is_ready_is_no_figure() -> None:
    server = Server(shown=0)
    with pytest.raises(AssertionError, match=r"the watch ended before these were Ready: bench-1$"):
        work(server).create_to_ready(NODE)
    assert server.pods == {}


def test_a_burst_is_over_when_the_last_pod_is_ready() -> None:
    server = Server(shown=BURST)
    assert work(server).burst(NODE) >= 0
    assert (server.made, server.pods) == (BURST, {})


def test_a_burst_of_which_one_pod_was_not_seen_ready_is_no_figure() -> None:
    server = Server(shown=BURST - 1)
    with pytest.raises(AssertionError, match=re.escape(f"Ready: bench-{BURST}")):
        work(server).burst(NODE)
    assert server.pods == {}


class Ending(Server):
    """Its containers end once something comes through their fifo, the last one without being seen."""

    def __init__(self, *, seen: bool = True) -> None:
        super().__init__(shown=10**6)
        self.seen = seen
        self.exits = 0
        self.ended: list[str] = []  # of the newest pod

    def create(self, _: str, pod: dict[str, Any]) -> dict[str, Any]:
        (volume,) = pod["spec"]["volumes"]
        self.ended = []
        for container in pod["spec"]["containers"]:
            fifo = Path(volume["hostPath"]["path"]) / container["command"][-1].rpartition("/")[2]
            threading.Thread(target=self._run, args=(container["name"], fifo), daemon=True).start()
        return super().create(_, pod)

    def _run(self, name: str, fifo: Path) -> None:
        assert fifo.read_text() == "end\n"
        self.exits += 1
        self.ended.append(name)

    def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        return super().get(path, params) if params else {"metadata": {"resourceVersion": "1"}}

    @contextlib.contextmanager
    def watch(self, *_: Any, **__: Any) -> Iterator[Iterator[bytes]]:
        yield self._events()

    def _events(self) -> Iterator[bytes]:
        yield self._event([])
        while self.seen:
            yield self._event(list(self.ended))

    def _event(self, ended: list[str]) -> bytes:
        states = [{"name": name, "state": {"terminated": {}}} for name in ended]
        status = {"conditions": READY, "containerStatuses": states}
        metadata = {"name": next(iter(self.pods))}
        return json.dumps({"type": "MODIFIED", "object": {"metadata": metadata, "status": status}}).encode()


def test_each_container_of_as_many_pods_as_it_takes_ends_once() -> None:
    server, count = Ending(), EXITS_A_POD + 2
    times = work(server).exits_to_status(NODE, count, apart=0.0)
    assert len(times) == server.exits == count
    assert (server.made, server.pods) == (2, {})


def test_an_exit_that_no_event_shows_is_no_figure() -> None:
    server = Ending(seen=False)
    with pytest.raises(AssertionError, match="the watch ended"):
        work(server).exits_to_status(NODE, 1, apart=0.0)
    assert server.pods == {}
