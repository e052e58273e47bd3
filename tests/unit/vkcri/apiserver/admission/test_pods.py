"""What admission adds to pods and nodes: account, token volume, tolerations, priority, the node's range."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, container, pod
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def refused(house: House, obj: Object) -> StatusError:
    with pytest.raises(StatusError) as caught:
        house.create("/pods", obj)
    return caught.value


def test_every_pod_mounts_its_accounts_token(house: House) -> None:
    spec = house.pod(initContainers=[container(name="i")])["spec"]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert len(volume["name"]) == len("kube-api-access-") + 5
    sources = volume["projected"]["sources"]
    assert volume["projected"]["defaultMode"] == 420
    assert sources[0] == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    assert sources[1] == {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    assert [item["path"] for item in sources[2]["downwardAPI"]["items"]] == ["namespace"]
    for field in ("initContainers", "containers"):
        mounts = spec[field][0]["volumeMounts"]
        assert mounts == [{"name": volume["name"], "readOnly": True, "mountPath": MOUNT}]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (False, None, False), (None, False, False), (True, False, True), (False, True, False)],
)
def test_the_pods_word_on_mounting_counts_before_its_accounts(
    house: House, of_pod: bool | None, of_account: bool | None, mounted: bool
) -> None:
    account: Object = {"metadata": {"name": "a", "namespace": "default"}}
    if of_account is not None:
        account["automountServiceAccountToken"] = of_account
    house.create("/serviceaccounts", account)
    word = {} if of_pod is None else {"automountServiceAccountToken": of_pod}
    spec = house.pod(serviceAccountName="a", **word)["spec"]
    assert bool(spec.get("volumes")) == mounted


def test_a_mount_of_ones_own_at_that_place_is_kept(house: House) -> None:
    mounts = [{"name": "v", "mountPath": MOUNT}]
    spec = house.pod(volumes=[{"name": "v", "emptyDir": {}}], containers=[container(volumeMounts=mounts)])["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["v"]
    assert spec["containers"][0]["volumeMounts"] == mounts


def test_an_account_that_is_not_there_is_403(house: House) -> None:
    error = refused(house, pod(serviceAccountName="ghost"))
    assert error.code == 403
    assert error.message == (
        'pods "p" is forbidden: error looking up service account default/ghost: serviceaccount "ghost" not found'
    )


def test_pull_secrets_come_from_the_account_unless_the_pod_has_its_own(house: House) -> None:
    metadata = {"name": "a", "namespace": "default"}
    house.create("/serviceaccounts", {"metadata": metadata, "imagePullSecrets": [{"name": "s"}]})
    assert house.pod("one", serviceAccountName="a")["spec"]["imagePullSecrets"] == [{"name": "s"}]
    own = [{"name": "mine"}]
    assert house.pod("two", serviceAccountName="a", imagePullSecrets=own)["spec"]["imagePullSecrets"] == own


def test_the_deprecated_account_field_is_heard(house: House) -> None:
    house.create("/serviceaccounts", {"metadata": {"name": "a", "namespace": "default"}})
    assert house.pod(serviceAccount="a")["spec"]["serviceAccountName"] == "a"


def test_tolerations_of_five_minutes_are_added(house: House) -> None:
    found = house.pod()["spec"]["tolerations"]
    assert [(item["key"], item["effect"], item["tolerationSeconds"]) for item in found] == [
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    ]


def test_tolerations_that_are_there_are_kept(house: House) -> None:
    mine = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]
    found = house.pod(tolerations=mine)["spec"]["tolerations"]
    assert [item["key"] for item in found] == ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    assert "tolerationSeconds" not in found[0]
    everything = [{"operator": "Exists"}]
    assert house.pod("q", tolerations=everything)["spec"]["tolerations"] == everything


@pytest.mark.parametrize(
    ("name", "priority"), [("", 0), ("system-node-critical", 2000001000), ("system-cluster-critical", 2000000000)]
)
def test_priority(house: House, name: str, priority: int) -> None:
    spec = house.pod(**({"priorityClassName": name} if name else {}))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (priority, "PreemptLowerPriority")


def test_an_unknown_priority_class_and_a_number_of_ones_own_are_403(house: House) -> None:
    assert "no PriorityClass with name gold was found" in refused(house, pod(priorityClassName="gold")).message
    assert "must not be provided in pod spec" in refused(house, pod(priority=5)).message


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
    ],
)
def test_the_qos_class_is_in_the_first_status(house: House, resources: Object, qos: str) -> None:
    assert house.pod(containers=[container(resources=resources)])["status"]["qosClass"] == qos


def test_the_first_node_has_the_instances_pod_range(house: House) -> None:
    spec = house.node("one")["spec"]
    assert (spec["podCIDR"], spec["podCIDRs"]) == ("10.244.81.0/24", ["10.244.81.0/24"])
    assert "podCIDR" not in house.node("two")["spec"]
