"""Binding and eviction."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House
from vkcri.apiserver import strategy
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import StatusError

PODS = by_key("/pods")


def post(house: House, sub: str, ctx: RequestContext | None = None, **body: Any) -> int:
    return strategy.subresource_create(PODS, sub, "p", "default", body, ctx or house.ctx)[0]


def bind(house: House, **body: Any) -> int:
    return post(house, "binding", target={"kind": "Node", "name": NODE}, **body)


def code(house: House, sub: str, ctx: RequestContext | None = None, **body: Any) -> int:
    with pytest.raises(StatusError) as caught:
        post(house, sub, ctx, **body)
    return caught.value.code


def dry(house: House) -> RequestContext:
    ctx = house.ctx
    return RequestContext(ctx.store, ctx.user, ctx.now, ctx.settings, dry_run=True)


def test_a_binding_gives_a_pod_its_node_and_says_that_it_is_scheduled(house: House) -> None:
    house.pod()
    assert bind(house) == 201
    stored = house.get("/pods", "default", "p")
    assert stored is not None
    assert stored["spec"]["nodeName"] == NODE
    assert stored["status"]["conditions"] == [
        {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": house.now()}
    ]


def test_a_pod_is_bound_once(house: House) -> None:
    house.pod()
    bind(house)
    with pytest.raises(StatusError) as caught:
        bind(house)
    assert caught.value.code == 409
    assert f'pod p is already assigned to node "{NODE}"' in caught.value.message


def test_what_cannot_be_bound(house: House) -> None:
    target = {"kind": "Node", "name": NODE}
    assert code(house, "binding", target=target) == 404
    house.pod(schedulingGates=[{"name": "a/b"}])
    assert code(house, "binding", target=target) == 409
    assert code(house, "binding", target={}) == 422
    assert code(house, "binding", target={"kind": "Pod", "name": "x"}) == 422
    assert code(house, "binding", metadata={"uid": "other"}, target=target) == 409


def test_an_eviction_is_a_graceful_deletion(house: House) -> None:
    house.pod(nodeName=NODE)
    assert post(house, "eviction") == 201
    stored = house.get("/pods", "default", "p")
    assert stored is not None
    assert stored["metadata"]["deletionGracePeriodSeconds"] == 30
    assert post(house, "eviction", deleteOptions={"gracePeriodSeconds": 0}) == 201
    assert house.get("/pods", "default", "p") is None
    assert code(house, "eviction") == 404


def test_a_dry_run_leaves_the_pod_alone(house: House) -> None:
    stored = house.pod(nodeName=NODE)
    assert post(house, "eviction", dry(house)) == 201
    assert house.get("/pods", "default", "p") == stored
    house.delete("/pods", "default", "p", gracePeriodSeconds=0)
    stored = house.pod()
    assert post(house, "binding", dry(house), target={"name": NODE}) == 201
    assert house.get("/pods", "default", "p") == stored


def test_an_eviction_names_its_pod_and_its_node_is_the_pods(house: House) -> None:
    house.pod(nodeName="n2")
    assert code(house, "eviction", metadata={"name": "other"}) == 400
    assert code(house, "eviction", deleteOptions={"preconditions": {"uid": "other"}}) == 409
    assert code(house, "eviction", house.as_node()) == 403


def test_other_subresources_take_no_posts_here(house: House) -> None:
    house.pod()
    assert code(house, "status") == 405
