"""What the programs want a person to know, as `vkcri status` and `make run` print it."""

import shutil
from collections.abc import Iterator

import pytest

from tests.instances import own
from vkcri.cli import bringup
from vkcri.config import Instance, KubeletSettings
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.queue.notices import TOPIC, Notices


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = own("notes")
    yield made
    shutil.rmtree(made.run_dir, ignore_errors=True)


def test_each_command_stands_alone_and_is_said_by_the_last_program_that_names_it(instance: Instance) -> None:
    process = Process("test", instance)
    said = {}
    for role in ("watcher", "proxy"):
        publisher = Publisher(instance.queue_socket(role), (TOPIC,))
        said[role] = Notices(publisher)
        publisher.start(process)
    try:
        said["watcher"].put("identity", "joined as an administrator")
        said["watcher"].put("endpointslices", "may not be read", "kubectl create x")
        said["proxy"].put("rules", "the rules stay as they are", "kubectl create x")
        assert bringup.notice_lines(instance, seconds=5.0) == [
            "kube-proxy: the rules stay as they are",
            "    kubectl create x",
            "api-watcher: joined as an administrator",
        ]  # log-server is away
        assert bringup.notice_lines(instance, roles=("watcher",), seconds=5.0)[0] == "api-watcher: may not be read"
        said["watcher"].clear("identity")
        for role in said:
            said[role].clear("endpointslices" if role == "watcher" else "rules")
        assert bringup.notice_lines(instance, seconds=5.0) == []
    finally:
        process.drain()


def test_a_bootstrapped_nodes_session_wants_an_administrators_kubeconfig(instance: Instance) -> None:
    settings = KubeletSettings(instance=instance, bootstrap_kubeconfig="/b.conf", node_name="n1")
    first = bringup.next_steps(settings, "token")[0]
    assert "export KUBECONFIG=FILE" in first
    assert first.endswith("# an administrator's: the node's own identity may do little")
