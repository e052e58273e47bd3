"""A manifest becomes the pod that a kubelet would make of it, or is refused in its words."""

import json
from typing import Any

import pytest

from vkcri.errors import Invalid
from vkcri.watcher import manifests

FILE, NODE = "/etc/vk-cri/manifests/web.yaml", "node-1"
YAML = b"""
# by hand
apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations: {note: mine}
spec:
  containers:
  - name: main
    image: shell:1
    args: ["2026-11-25"]
"""


def read(data: bytes = YAML, file: str = FILE, node: str = NODE) -> dict[str, Any]:
    return manifests.read(data, file, node).pod


def manifest(**spec: Any) -> bytes:
    """A good pod, its spec changed."""
    main = {"name": "main", "image": "shell:1"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [main], **spec}}
    return json.dumps(pod).encode()


def test_a_manifest_becomes_a_pod_of_this_node() -> None:
    pod = read()
    metadata, spec = pod["metadata"], pod["spec"]
    assert (metadata["name"], metadata["namespace"], spec["nodeName"]) == ("web-node-1", "default", NODE)
    assert metadata["annotations"] == {
        "note": "mine",
        "kubernetes.io/config.hash": metadata["uid"],
        "kubernetes.io/config.source": "file",
    }
    assert spec["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30), "defaults are filled in"
    assert pod["status"] == {"phase": "Pending"}


def test_json_is_yaml_and_means_the_same() -> None:
    import yaml

    assert read(json.dumps(yaml.safe_load(YAML)).encode()) == read()


def test_the_uid_is_of_content_node_and_file() -> None:
    assert len(read()["metadata"]["uid"]) == 32
    same = read(YAML + b"# a comment changes nothing\n")["metadata"]["uid"]
    assert same == read()["metadata"]["uid"]
    others = (
        read(YAML.replace(b"shell:1", b"shell:2")),
        read(node="node-2"),
        read(file="/etc/vk-cri/manifests/other.yaml"),
    )
    assert len({same, *(pod["metadata"]["uid"] for pod in others)}) == 4


def test_a_uid_of_its_own_is_kept_and_is_its_hash() -> None:
    pod = read(YAML.replace(b"name: web", b"name: web\n  uid: mine", 1))
    assert pod["metadata"]["uid"] == pod["metadata"]["annotations"]["kubernetes.io/config.hash"] == "mine"


def test_a_toleration_of_the_same_kind_is_replaced_and_others_stay() -> None:
    own = {"operator": "Exists", "effect": "NoExecute"}
    other = {"key": "a", "operator": "Exists", "effect": "NoExecute"}
    assert read(manifest(tolerations=[{**own, "tolerationSeconds": 5}, other]))["spec"]["tolerations"] == [own, other]


def test_unknown_fields_are_dropped() -> None:
    assert "surprise" not in read(manifest(surprise=1))["spec"]


def test_of_several_documents_the_first_counts_and_it_is_said() -> None:
    found = manifests.read(b"---" + YAML + b"---\nkind: Nonsense\n", FILE, NODE)
    assert found.pod == read()
    assert found.warnings == (f"{FILE} has several documents: the first one counts",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "couldn't parse as pod"),
        (b"a: [", "couldn't parse as pod"),
        (b"\xff\xfe\x00", "couldn't parse as pod"),
        (b"- a list\n", "couldn't parse as pod"),
        (b"{[1]: 2}", "couldn't parse as pod"),
        (b"[" * 5000, "couldn't parse as pod"),
        (b"a: &a [*a]", "couldn't parse as pod"),
        (b"a: !!binary aGk=", "couldn't parse as pod"),
        (b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", 'not "ConfigMap"'),
        (b"apiVersion: v2\nkind: Pod\nmetadata: {name: a}\n", 'of "v2"'),
        (b"metadata: {name: a}\n", "'Kind' is missing"),
        (YAML.replace(b"name: web", b"namespace: x"), "name is needed for the pod"),
        (YAML.replace(b"name: web", b"name: Web_"), "metadata.name"),
        (YAML.replace(b"image: shell:1", b"image: ''"), "spec.containers[0].image: Required value"),
        (YAML.replace(b'["2026-11-25"]', b"2026-11-25"), "cannot unmarshal string"),
        (YAML.replace(b"{note: mine}", b"{note: 1}"), "cannot unmarshal number"),
    ],
)
def test_what_is_no_pod_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"serviceAccountName": "a"}, "serviceaccounts"),
        ({"serviceAccount": "a"}, "serviceaccounts"),
        ({"imagePullSecrets": [{"name": "a"}]}, "secrets"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "a"}}]}, "secrets"),
        ({"volumes": [{"name": "v", "configMap": {"name": "a"}}]}, "configmaps"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "a"}}]}}]}, "configmaps"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "serviceaccounts (via projected volumes)",
        ),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}]}, "persistentvolumeclaims"),
        ({"volumes": [{"name": "v", "csi": {"driver": "a.b"}}]}, "csidrivers (via CSI volumes)"),
        (
            {"containers": [{"name": "m", "image": "i", "envFrom": [{"configMapRef": {"name": "a"}}]}]},
            "configmaps",
        ),
    ],
)
def test_a_static_pod_may_refer_to_nothing_of_the_api(spec: dict[str, Any], kind: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(manifest(**spec))
    assert str(caught.value) == f"static pods may not reference {kind}"


def test_a_projected_source_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Invalid, match=r'^unknown source for projected volume "v"$'):
        read(manifest(volumes=[{"name": "v", "projected": {"sources": [{"later": {"name": "a"}}]}}]))


def test_what_needs_no_api_server_is_allowed() -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [
        {"name": "a", "hostPath": {"path": "/srv"}},
        {"name": "b", "emptyDir": {}},
        {"name": "c", "downwardAPI": {"items": items}},
        {"name": "d", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
    ]
    assert len(read(manifest(volumes=volumes))["spec"]["volumes"]) == 4


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, ""),
        ({"priority": 2000001000, "priorityClassName": "system-node-critical"}, ""),
        ({"priorityClassName": "system-node-critical"}, "nil priority"),
        ({"priority": 5}, "priority without priorityClassName"),
        ({"priority": 5, "priorityClassName": "a"}, "other than 2000001000"),
    ],
)
def test_a_priority_that_may_not_hold_is_warned_of(spec: dict[str, Any], words: str) -> None:
    warnings = manifests.read(manifest(**spec), FILE, NODE).warnings
    assert (words in warnings[0]) if words else warnings == ()
