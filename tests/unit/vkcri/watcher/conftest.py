"""A node's surroundings in one process: an API server whose faults are chosen, and a provider's queue."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instances import own
from tests.unit.vkcri.kube.scripted import kubeconfig
from tests.unit.vkcri.watcher.tiny_api import TinyApi
from tests.waiting import until
from vkcri.instance import Instance
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.queue.notices import Notice, Notices, parse
from vkcri.watcher.access import Access
from vkcri.watcher.services import PATHS


class Surroundings:
    """api: the API server; provider: the runtime side's publisher; publisher: api-watcher's own."""

    def __init__(self, tmp_path: Path, instance: Instance) -> None:
        self.ended: list[int] = []
        self.process = Process("api-watcher", instance, end=self.ended.append)
        self.api = TinyApi()
        config = Kubeconfig(kubeconfig(tmp_path / "kubeconfig", self.api.url), "vkcri/test")
        self.client = Client(config, wait=self.process.wait)
        provider = Process("provider", instance, end=self.ended.append)
        self.provider = Publisher(instance.queue_socket("provider"), ("pod-status", "node-status", "events"))
        self.provider.start(provider)
        topics = ("pods", "objects", *PATHS, "node", "events", "notices")
        self.publisher = Publisher(instance.queue_socket("watcher"), topics, sources={"pods": ("api", "file")})
        self.notices = Notices(self.publisher)
        self.access = Access(self.notices, "/some/kubeconfig")
        self.publisher.start(self.process)
        self._provider_process = provider

    def report(self, uid: str, status: dict[str, Any], *, finished: bool = False) -> None:
        document = {"namespace": "default", "name": "a", "uid": uid, "status": status, "finished": finished}
        self.provider.put("pod-status", uid, json.dumps(document).encode())

    def has(self, topic: str, key: str, expected: bytes | None) -> None:
        until(lambda: self.publisher.get(topic, key) == expected)

    def notice(self, key: str) -> Notice | None:
        held = self.publisher.get("notices", key)
        return parse(held) if held is not None else None

    def close(self) -> None:
        self.process.stop()
        self._provider_process.drain()
        self.api.close()
        self.process.drain()
        assert self.ended == [], "a thread died"


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    instance = own("watch")
    shutil.rmtree(instance.run_dir, ignore_errors=True)
    found = Surroundings(tmp_path, instance)
    yield found
    found.close()
    shutil.rmtree(instance.run_dir, ignore_errors=True)
