"""A static pod is asked for by its name, whatever becomes of its mirror pod, and by either UID."""

import json

from tests.unit.vkcri.kubelet.node import Node
from tests.waiting import until
from vkcri.kubelet.pods import Pods

STATIC = "0123456789abcdef0123456789abcdef"


def mirror(node: Node, uid: str) -> None:
    """The API server's copy of pod `fixed`."""
    annotations = {"kubernetes.io/config.mirror": STATIC}
    value = {"metadata": {"namespace": "default", "name": "fixed", "uid": uid, "annotations": annotations}, "spec": {}}
    node.publisher("watcher").put("pods", uid, json.dumps(value).encode(), source="api")


def test_a_pods_source_is_the_topics_whatever_the_pod_says_itself(node: Node) -> None:
    pods = Pods(node.instance)
    pods.start(node.process)
    for name, source in (("web", "api"), ("fixed", "file")):
        annotations = {"kubernetes.io/config.source": "file", "own": "kept"}
        value = {"metadata": {"namespace": "default", "name": name, "uid": name, "annotations": annotations}}
        node.publisher("watcher").put("pods", name, json.dumps(value).encode(), source=source)
    until(lambda: len(pods.listed()) == 2)
    listed = {item["metadata"]["name"]: item["metadata"]["annotations"] for item in pods.listed()}
    sources = {name: annotations["kubernetes.io/config.source"] for name, annotations in listed.items()}
    assert sources == {"web": "api", "fixed": "file"}
    assert listed["web"]["own"] == "kept"


def test_a_mirror_pod_is_not_among_the_pods_and_its_uid_means_the_static_pods(node: Node) -> None:
    pods = Pods(node.instance)
    pods.start(node.process)
    mirror(node, "mirror-1")
    node.put_pod("fixed", "main", uid=STATIC)
    until(lambda: pods.translated("mirror-1") == STATIC and pods.find("default", "fixed") is not None)
    found = pods.find("default", "fixed")
    assert found is not None
    assert found.uid == STATIC
    assert [pod.uid for pod in pods.all() if pod.name == "fixed"] == [STATIC]
    node.publisher("watcher").delete("pods", "mirror-1", source="api")
    mirror(node, "mirror-2")
    until(lambda: pods.translated("mirror-2") == STATIC)
    until(lambda: pods.translated("mirror-1") == "mirror-1")
    assert pods.find("default", "fixed") == found
