"""What an object looks like once its absent fields are filled in."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, container, pod
from vkcri.apiserver import defaults
from vkcri.apiserver.resources import by_key


def defaulted(key: str, obj: dict[str, Any]) -> dict[str, Any]:
    defaults.apply(by_key(key), obj)
    return obj


def test_a_pods_spec() -> None:
    spec = defaulted("/pods", pod())["spec"]
    assert spec == {
        "containers": spec["containers"],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "securityContext": {},
    }


def test_a_container() -> None:
    assert defaulted("/pods", pod())["spec"]["containers"] == [
        {
            "name": "main",
            "image": "busybox:1.37",
            "imagePullPolicy": "IfNotPresent",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.37", "IfNotPresent"),
        ("localhost:5000/busybox", "Always"),
        ("localhost:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
        ("busybox:latest@sha256:" + "0" * 64, "Always"),
    ],
)
def test_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert defaults.pull_policy(image) == policy


def test_limits_are_requests_where_none_is_given() -> None:
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}
    found = defaulted("/pods", pod(containers=[container(resources=resources)]))
    assert found["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_host_network_claims_the_containers_ports() -> None:
    found = defaulted("/pods", pod(hostNetwork=True, containers=[container(ports=[{"containerPort": 80}])]))
    assert found["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


def test_probes_and_hooks() -> None:
    http = {"httpGet": {"port": 80}}
    found = defaulted(
        "/pods", pod(containers=[container(readinessProbe=dict(http), lifecycle={"preStop": dict(http)})])
    )
    main = found["spec"]["containers"][0]
    assert main["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert main["lifecycle"]["preStop"]["httpGet"] == {"port": 80, "path": "/", "scheme": "HTTP"}


@pytest.mark.parametrize(
    ("volume", "wanted"),
    [
        ({}, {"emptyDir": {}}),
        ({"configMap": {"name": "c"}}, {"configMap": {"name": "c", "defaultMode": 420}}),
        ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
        (
            {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {
                "downwardAPI": {
                    "defaultMode": 420,
                    "items": [{"path": "l", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}}],
                }
            },
        ),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {
                "projected": {
                    "defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                }
            },
        ),
    ],
)
def test_volumes(volume: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = defaulted("/pods", pod(volumes=[{"name": "v", **volume}]))
    assert found["spec"]["volumes"] == [{"name": "v", **wanted}]


def test_env_field_refs_and_divisors() -> None:
    entries = [
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    found = defaulted("/pods", pod(containers=[container(env=entries)]))["spec"]["containers"][0]["env"]
    assert found[0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert found[1]["valueFrom"]["resourceFieldRef"]["divisor"] == "0"


def test_a_negative_grace_becomes_one_second() -> None:
    assert defaulted("/pods", pod(terminationGracePeriodSeconds=-5))["spec"]["terminationGracePeriodSeconds"] == 1


def test_a_service() -> None:
    spec = defaulted("/services", {"metadata": {}, "spec": {"ports": [{"port": 80}]}})["spec"]
    assert spec == {
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "type": "ClusterIP",
        "internalTrafficPolicy": "Cluster",
    }


def test_client_affinity_lasts_three_hours() -> None:
    spec = defaulted("/services", {"metadata": {}, "spec": {"sessionAffinity": "ClientIP"}})["spec"]
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


def test_defaults_are_idempotent(house: House) -> None:
    stored = house.pod(hostNetwork=True, containers=[container(ports=[{"containerPort": 80}])])
    assert defaulted("/pods", stored) == house.get("/pods", "default", "p")


@pytest.mark.parametrize(
    ("own", "requests", "limits"),
    [
        ({"requests": {"cpu": "1"}}, {"cpu": "1", "memory": "96Mi"}, {"cpu": "1"}),
        ({"limits": {"memory": "1Gi"}}, {"cpu": "300m", "memory": "96Mi"}, {"cpu": "400m", "memory": "1Gi"}),
        ({"limits": {"hugepages-2Mi": "4Mi"}}, {"cpu": "300m", "memory": "96Mi", "hugepages-2Mi": "4Mi"}, None),
    ],
)
def test_a_pods_own_resources_are_filled_in_from_its_containers(own: Any, requests: Any, limits: Any) -> None:
    one = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m"}}
    two = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    given = pod(resources=own, containers=[container(resources=one), container(name="b", resources=two)])
    found = defaulted("/pods", given)["spec"]["resources"]
    assert found["requests"] == requests
    assert found["limits"] == limits or limits is None


def test_a_pod_without_resources_of_its_own_gets_none() -> None:
    found = defaulted("/pods", pod(containers=[container(resources={"requests": {"cpu": "1"}})]))
    assert "resources" not in found["spec"]
