"""A pod that names a RuntimeClass gets its overhead and its place; one that contradicts it is refused."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, pod
from vkcri.apiserver.admission.runtime_classes import merge_tolerations
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
KEY = "node.k8s.io/runtimeclasses"


@pytest.fixture
def classes(house: House) -> House:
    """`plain` says nothing more, `heavy` has an overhead, `placed` a place."""
    house.create(KEY, {"metadata": {"name": "plain"}, "handler": "runc"})
    house.create(
        KEY,
        {
            "metadata": {"name": "heavy"},
            "handler": "kata",
            "overhead": {"podFixed": {"cpu": "0.25", "memory": "120Mi"}},
        },
    )
    scheduling = {"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "kata", "operator": "Exists"}]}
    house.create(KEY, {"metadata": {"name": "placed"}, "handler": "kata", "scheduling": scheduling})
    return house


def refused(house: House, obj: Object) -> str:
    with pytest.raises(StatusError) as caught:
        house.create("/pods", obj)
    assert caught.value.code == 403
    return caught.value.message.removeprefix('pods "p" is forbidden: ')


def test_a_class_that_there_is_not_is_refused(classes: House) -> None:
    text = 'pod rejected: RuntimeClass "ghost" not found'
    assert refused(classes, pod(runtimeClassName="ghost")) == text
    classes.delete(KEY, "", "plain")
    assert refused(classes, pod(runtimeClassName="plain")) == text.replace("ghost", "plain")


def test_the_class_overhead_becomes_the_pods(classes: House) -> None:
    spec = classes.pod(runtimeClassName="heavy")["spec"]
    assert spec["overhead"] == {"cpu": "250m", "memory": "120Mi"}
    assert classes.get("/pods", "default", "p")["spec"]["runtimeClassName"] == "heavy"  # type: ignore[index]
    assert "overhead" not in classes.pod("q", runtimeClassName="plain")["spec"]


def test_an_overhead_of_ones_own_is_the_class_or_refused(classes: House) -> None:
    same = {"cpu": "250m", "memory": "122880Ki"}
    assert classes.pod("same", runtimeClassName="heavy", overhead=same)["spec"]["overhead"]["cpu"] == "250m"
    differs = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    assert refused(classes, pod(runtimeClassName="heavy", overhead={"cpu": "1"})) == differs
    without = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    assert refused(classes, pod(runtimeClassName="plain", overhead={"cpu": "1"})) == without
    assert refused(classes, pod(overhead={"cpu": "1"})) == without


def test_selector_and_tolerations_are_joined(classes: House) -> None:
    spec = classes.pod(runtimeClassName="placed", nodeSelector={"zone": "a"})["spec"]
    assert spec["nodeSelector"] == {"zone": "a", "disk": "fast"}
    keys = [item["key"] for item in spec["tolerations"]]
    assert keys == ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "kata"]
    conflict = "conflict: runtimeClass.scheduling.nodeSelector[disk] = fast; pod.spec.nodeSelector[disk] = slow"
    assert refused(classes, pod(runtimeClassName="placed", nodeSelector={"disk": "slow"})) == conflict


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}], [0]),
        ([{"key": "a", "operator": "Equal", "value": "1"}, {"key": "a", "operator": "Exists"}], [1]),
        ([{"key": "a", "operator": "Exists"}, {"operator": "Exists"}], [1]),
        ([{"operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists"}], [0, 1]),
        ([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "operator": "Exists"}], [1]),
        (
            [
                {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
                {"key": "a", "operator": "Exists", "effect": "NoExecute"},
            ],
            [1],
        ),
        ([{"key": "a", "value": "1"}, {"key": "a", "operator": "Equal", "value": "1"}], [0]),
        ([{"key": "a", "operator": "Equal", "value": "1"}, {"key": "a", "operator": "Equal", "value": "2"}], [0, 1]),
    ],
)
def test_a_toleration_that_another_covers_is_left_out(given: list[Object], kept: list[int]) -> None:
    assert merge_tolerations(given) == [given[index] for index in kept]
