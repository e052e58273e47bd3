"""What the programs want a person to know, as `vkcri status` and `make run` print it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import remove_folders
from tests.instances import own
from tests.living import living
from vkcri.cli import bringup
from vkcri.config import ClusterSettings, KubeletSettings
from vkcri.instance import Instance
from vkcri.queue import Publisher
from vkcri.queue.notices import TOPIC, Notices


@pytest.fixture
def instance() -> Iterator[Instance]:
    made = own("notes")
    yield made
    remove_folders(made)


def test_each_command_stands_alone_and_is_said_by_the_last_program_that_names_it(instance: Instance) -> None:
    with living("test", instance) as process:
        said = {}
        for role in ("watcher", "proxy"):
            publisher = Publisher(instance.queue_socket(role), (TOPIC,))
            said[role] = Notices(publisher)
            publisher.start(process)
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


def test_a_bootstrapped_nodes_session_wants_an_administrators_kubeconfig(instance: Instance) -> None:
    settings = KubeletSettings(instance=instance, bootstrap_kubeconfig="/b.conf", node_name="n1")
    first = bringup.next_steps(settings, "token")[0]
    assert "export KUBECONFIG=FILE" in first
    assert first.endswith("# an administrator's: the node's own identity may do little")


def test_a_given_node_identitys_session_wants_an_administrators_kubeconfig_too(instance: Instance) -> None:
    settings = KubeletSettings(instance=instance, kubeconfig="/given.conf", node_name="n1")
    assert "export KUBECONFIG=FILE" in bringup.next_steps(settings, "token", "system:node:n1")[0]
    assert "export KUBECONFIG=/given.conf" in bringup.next_steps(settings, "token", "kubernetes-admin")[0]
    assert "export KUBECONFIG=/given.conf" in bringup.next_steps(settings, "token", "")[0]
    embedded = KubeletSettings(instance=instance, node_name="n1")
    assert "admin.conf" in bringup.next_steps(embedded, "token", "system:node:n1")[0]


def test_who_the_node_is_is_asked_of_api_watcher(instance: Instance) -> None:
    settings = KubeletSettings(instance=instance, kubeconfig="/given.conf", node_name="n1")
    assert bringup.user(settings) == ""  # it is away
    with living("test", instance) as process:
        publisher = Publisher(instance.queue_socket("watcher"), (TOPIC,))
        publisher.serve("identity", lambda _body, _left: {"user": "system:node:n1"})
        publisher.start(process)
        assert bringup.user(settings) == "system:node:n1"


def test_what_was_said_is_not_said_again_with_another_programs_words(instance: Instance) -> None:
    with living("test", instance) as process:
        said = {}
        for role in ("watcher", "kubelet", "proxy"):
            publisher = Publisher(instance.queue_socket(role), (TOPIC,))
            said[role] = Notices(publisher)
            publisher.start(process)
        told: set[str] = set()
        said["watcher"].put("endpointslices", "may not be read", "kubectl create x")
        said["watcher"].put("identity", "joined as an administrator")
        first = bringup.notice_lines(instance, roles=("watcher",), seconds=5.0, told=told)
        assert [line.strip() for line in first] == [
            "api-watcher: may not be read",
            "kubectl create x",
            "api-watcher: joined as an administrator",
        ]
        assert bringup.notice_lines(instance, roles=("watcher",), seconds=5.0, told=told) == []
        said["proxy"].put("rules", "the rules stay as they are", "kubectl create x")
        said["kubelet"].put("serving-certificate", "waits for approval", "kubectl certificate approve y")
        assert bringup.notice_lines(instance, seconds=5.0, told=told) == [
            "log-server: waits for approval",
            "    kubectl certificate approve y",
        ]


def test_a_bootstrapped_node_goes_on_with_the_identity_that_it_has(instance: Instance, tmp_path: Path) -> None:
    def settings(**given: str) -> ClusterSettings:
        return ClusterSettings(instance=instance, node_name="n1", **given)

    there, gone = tmp_path / "there.conf", tmp_path / "gone.conf"
    there.touch()
    own = settings(kubeconfig=str(instance.kubelet_kubeconfig))
    running = settings(bootstrap_kubeconfig=str(there))
    assert bringup._goes_on(own, running)
    assert bringup._goes_on(settings(bootstrap_kubeconfig=str(gone)), running)
    assert bringup._goes_on(settings(bootstrap_kubeconfig=str(gone)), own)
    assert not bringup._goes_on(settings(bootstrap_kubeconfig=str(there)), own)  # which may be another cluster's
    assert not bringup._goes_on(own, settings(kubeconfig="/given.conf"))
    assert not bringup._goes_on(settings(), running)
