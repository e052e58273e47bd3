"""What the node refuses by its pod's text alone, and how a person is told. That no field is left out is
tests/unit/bridge/test_pod_fields.py's."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.unsupported import REFUSED, unsupported
from tests.unit.bridge.building import a_pod, spec

Place = Callable[[dict[str, Any]], tuple[dict[str, Any], str]]


def volume(**source: Any) -> dict[str, Any]:
    return a_pod(volumes=[{"name": "v", **source}])


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        (a_pod(spec(volumeMounts=[{"bindMountOptions": ["x"]}])), "containers[0].volumeMounts[0].bindMountOptions"),
        (a_pod(spec(securityContext={"windowsOptions": {"a": 1}})), "containers[0].securityContext.windowsOptions"),
        (a_pod(securityContext={"windowsOptions": {"a": 1}}), "securityContext.windowsOptions"),
        (a_pod(securityContext={"seLinuxChangePolicy": "Recursive"}), "securityContext.seLinuxChangePolicy"),
        (a_pod(securityContext={"seLinuxChangePolicy": "MountOption"}), ""),
        (a_pod(securityContext={"fsGroupChangePolicy": "OnRootMismatch", "fsGroup": 1}), ""),
        (a_pod(resources={"claims": [{"name": "x"}]}), "resources.claims"),
        (
            a_pod(initContainers=[spec(lifecycle={"preStop": {"httpGet": {"port": 1, "protocol": "HTTP2"}}})]),
            "initContainers[0].lifecycle.preStop.httpGet.protocol",
        ),
        (volume(configMap={"name": "c", "defaultUser": 0}), "volumes[0].configMap.defaultUser"),
        (volume(secret={"defaultUser": 7}), "volumes[0].secret.defaultUser"),
        (volume(secret={"items": [{"key": "k", "path": "p", "user": 7}]}), "volumes[0].secret.items[0].user"),
        (volume(downwardAPI={"items": [{"path": "p", "user": 7}]}), "volumes[0].downwardAPI.items[0].user"),
        (volume(projected={"defaultUser": 7}), "volumes[0].projected.defaultUser"),
        (
            volume(projected={"sources": [{"secret": {"items": [{"user": 7}]}}]}),
            "volumes[0].projected.sources[0].secret.items[0].user",
        ),
        (
            volume(projected={"sources": [{"configMap": {}}, {"serviceAccountToken": {"path": "t", "user": 7}}]}),
            "volumes[0].projected.sources[1].serviceAccountToken.user",
        ),
        (volume(emptyDir={"mode": 448}), "volumes[0].emptyDir.mode"),
        (volume(emptyDir={"medium": "Memory"}, configMap=None), ""),
    ],
)
def test_a_field_that_would_be_ignored_is_refused_by_its_path(pod: dict[str, Any], path: str) -> None:
    assert unsupported(pod) == ([f"spec.{path}"] if path else [])


def in_volume(kind: str) -> Place:
    return lambda found: (volume(**{kind: found}), f"volumes[0].{kind}.")


PLACES: dict[str, list[Place]] = {
    "PodSpec": [lambda found: (a_pod(**found), "")],
    "PodSecurityContext": [lambda found: (a_pod(securityContext=found), "securityContext.")],
    "Container": [
        lambda found: (a_pod(spec(**found)), "containers[0]."),
        lambda found: (a_pod(initContainers=[spec("init", **found)]), "initContainers[0]."),
        lambda found: (a_pod(ephemeralContainers=[spec("debug", **found)]), "ephemeralContainers[0]."),
    ],
    "SecurityContext": [
        lambda found: (a_pod(spec(securityContext=found)), "containers[0].securityContext."),
    ],
    "ResourceRequirements": [
        lambda found: (a_pod(resources=found), "resources."),
        lambda found: (a_pod(spec(resources=found)), "containers[0].resources."),
    ],
    "VolumeMount": [lambda found: (a_pod(spec(volumeMounts=[found])), "containers[0].volumeMounts[0].")],
    "EmptyDirVolumeSource": [in_volume("emptyDir")],
    "ConfigMapVolumeSource": [in_volume("configMap")],
    "SecretVolumeSource": [in_volume("secret")],
    "DownwardAPIVolumeSource": [in_volume("downwardAPI")],
    "ProjectedVolumeSource": [in_volume("projected")],
    "KeyToPath": [
        lambda found: (volume(configMap={"items": [found]}), "volumes[0].configMap.items[0]."),
        lambda found: (volume(secret={"items": [found]}), "volumes[0].secret.items[0]."),
    ],
    "DownwardAPIVolumeFile": [
        lambda found: (volume(downwardAPI={"items": [found]}), "volumes[0].downwardAPI.items[0].")
    ],
    "ServiceAccountTokenProjection": [
        lambda found: (
            volume(projected={"sources": [{"serviceAccountToken": found}]}),
            "volumes[0].projected.sources[0].serviceAccountToken.",
        )
    ],
}
"""Where each definition stands in a pod: the pod, and the path to its fields."""


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in REFUSED.items() for field in fields])
def test_every_field_that_is_refused_whatever_its_value_is_named_wherever_it_stands(kind: str, field: str) -> None:
    for place in PLACES[kind]:
        pod, path = place({field: ["anything"]})
        assert unsupported(pod) == [f"spec.{path}{field}"]
        assert unsupported(place({field: None})[0]) == []


@pytest.mark.parametrize(
    ("action", "refused"), [("Restart", False), ("RestartAllContainers", False), ("RestartOthers", True)]
)
def test_a_restart_rule_may_restart_its_own_container_or_all_of_the_pod(action: str, refused: bool) -> None:
    rule = {"action": action, "exitCodes": {"operator": "In", "values": [1]}}
    path = "spec.containers[0].restartPolicyRules[0].action"
    assert unsupported(a_pod(spec(restartPolicyRules=[rule]))) == ([path] if refused else [])
