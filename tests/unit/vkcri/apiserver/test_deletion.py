"""When a deleted pod, namespace or other object goes."""

import contextlib
import json
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, pod, seconds_between
from vkcri.apiserver import verbs
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.routing import Target
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


def left(house: House, **options: Any) -> Object | None:
    return house.delete("/pods", "default", "p", **options)


def grace_of(house: House, stored: Object | None) -> tuple[int, float]:
    assert stored is not None
    metadata = stored["metadata"]
    return metadata["deletionGracePeriodSeconds"], seconds_between(house.now(), metadata["deletionTimestamp"])


def test_a_pod_without_a_node_goes_at_once(house: House) -> None:
    house.pod()
    assert left(house) is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_goes_at_once(house: House, phase: str) -> None:
    stored = house.pod(nodeName="n1")
    house.update("/pods", {**stored, "status": {"phase": phase}}, subresource="status")
    assert left(house) is None


def test_a_running_pod_has_the_grace_of_its_spec(house: House) -> None:
    house.pod(nodeName="n1", terminationGracePeriodSeconds=7)
    stored = left(house)
    assert grace_of(house, stored) == (7, 7)
    assert stored is not None
    assert stored["metadata"]["generation"] == 2


def test_a_deletion_may_bring_its_own_grace(house: House) -> None:
    house.pod(nodeName="n1")
    assert grace_of(house, left(house, gracePeriodSeconds=120)) == (120, 120)


def test_grace_zero_removes(house: House) -> None:
    house.pod(nodeName="n1")
    assert left(house, gracePeriodSeconds=0) is None


def test_a_negative_grace_is_one_second(house: House) -> None:
    house.pod(nodeName="n1")
    assert grace_of(house, left(house, gracePeriodSeconds=-1)) == (1, 1)


def test_a_second_deletion_changes_nothing(house: House) -> None:
    house.pod(nodeName="n1")
    first = left(house)
    house.seconds += 5
    assert left(house) == first


def test_a_grace_can_be_shortened_from_when_it_began(house: House) -> None:
    house.pod(nodeName="n1")
    began = house.now()
    left(house)
    house.seconds += 5
    stored = left(house, gracePeriodSeconds=10)
    assert stored is not None
    assert stored["metadata"]["deletionGracePeriodSeconds"] == 10
    assert seconds_between(began, stored["metadata"]["deletionTimestamp"]) == 10


@pytest.mark.parametrize("asked", [100, 1, -1])
def test_a_shortened_grace_that_is_over_already_ends_now_and_not_in_the_past(house: House, asked: int) -> None:
    house.pod(nodeName="n1")
    left(house, gracePeriodSeconds=600)
    house.seconds += 500
    assert grace_of(house, left(house, gracePeriodSeconds=asked)) == (1, 0)


def test_a_repeated_deletion_asks_for_no_more_than_it_says(house: House) -> None:
    stored = house.pod(nodeName="n1")
    began = house.now()
    left(house, gracePeriodSeconds=600)
    stored = house.get("/pods", "default", "p") or {}
    house.update("/pods", {**stored, "status": {"phase": "Succeeded"}}, subresource="status")
    house.seconds += 5
    shorter = left(house, gracePeriodSeconds=300)
    assert shorter is not None
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 300
    assert seconds_between(began, shorter["metadata"]["deletionTimestamp"]) == 300
    assert left(house, gracePeriodSeconds=0) is None


def test_a_grace_cannot_be_lengthened(house: House) -> None:
    house.pod(nodeName="n1")
    first = left(house)
    assert left(house, gracePeriodSeconds=300) == first


def test_a_pod_that_is_going_goes_at_once_with_grace_zero(house: House) -> None:
    house.pod(nodeName="n1")
    left(house)
    assert left(house, gracePeriodSeconds=0) is None


def test_a_finalizer_keeps_even_a_pod_deleted_with_grace_zero(house: House) -> None:
    created = pod(nodeName="n1")
    created["metadata"]["finalizers"] = ["a/b"]
    house.create("/pods", created)
    assert grace_of(house, left(house, gracePeriodSeconds=0)) == (0, 0)
    assert left(house, gracePeriodSeconds=0) is not None


def test_another_uid_is_not_deleted(house: House) -> None:
    house.pod()
    with pytest.raises(StatusError) as caught:
        left(house, preconditions={"uid": "other"})
    assert caught.value.code == 409
    assert house.get("/pods", "default", "p") is not None


def test_a_config_map_goes_at_once_whatever_the_grace(house: House) -> None:
    house.create("/configmaps", {"metadata": {"name": "c", "namespace": "default"}})
    assert house.delete("/configmaps", "default", "c", gracePeriodSeconds=30) is None


def test_a_namespace_becomes_terminating(house: House) -> None:
    house.namespace("x")
    stored = house.delete("/namespaces", "", "x")
    assert stored is not None
    assert stored["status"]["phase"] == "Terminating"
    assert stored["metadata"]["deletionTimestamp"] == house.now()
    house.seconds += 5
    assert house.delete("/namespaces", "", "x") == stored


def test_unknown_delete_options_are_refused(house: House) -> None:
    house.pod()
    with pytest.raises(StatusError) as caught:
        left(house, gracePeriod=1)
    assert caught.value.code == 400


def test_a_pod_that_goes_at_once_is_seen_marked_and_then_gone(house: House) -> None:
    house.pod(nodeName="n1")
    with contextlib.closing(house.store.watch("/pods", since_rv=house.store.current_rv())) as watch:
        assert left(house, gracePeriodSeconds=0) is None
        found = watch.next(0)
    assert [item.type for item in found] == ["MODIFIED", "DELETED"]
    graces = [json.loads(item.value)["metadata"]["deletionGracePeriodSeconds"] for item in found]
    assert graces == [0, 0]


def test_the_last_finalizers_end_is_seen_as_the_deletion_alone(house: House) -> None:
    """By a request, as PATCH and PUT are."""
    metadata = {"name": "c", "namespace": "default", "finalizers": ["a/b"]}
    house.create("/configmaps", {"metadata": metadata})
    stored = house.delete("/configmaps", "default", "c")
    assert stored is not None
    target = Target("update", by_key("/configmaps"), "default", "c")
    stored["metadata"].pop("finalizers")
    with contextlib.closing(house.store.watch("/configmaps", since_rv=house.store.current_rv())) as watch:
        code, answered = verbs.update(verbs.Call(target, {}, house.ctx, body=stored))
        found = watch.next(0)
    assert [item.type for item in found] == ["DELETED"]
    assert (code, "finalizers" in answered["metadata"]) == (200, False)


def test_preconditions_that_do_not_hold_are_told_in_a_deletions_words(house: House) -> None:
    house.pod()
    with pytest.raises(StatusError, match="does not match the UID in record") as caught:
        left(house, preconditions={"uid": "other"})
    assert (caught.value.code, (caught.value.details or {})["kind"]) == (409, "Pod")
