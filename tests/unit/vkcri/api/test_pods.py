"""Accessors of pods: defaults, references, QoS."""

from typing import Any

import pytest

from vkcri.api import pods


def pod(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u", **metadata}, "spec": spec or {}}


def with_resources(*resources: dict[str, Any]) -> dict[str, Any]:
    return pod({"containers": [{"name": str(index), "resources": item} for index, item in enumerate(resources)]})


FULL = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
        ([{"limits": {"ephemeral-storage": "1Gi"}}], "BestEffort"),
        ([{"limits": FULL, "requests": FULL}], "Guaranteed"),
        ([{"limits": FULL}], "Guaranteed"),
        ([{"limits": FULL, "requests": {"cpu": "1000m", "memory": "1024Mi"}}], "Guaranteed"),
        ([{"limits": FULL, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": FULL}, {}], "Burstable"),
        ([{"requests": {"memory": "1Mi"}}], "Burstable"),
        ([{"limits": {"cpu": "1"}}], "Burstable"),
    ],
)
def test_qos_class_follows_requests_and_limits(resources: list[dict[str, Any]], qos: str) -> None:
    assert pods.qos_class(with_resources(*resources)) == qos


def test_qos_class_counts_init_containers_but_no_ephemeral_ones() -> None:
    base = {"containers": [{"name": "a", "resources": {"limits": FULL}}]}
    assert pods.qos_class(pod({**base, "initContainers": [{"name": "i"}]})) == "Burstable"
    assert pods.qos_class(pod({**base, "ephemeralContainers": [{"name": "e"}]})) == "Guaranteed"


def test_qos_class_of_a_pod_without_containers_is_best_effort() -> None:
    assert pods.qos_class(pod({"containers": []})) == "BestEffort"


def test_pod_level_resources_decide_the_qos_class() -> None:
    spec = {"containers": [{"name": "a"}], "resources": {"limits": FULL, "requests": FULL}}
    assert pods.qos_class(pod(spec)) == "Guaranteed"
    spec["resources"] = {"requests": {"cpu": "1"}}
    assert pods.qos_class(pod(spec)) == "Burstable"


def test_references_name_every_config_map_and_secret_once() -> None:
    spec = {
        "imagePullSecrets": [{"name": "pull"}, {}],
        "volumes": [
            {"name": "a", "configMap": {"name": "cm-volume"}},
            {"name": "b", "secret": {"secretName": "secret-volume"}},
            {
                "name": "c",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "cm-projected"}},
                        {"secret": {"name": "secret-projected"}},
                        {"serviceAccountToken": {"path": "token"}},
                        {"downwardAPI": {}},
                    ]
                },
            },
            {"name": "d", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "secret-csi"}}},
            {"name": "e", "emptyDir": {}},
        ],
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm-env", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "secret-env", "key": "k"}}},
                    {"name": "C", "value": "x"},
                ],
            }
        ],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "cm-init"}}]}],
        "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "secret-ephemeral"}}]}],
    }
    assert pods.references(pod(spec)) == {
        "secrets/ns/pull",
        "configmaps/ns/cm-volume",
        "secrets/ns/secret-volume",
        "configmaps/ns/cm-projected",
        "secrets/ns/secret-projected",
        "secrets/ns/secret-csi",
        "configmaps/ns/cm-env",
        "secrets/ns/secret-env",
        "configmaps/ns/cm-init",
        "secrets/ns/secret-ephemeral",
    }


def test_all_containers_come_with_their_kind_in_order() -> None:
    spec = {
        "containers": [{"name": "c"}],
        "initContainers": [{"name": "i"}],
        "ephemeralContainers": [{"name": "e"}],
    }
    assert [(kind, item["name"]) for kind, item in pods.all_containers(pod(spec))] == [
        ("init", "i"),
        ("container", "c"),
        ("ephemeral", "e"),
    ]
    assert pods.container(pod(spec), "e") == ("ephemeral", {"name": "e"})
    assert pods.container(pod(spec), "x") is None


@pytest.mark.parametrize(
    ("spec", "metadata", "seconds"),
    [
        ({}, {}, 30),
        ({"terminationGracePeriodSeconds": 5}, {}, 5),
        ({"terminationGracePeriodSeconds": 0}, {}, 0),
        ({"terminationGracePeriodSeconds": 5}, {"deletionGracePeriodSeconds": 2}, 2),
        ({"terminationGracePeriodSeconds": 5}, {"deletionGracePeriodSeconds": 0}, 0),
        ({"terminationGracePeriodSeconds": -1}, {}, 0),
    ],
)
def test_grace_is_the_deletions_then_the_specs(spec: dict[str, Any], metadata: dict[str, Any], seconds: int) -> None:
    assert pods.grace_seconds(pod(spec, **metadata)) == seconds


def test_a_static_pod_is_known_by_its_source() -> None:
    static = pod(annotations={"kubernetes.io/config.source": "file"})
    assert (pods.source(static), pods.is_static(static)) == ("file", True)
    assert (pods.source(pod()), pods.is_static(pod())) == ("api", False)


def test_what_a_pod_says_of_its_source_itself_does_not_count() -> None:
    said = pod(annotations={"kubernetes.io/config.source": "file", "own": "kept"})
    found = pods.from_source(said, "api")
    assert (pods.source(found), pods.is_static(found), pods.is_critical(found)) == ("api", False, False)
    assert pods.annotations(found) == {"kubernetes.io/config.source": "api", "own": "kept"}
    assert pods.is_critical(pods.from_source(pod(), "file"))
    assert pods.annotations(said)["kubernetes.io/config.source"] == "file", "what was given stays as it is"


@pytest.mark.parametrize(("phase", "final"), [("Succeeded", True), ("Failed", True), ("Running", False), (None, False)])
def test_only_succeeded_and_failed_are_terminal(phase: str | None, final: bool) -> None:
    assert pods.is_terminal({"phase": phase}) is final
    assert not pods.is_terminal(None)
