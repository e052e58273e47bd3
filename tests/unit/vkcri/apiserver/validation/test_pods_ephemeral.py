"""A write through `pods/ephemeralcontainers`: what it may add, what it leaves as it was, and what it is refused for."""

import copy
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House, container
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}


def debugger(name: str = "debugger", **fields: Any) -> Object:
    return {"name": name, "image": "shell:1", **fields}


def a_pod(house: House, **spec: Any) -> Object:
    house.node()
    init = [container(name="first")]
    return house.pod(nodeName=NODE, **{"containers": [container(name="main")], "initContainers": init, **spec})


def added(house: House, pod: Object, *containers: Object, **changes: Any) -> Object:
    """The stored pod after a write that brings these ephemeral containers in the place of all there were."""
    new = copy.deepcopy(pod)
    new["spec"] |= {"ephemeralContainers": list(containers), **changes}
    return house.update("/pods", new, subresource="ephemeralcontainers")


def refused(house: House, pod: Object, *containers: Object) -> dict[str, str]:
    """Field -> message of the refusal."""
    with pytest.raises(StatusError) as caught:
        added(house, pod, *containers)
    assert caught.value.code == 422
    assert house.get("/pods", "default", "p") == pod
    return {item["field"]: item["message"] for item in (caught.value.details or {})["causes"]}


def test_ephemeral_containers_come_one_after_the_other_with_their_defaults(house: House) -> None:
    pod = a_pod(house)
    first = added(house, pod, debugger(targetContainerName="main", stdin=True))
    assert first["spec"]["ephemeralContainers"] == [
        debugger(
            targetContainerName="main",
            stdin=True,
            resources={},
            terminationMessagePath="/dev/termination-log",
            terminationMessagePolicy="File",
            imagePullPolicy="IfNotPresent",
        )
    ]
    assert first["metadata"]["generation"] == pod["metadata"]["generation"] + 1
    second = added(house, first, *first["spec"]["ephemeralContainers"], debugger("other"))
    assert [item["name"] for item in second["spec"]["ephemeralContainers"]] == ["debugger", "other"]


def test_everything_else_is_left_as_it_was(house: House) -> None:
    pod = a_pod(house)
    image = [container(name="main", image="other:2")]
    pod["metadata"]["labels"] = {"a": "b"}
    stored = added(house, pod, debugger(), containers=image, activeDeadlineSeconds=5)
    assert stored["spec"].pop("ephemeralContainers")
    before = house.get("/pods", "default", "p")
    assert before is not None
    before["spec"].pop("ephemeralContainers")
    assert stored["spec"] == before["spec"]
    assert stored["spec"]["containers"][0]["image"] != "other:2"
    assert "activeDeadlineSeconds" not in stored["spec"]
    assert "labels" not in stored["metadata"]


def test_one_that_is_there_neither_changes_nor_goes(house: House) -> None:
    pod = added(house, a_pod(house), debugger())
    gone = refused(house, pod, debugger("other"))
    assert 'existing ephemeral containers "debugger" may not be removed' in gone["spec.ephemeralContainers"]
    changed = refused(house, pod, debugger(image="other:2"))["spec.ephemeralContainers"]
    assert 'existing ephemeral containers "debugger" may not be changed' in changed
    assert "other:2" in changed


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"name": "main"}, "name", "Duplicate value"),
        ({"name": "first"}, "name", "Duplicate value"),
        ({"name": ""}, "name", "Required value"),
        ({"image": ""}, "image", "Required value"),
        ({"targetContainerName": "debugger"}, "targetContainerName", "Not found"),
        ({"ports": [{"containerPort": 80}]}, "ports", "cannot be set"),
        ({"resources": {"limits": {"cpu": "1"}}}, "resources", "cannot be set"),
        ({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}, "resizePolicy", "cannot be set"),
        ({"restartPolicy": "Always"}, "restartPolicy", "cannot be set"),
        ({"restartPolicyRules": [RULE]}, "restartPolicyRules", "cannot be set"),
        ({"livenessProbe": {"exec": {"command": ["x"]}}}, "livenessProbe", "cannot be set"),
        ({"readinessProbe": {"tcpSocket": {"port": 80}}}, "readinessProbe", "cannot be set"),
        ({"startupProbe": {}}, "startupProbe", "cannot be set"),
        ({"lifecycle": {}}, "lifecycle", "cannot be set"),
    ],
)
def test_what_an_ephemeral_container_may_not_be_is_refused_by_its_field(
    house: House, fields: Object, field: str, words: str
) -> None:
    found = refused(house, a_pod(house), {**debugger(), **fields})
    assert words in found[f"spec.ephemeralContainers[0].{field}"]


def test_a_mount_below_a_volume_is_refused(house: House) -> None:
    pod = a_pod(house, volumes=[{"name": "data", "emptyDir": {}}])
    mount = {"name": "data", "mountPath": "/data", "subPath": "below"}
    found = refused(house, pod, debugger(volumeMounts=[mount]))
    assert list(found) == ["spec.ephemeralContainers[0].volumeMounts[0].subPath"]
    unknown = refused(house, pod, debugger(volumeMounts=[{"name": "none", "mountPath": "/data"}]))
    assert list(unknown) == ["spec.ephemeralContainers[0].volumeMounts[0].name"]


def test_an_ordinary_write_brings_none(house: House) -> None:
    pod = a_pod(house)
    with pytest.raises(StatusError, match="pod updates may not change fields other than"):
        house.update("/pods", {**pod, "spec": {**pod["spec"], "ephemeralContainers": [debugger()]}})
