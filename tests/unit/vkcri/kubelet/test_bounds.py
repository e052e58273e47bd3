"""Streams are bounded apart from connections: what is beyond is told to try again, and short requests are answered."""

import threading
from collections.abc import Iterator

import pytest

from tests.unit.vkcri.kubelet.node import Node
from tests.unit.vkcri.kubelet.test_logs import record
from tests.waiting import until
from vkcri.errors import NotFound
from vkcri.kubelet import main
from vkcri.kubelet.bounds import Streams
from vkcri.kubelet.logs import Blocks


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A node that has one stream at a time on either server."""
    monkeypatch.setattr(main, "KUBELET_STREAMS", 1)
    monkeypatch.setattr(main, "LOG_API_STREAMS", 1)
    made = Node()
    try:
        made.start_watcher()
        made.start_provider()
        made.start()
        yield made
    finally:
        made.close()


def test_a_stream_beyond_the_bound_is_told_to_try_again_and_a_log_is_read_beside_them(narrow: Node) -> None:
    narrow.run_pod("web", record(0, b"a line"))
    client, other = narrow.kubelet(), narrow.kubelet()
    headers = {"Authorization": "Bearer admin-token"}
    log = "/containerLogs/default/web/main"
    client.request("GET", f"{log}?follow=true", headers=headers)
    following = client.getresponse()
    assert following.readline() == b"a line\n"
    with narrow.people("/logs/default/web?follow=1") as people:
        assert people.readline() == b"a line\n"
        for path in (f"{log}?follow=true", "/exec/default/web/main?command=id&output=1"):
            upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"} if "exec" in path else {}
            other.request("GET", path, headers={**headers, **upgrade})
            answer = other.getresponse()
            assert (answer.status, answer.getheader("Retry-After")) == (503, "1")
            assert answer.read() == b"too many streams, try again\n"
        with narrow.people("/logs/default/web?follow=1&sse=1") as refused:
            assert (refused.status, refused.getheader("Retry-After")) == (503, "1")
        assert narrow.get(log) == (200, "a line\n")
        with narrow.people("/logs/default/web") as whole:
            assert whole.read() == b"a line\n"
    client.close()
    other.close()
    until(lambda: follows(narrow))


def follows(node: Node) -> bool:
    """Whether there is a place: the one before it has given it back."""
    client = node.kubelet()
    try:
        path = "/containerLogs/default/web/main?follow=true"
        client.request("GET", path, headers={"Authorization": "Bearer admin-token"})
        return client.getresponse().status == 200
    finally:
        client.close()


def test_a_place_is_given_back_once_by_whatever_ends_a_stream() -> None:
    bound = Streams(1)
    ended = threading.Event()

    def absent() -> Blocks:
        raise NotFound("no such log")

    with pytest.raises(NotFound):
        bound.follow(absent)
    blocks = bound.follow(lambda: Blocks(iter([b"one"]), ended.set))
    assert list(blocks) == [b"one"]
    blocks.close()
    blocks.close()
    assert ended.is_set()
    with pytest.raises(ZeroDivisionError), bound.session():
        raise ZeroDivisionError
    with bound.session():
        pass
