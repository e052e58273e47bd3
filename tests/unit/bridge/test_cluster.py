"""What the bridge knows of the cluster, as a worker looks it up."""

import json
import shutil
from collections.abc import Iterator

import pytest

from bridge.cluster import Cluster
from bridge.spec.context import NotHeardOf
from tests.contract.bridge_node import NODE, TOPICS
from tests.instances import own
from tests.waiting import wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import NotFound
from vkcri.lifecycle import Process
from vkcri.queue import Publisher

pytestmark = pytest.mark.xdist_group("bridge-cluster")
INSTANCE = own("core")


class Around:
    """A cluster that hears from a watcher; `heard`: the keys of which it told."""

    def __init__(self) -> None:
        self.process = Process("test", INSTANCE, end=lambda _: None)
        self.watcher = Publisher(INSTANCE.queue_socket("watcher"), TOPICS, sources={"pods": ("api", "file")})
        self.watcher.start(self.process)
        self.heard: list[str] = []
        settings = RuntimeSettings(instance=INSTANCE, node_name=NODE)
        self.cluster = Cluster(settings, lambda: None, self.heard.append)
        self.cluster.start(self.process)


@pytest.fixture
def around() -> Iterator[Around]:
    found = Around()
    yield found
    found.process.drain()
    shutil.rmtree(INSTANCE.run_dir, ignore_errors=True)


def test_a_class_is_unknown_until_the_topic_was_read_whole_and_missing_then(around: Around) -> None:
    assert around.cluster.runtime_handler("") == ""
    with pytest.raises(NotHeardOf):
        around.cluster.runtime_handler("kata")
    around.watcher.replace("runtimeclasses", {})

    def missing() -> str:
        try:
            return around.cluster.runtime_handler("kata")
        except NotHeardOf:
            return ""
        except NotFound as error:
            return str(error)

    assert wait_for("an answer", missing) == 'runtimeclass.node.k8s.io "kata" not found'


def test_a_class_gives_its_handler_and_tells_who_waits_for_it(around: Around) -> None:
    around.watcher.put("runtimeclasses", "kata", json.dumps({"handler": "kata-qemu"}).encode())
    wait_for("the class", lambda: "runtimeclasses/kata" in around.heard)
    assert around.cluster.runtime_handler("kata") == "kata-qemu"
    around.watcher.put("runtimeclasses", "kata", json.dumps({"handler": "kata-clh"}).encode())
    wait_for("the change", lambda: around.cluster.runtime_handler("kata") == "kata-clh")
