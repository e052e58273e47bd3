import re
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import node
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError

READY = {"type": "Ready", "status": "True"}


def a_node(name: str = "me", conditions: tuple[dict[str, str], ...] = (READY,), **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": list(conditions)}}


def test_this_guest_as_the_only_ready_node_is_taken() -> None:
    assert node.the_node([a_node()], "me") == "me"
    assert node.the_node([a_node(taints=[{"key": "k", "effect": "PreferNoSchedule"}])], "me") == "me"


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], "the cluster has no node: .*make run first"),
        ([a_node("other")], "nodes are other, and me is to be the only one"),
        ([a_node(), a_node("other")], "nodes are me, other"),
        ([a_node(conditions=())], "not Ready: it has not said so yet"),
        (
            [a_node(conditions=({"type": "Ready", "status": "False", "message": "no network"},))],
            "not Ready: no network",
        ),
        ([a_node(taints=[{"key": "k/p", "effect": "NoSchedule"}])], "kubectl taint nodes me k/p-$"),
        ([a_node(unschedulable=True)], "kubectl uncordon me$"),
    ],
)
def test_what_is_missing_is_said_in_one_line_with_its_cure(nodes: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        node.the_node(nodes, "me")
    assert "\n" not in str(caught.value)


def test_a_ready_nodes_taint_of_the_time_before_is_waited_for() -> None:
    before = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    answers = iter([[a_node(taints=before)], [a_node(taints=before)], [a_node()], []])
    assert node.settled(lambda: next(answers)) == [a_node()]
    assert node.settled(lambda: [a_node(taints=before)], 0.0) == [a_node(taints=before)]


@pytest.mark.parametrize(
    "tainted",
    [
        a_node(conditions=(), taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]),
        a_node(taints=[{"key": "k", "effect": "NoSchedule"}]),
    ],
)
def test_another_taint_and_one_of_a_node_that_is_not_ready_are_told_at_once(tainted: dict[str, Any]) -> None:
    answers = iter([[tainted], []])
    assert node.settled(lambda: next(answers)) == [tainted]


def test_a_release_is_what_tests_are_built_of() -> None:
    assert node.released("v1.34.2") == "v1.34.2"


@pytest.mark.parametrize("version", ["v1.34.2+k3s1", "v1.35.0-rc.1", "v1.34.2-gke.1500", "v0.0.0-master+$Format:%H$"])
def test_a_cluster_that_is_no_release_of_kubernetes_is_refused_by_its_version(version: str) -> None:
    with pytest.raises(ConfigError, match=rf"^the cluster is Kubernetes {re.escape(version)}, which is no release"):
        node.released(version)


def test_without_a_cluster_make_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make cluster first"):
        node.find(tmp_path / "admin.conf", RuntimeSettings(node_name="me"))


def test_a_cluster_that_does_not_answer_is_told_with_kubectls_words(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "admin.conf"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\nclusters:\n- {name: c, cluster: {server: 'https://127.0.0.1:1'}}\n"
        "users:\n- {name: u, user: {token: t}}\ncontexts:\n- {name: c, context: {cluster: c, user: u}}\n"
        "current-context: c\n"
    )
    with pytest.raises(ConfigError, match=r"does not answer: .*127\.0\.0\.1:1"):
        node.find(kubeconfig, RuntimeSettings(node_name="me"))
