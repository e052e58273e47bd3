"""A topic as JSON lines."""

import json
import threading
from pathlib import Path

import pytest

from tests.waiting import PATIENCE, until
from vkcri.errors import Invalid, NotFound, Unavailable
from vkcri.instance import Instance
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.queue.tail import socket_of, tail


@pytest.fixture
def owner(folder: Path, process: Process) -> Publisher:
    publisher = Publisher(folder / "watcher.sock", ["node", "objects"])
    publisher.start(process)
    return publisher


def test_snapshot_puts_deletes_and_synced_are_lines(owner: Publisher) -> None:
    owner.put("node", "n1", b'{"kind":"Node"}')
    owner.mark_synced("node")
    lines: list[str] = []
    ended: list[Unavailable] = []

    def follow() -> None:
        try:
            tail(owner.path, "node", lines.append)
        except Unavailable as error:
            ended.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    until(lambda: len(lines) == 2)
    owner.delete("node", "n1")
    until(lambda: len(lines) == 3)
    owner.close()
    thread.join(PATIENCE)
    assert [json.loads(line) for line in lines] == [
        {"put": "n1", "source": "", "bytes": 15, "value": {"kind": "Node"}},
        {"synced": ""},
        {"delete": "n1"},
    ]
    assert ended


def test_objects_show_keys_and_sizes_only(owner: Publisher) -> None:
    owner.put("objects", "secrets/ns/s", b'{"data":{"password":"aHVudGVyMg=="}}')
    owner.put("objects", "configmaps/ns/c", b"absent")
    lines: list[str] = []
    tail(owner.path, "objects", lines.append, follow=False)
    assert [json.loads(line) for line in lines] == [
        {"put": "secrets/ns/s", "source": "", "bytes": 36},
        {"put": "configmaps/ns/c", "source": "", "bytes": 6},
    ]


def test_an_owner_that_is_away_or_lacks_the_topic_is_said(owner: Publisher, folder: Path) -> None:
    with pytest.raises(NotFound, match="watcher owns no topic 'pods'"):
        tail(owner.path, "pods", print)
    with pytest.raises(Unavailable, match=r"nobody\.sock"):
        tail(folder / "nobody.sock", "pods", print)


def test_a_topic_finds_its_owners_socket() -> None:
    instance = Instance("any-1")
    assert socket_of(instance, "pods") == instance.queue_socket("watcher")
    assert socket_of(instance, "pod-status") == instance.queue_socket("provider")
    assert socket_of(instance, "events", "proxy") == instance.queue_socket("proxy")
    for topic, role in (("events", None), ("nonsense", None), ("events", "nobody")):
        with pytest.raises(Invalid, match=r"there are|every role"):
            socket_of(instance, topic, role)
