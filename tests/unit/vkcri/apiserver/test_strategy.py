"""From a request to what is stored: strictness, metadata, the scope of an update, generations."""

import copy
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import START, House, pod
from vkcri.apiserver import internal, strategy
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
PODS, MAPS = by_key("/pods"), by_key("/configmaps")
MAP: Object = {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": "b"}}
MISSPELT: Object = {"metadata": {"name": "c", "namespace": "default"}, "dta": {}}


def with_validation(house: House, word: str) -> RequestContext:
    ctx = house.ctx
    return RequestContext(ctx.store, ctx.user, ctx.now, ctx.settings, field_validation=word)


def test_an_unknown_field_is_400_under_strict(house: House) -> None:
    with pytest.raises(StatusError) as caught:
        strategy.prepare_create(MAPS, MISSPELT, with_validation(house, "Strict"))
    assert caught.value.code == 400
    assert caught.value.message == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"'
    )


def test_an_unknown_field_is_a_warning_under_warn_and_nothing_under_ignore(house: House) -> None:
    warn, ignore = with_validation(house, "Warn"), with_validation(house, "Ignore")
    assert "dta" not in strategy.prepare_create(MAPS, MISSPELT, warn)
    assert warn.warnings == ['unknown field "dta"']
    assert "dta" not in strategy.prepare_create(MAPS, MISSPELT, ignore)
    assert ignore.warnings == []


def test_a_wrong_type_is_400_whatever_the_validation(house: House) -> None:
    with pytest.raises(StatusError) as caught:
        strategy.prepare_create(MAPS, {**MAP, "data": ["x"]}, with_validation(house, "Ignore"))
    assert caught.value.code == 400
    assert (
        "cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string" in caught.value.message
    )


@pytest.mark.parametrize(("field", "value"), [("kind", "Secret"), ("apiVersion", "v2")])
def test_another_kind_or_version_is_400(house: House, field: str, value: str) -> None:
    with pytest.raises(StatusError) as caught:
        strategy.prepare_create(MAPS, {**MAP, field: value}, house.ctx)
    assert caught.value.code == 400
    assert f"in the data ({value}) does not match the expected" in caught.value.message


def test_the_server_writes_the_metadata_that_is_its_own(house: House) -> None:
    given = {
        "uid": "mine",
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z",
        "generation": 9,
        "managedFields": [{}],
        "selfLink": "/x",
    }
    stored = house.create("/configmaps", {**MAP, "metadata": {**MAP["metadata"], **given}})
    metadata = stored["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] == house.now()
    assert not {"deletionTimestamp", "generation", "managedFields", "selfLink"} & set(metadata)
    assert (stored["kind"], stored["apiVersion"]) == ("ConfigMap", "v1")


def test_a_resource_version_has_no_place_in_a_creation(house: House) -> None:
    with pytest.raises(StatusError) as caught:
        house.create("/configmaps", {**MAP, "metadata": {**MAP["metadata"], "resourceVersion": "1"}})
    assert caught.value.code == 400


def test_generated_names_are_long_enough_to_differ_and_short_enough(house: House) -> None:
    metadata = {"generateName": "a" * 80 + "-", "namespace": "default"}
    names = {house.create("/configmaps", {"metadata": dict(metadata)})["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(len(name) == 63 for name in names)


def test_a_new_pod_is_pending_with_its_qos_class_whatever_status_was_given(house: House) -> None:
    stored = house.create("/pods", {**pod(), "status": {"phase": "Running", "podIP": "1.2.3.4"}})
    assert stored["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert stored["metadata"]["generation"] == 1


def test_a_new_node_keeps_its_status(house: House) -> None:
    assert house.node()["status"]["capacity"]["cpu"] == "2"


def test_an_update_changes_no_status_and_a_status_update_no_spec(house: House) -> None:
    stored = house.pod()
    both = copy.deepcopy(stored)
    both["spec"]["containers"][0]["image"] = "other:1"
    both["status"]["phase"] = "Running"
    both["metadata"]["labels"] = {"a": "b"}
    after = house.update("/pods", both, subresource="status")
    assert after["spec"] == stored["spec"]
    assert after["status"]["phase"] == "Running"
    again = copy.deepcopy(after)
    again["spec"]["containers"][0]["image"] = "other:1"
    again["status"]["phase"] = "Failed"
    last = house.update("/pods", again)
    assert last["status"]["phase"] == "Running"
    assert last["spec"]["containers"][0]["image"] == "other:1"


def test_generation_counts_specs_not_statuses_or_labels(house: House) -> None:
    stored = house.pod()
    stored["metadata"]["labels"] = {"a": "b"}
    stored = house.update("/pods", stored)
    stored["status"]["phase"] = "Running"
    stored = house.update("/pods", stored, subresource="status")
    assert stored["metadata"]["generation"] == 1
    stored["spec"]["containers"][0]["image"] = "other:1"
    assert house.update("/pods", stored)["metadata"]["generation"] == 2


def test_an_update_that_says_nothing_new_writes_nothing(house: House) -> None:
    for stored in (house.pod(), house.create("/configmaps", MAP), house.node()):
        key = {"Pod": "/pods", "ConfigMap": "/configmaps", "Node": "/nodes"}[stored["kind"]]
        assert house.update(key, copy.deepcopy(stored)) == stored


def test_an_update_cannot_move_what_the_server_wrote(house: House) -> None:
    stored = house.create("/configmaps", MAP)
    new = copy.deepcopy(stored)
    new["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
    assert house.update("/configmaps", new) == stored
    new["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z"
    with pytest.raises(StatusError, match="field is immutable"):
        house.update("/configmaps", new)


def test_another_uid_is_another_object(house: House) -> None:
    stored = house.create("/configmaps", MAP)
    stored["metadata"]["uid"] = "other"
    with pytest.raises(StatusError) as caught:
        house.update("/configmaps", stored)
    assert caught.value.code == 409


def test_an_object_goes_with_its_last_finalizer(house: House) -> None:
    metadata = {"name": "c", "namespace": "default", "finalizers": ["a/b"]}
    house.create("/configmaps", {"metadata": metadata})
    stored = house.delete("/configmaps", "default", "c")
    assert stored is not None
    assert stored["metadata"]["deletionTimestamp"] == house.now()
    stored["metadata"]["finalizers"] = []
    house.update("/configmaps", stored)
    assert house.get("/configmaps", "default", "c") is None


def test_a_pod_with_grace_left_outlives_its_last_finalizer(house: House) -> None:
    created = pod(nodeName="n1")
    created["metadata"]["finalizers"] = ["a/b"]
    house.create("/pods", created)
    stored = house.delete("/pods", "default", "p")
    assert stored is not None
    stored["metadata"]["finalizers"] = []
    assert not strategy.finished(house.update("/pods", stored))
    assert house.get("/pods", "default", "p") is not None


def test_nothing_new_enters_a_namespace_that_is_going(house: House) -> None:
    house.namespace("going")
    house.delete("/namespaces", "", "going")
    with pytest.raises(StatusError) as caught:
        house.create("/configmaps", {"metadata": {"name": "c", "namespace": "going"}})
    assert caught.value.code == 403
    text = 'configmaps "c" is forbidden: unable to create new content in namespace going because it is being terminated'
    assert caught.value.message == text
    assert (caught.value.details or {})["causes"][0]["reason"] == "NamespaceTerminating"


def test_a_namespace_must_exist(house: House) -> None:
    with pytest.raises(StatusError) as caught:
        house.create("/configmaps", {"metadata": {"name": "c", "namespace": "nowhere"}})
    assert (caught.value.code, caught.value.message) == (404, 'namespaces "nowhere" not found')


def test_a_namespace_has_its_label_and_its_finalizer(house: House) -> None:
    stored = house.create("/namespaces", {"metadata": {"name": "x"}})
    assert stored["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}
    assert stored["spec"] == {"finalizers": ["kubernetes"]}
    assert stored["status"] == {"phase": "Active"}


def test_a_namespace_cannot_lose_its_finalizer_by_an_update(house: House) -> None:
    stored = house.create("/namespaces", {"metadata": {"name": "x"}})
    assert house.update("/namespaces", {**stored, "spec": {}})["spec"] == {"finalizers": ["kubernetes"]}


@pytest.mark.parametrize("name", ["default", "kube-system"])
def test_the_servers_namespaces_stay(house: House, name: str) -> None:
    if name != "default":
        house.namespace(name)
    with pytest.raises(StatusError) as caught:
        house.delete("/namespaces", "", name)
    assert caught.value.code == 403
    assert "this namespace may not be deleted" in caught.value.message


def test_string_data_becomes_data(house: House) -> None:
    metadata = {"name": "s", "namespace": "default"}
    stored = house.create(
        "/secrets", {"metadata": metadata, "data": {"a": "eA==", "b": "eA=="}, "stringData": {"a": "y"}}
    )
    assert stored["data"] == {"a": "eQ==", "b": "eA=="}
    assert stored["type"] == "Opaque"
    assert "stringData" not in stored
    after = house.update("/secrets", {**stored, "stringData": {"c": "z"}})
    assert after["data"] == {"a": "eQ==", "b": "eA==", "c": "eg=="}


def test_every_served_kind_can_be_made_and_read_back_unchanged(house: House) -> None:
    metadata = {"name": "x", "namespace": "default"}
    objects: dict[str, Object] = {
        "/configmaps": MAP,
        "/endpoints": {"metadata": metadata, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}]},
        "/events": {"metadata": metadata, "involvedObject": {"namespace": "default"}, "reason": "x"},
        "/namespaces": {"metadata": {"name": "x"}},
        "/nodes": {"metadata": {"name": "x"}},
        "/pods": pod(),
        "/secrets": {"metadata": metadata},
        "/serviceaccounts": {"metadata": metadata},
        "/services": {"metadata": metadata, "spec": {"ports": [{"port": 1}]}},
        "coordination.k8s.io/leases": {"metadata": metadata, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}},
        "discovery.k8s.io/endpointslices": {"metadata": metadata, "addressType": "IPv4", "endpoints": []},
    }
    for key, obj in objects.items():
        stored = house.create(key, obj)
        resource = by_key(key)
        assert (stored["kind"], stored["apiVersion"]) == (resource.kind, resource.api_version)
        assert house.update(key, copy.deepcopy(stored)) == stored


def test_ensure_keeps_what_is_there(house: House) -> None:
    first = internal.ensure(house.ctx, "/configmaps", MAP)
    assert internal.ensure(house.ctx, "/configmaps", {**MAP, "data": {"other": "x"}}) == first


def test_the_clock_is_the_contexts(house: House) -> None:
    house.seconds = START + 60
    assert house.create("/configmaps", MAP)["metadata"]["creationTimestamp"] == house.now()
