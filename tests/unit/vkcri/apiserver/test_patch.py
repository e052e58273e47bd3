"""The three kinds of patch, strategic merge above all: what kubectl apply and edit send must do what they mean."""

import json
from typing import Any

import pytest

from vkcri.apiserver import patch, strategic
from vkcri.apiserver.resources import find
from vkcri.apiserver.status import StatusError
from vkcri.errors import Invalid

_POD_RESOURCE = find("", "v1", "pods")
assert _POD_RESOURCE is not None
PODS = _POD_RESOURCE


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def containers_after(old: dict[str, Any], given: dict[str, Any]) -> Any:
    return strategic.merge("Pod", old, {"spec": given})["spec"]["containers"]


def test_containers_are_merged_by_name_in_the_patches_order_and_others_keep_their_place() -> None:
    old = pod({"name": "a", "image": "1", "tty": True}, {"name": "b", "image": "1"})
    new = containers_after(old, {"containers": [{"name": "c", "image": "1"}, {"name": "a", "image": "2"}]})
    assert new == [
        {"name": "c", "image": "1"},
        {"name": "a", "image": "2", "tty": True},
        {"name": "b", "image": "1"},
    ]


def test_the_original_and_the_patch_are_left_as_they_were() -> None:
    old, given = pod({"name": "a", "image": "1"}), {"spec": {"containers": [{"name": "a", "image": None}]}}
    before = json.dumps([old, given])
    assert strategic.merge("Pod", old, given)["spec"]["containers"] == [{"name": "a"}]
    assert json.dumps([old, given]) == before


def test_a_list_without_a_merge_key_is_replaced() -> None:
    old = pod({"name": "a", "command": ["x", "y"]}, tolerations=[{"key": "k"}])
    new = strategic.merge("Pod", old, {"spec": {"tolerations": [], "containers": [{"name": "a", "command": ["z"]}]}})
    assert new["spec"]["tolerations"] == []
    assert new["spec"]["containers"][0]["command"] == ["z"]


def test_lists_inside_merged_items_are_merged_by_their_own_key() -> None:
    old = pod({"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}], "ports": []})
    env = [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]
    ports = [{"containerPort": 80, "name": "http"}]
    (new,) = containers_after(old, {"containers": [{"name": "a", "env": env, "ports": ports}]})
    assert new == {"name": "a", "env": [{"name": "Y", "value": "2"}], "ports": ports}


def test_null_removes_a_field_and_a_map_key() -> None:
    old = {"metadata": {"name": "p", "labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "n"}}
    new = strategic.merge("Pod", old, {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"nodeName": None}})
    assert new == {"metadata": {"name": "p", "labels": {"b": "2", "c": "3"}}, "spec": {}}


def test_nulls_in_what_is_new_are_dropped() -> None:
    new = strategic.merge("Pod", pod(), {"spec": {"securityContext": {"runAsUser": None, "sysctls": []}}})
    assert new["spec"]["securityContext"] == {"sysctls": []}


def test_patch_delete_removes_an_item_by_its_key() -> None:
    old = pod({"name": "a"}, {"name": "b"})
    assert containers_after(old, {"containers": [{"name": "a", "$patch": "delete"}]}) == [{"name": "b"}]
    assert containers_after(old, {"containers": [{"name": "z", "$patch": "delete"}]}) == [{"name": "a"}, {"name": "b"}]


def test_patch_replace_in_a_list_replaces_all_of_it() -> None:
    old = pod({"name": "a"}, {"name": "b"})
    assert containers_after(old, {"containers": [{"$patch": "replace"}, {"name": "c"}]}) == [{"name": "c"}]


def test_patch_replace_and_delete_in_a_map() -> None:
    old = pod(securityContext={"runAsUser": 1, "fsGroup": 2})
    replaced = strategic.merge("Pod", old, {"spec": {"securityContext": {"$patch": "replace", "fsGroup": 3}}})
    assert replaced["spec"]["securityContext"] == {"fsGroup": 3}
    deleted = strategic.merge("Pod", old, {"spec": {"securityContext": {"$patch": "delete"}}})
    assert "securityContext" not in deleted["spec"]


def test_values_are_deleted_from_and_added_to_a_merged_list_of_values() -> None:
    old = {"metadata": {"name": "p", "finalizers": ["a", "b"]}}
    given = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "zz"], "finalizers": ["b", "c", "c"]}}
    assert strategic.merge("Pod", old, given)["metadata"]["finalizers"] == ["b", "c"]


@pytest.mark.parametrize(
    ("before", "given", "order", "after"),
    [
        (["a", "b", "c"], [], ["c", "a", "b"], ["c", "a", "b"]),
        (["a", "b"], ["c"], ["c", "a", "b"], ["c", "a", "b"]),
        (["a", "server", "b"], ["b"], ["b", "a"], ["server", "b", "a"]),
        (["a", "b", "server"], ["new"], ["new", "a", "b"], ["new", "a", "b", "server"]),
        (["server", "a"], [], ["a"], ["server", "a"]),
    ],
)
def test_the_order_that_the_client_wants_is_kept_and_others_keep_their_place(
    before: list[str], given: list[str], order: list[str], after: list[str]
) -> None:
    asked = {"$setElementOrder/containers": [{"name": name} for name in order]}
    asked |= {"containers": [{"name": name} for name in given]} if given else {}
    new = containers_after(pod(*({"name": name} for name in before)), asked)
    assert [item["name"] for item in new] == after


def test_retain_keys_drops_what_they_do_not_name() -> None:
    old = pod(volumes=[{"name": "v", "emptyDir": {}}])
    given = [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]
    new = strategic.merge("Pod", old, {"spec": {"volumes": given}})
    assert new["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


@pytest.mark.parametrize(
    "given",
    [
        {"spec": {"$patch": "explode"}},
        {"spec": {"$unknown": 1}},
        {"spec": {"containers": [{"image": "no name"}]}},
        {"spec": {"containers": ["text"]}},
        {"spec": {"$setElementOrder/tolerations": []}},
        {"spec": {"$setElementOrder/containers": "a"}},
        {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {}}]}},
    ],
)
def test_a_directive_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        strategic.merge("Pod", pod({"name": "a"}, volumes=[{"name": "v"}]), given)
    with pytest.raises(StatusError) as caught:
        patch.apply(patch.STRATEGIC, PODS, pod({"name": "a"}, volumes=[{"name": "v"}]), json.dumps(given).encode())
    assert caught.value.code == 400


def test_no_directive_survives_into_the_object() -> None:
    given = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "annotations": {"$patch": "replace", "a": "1"}},
        "spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "$retainKeys": ["containers", "affinity"],
            "containers": [{"name": "a", "resources": {"$patch": "replace", "limits": {"cpu": "1"}}}],
            "affinity": {"nodeAffinity": {"$patch": "merge"}},
        },
    }
    assert "$" not in json.dumps(strategic.merge("Pod", {"metadata": {"name": "p"}}, given))


def test_merge_patch_replaces_lists_whole_and_removes_by_null() -> None:
    old = pod({"name": "a"}, {"name": "b"}, nodeName="n")
    data = b'{"spec": {"containers": [{"name": "c", "image": null}], "nodeName": null}}'
    new, _ = patch.apply(patch.MERGE_PATCH, PODS, old, data)
    assert new["spec"] == {"containers": [{"name": "c", "image": None}]}  # RFC 7386 looks into no list
    assert len(old["spec"]["containers"]) == 2


def test_json_patch_changes_and_tests() -> None:
    data = b"""[{"op": "test", "path": "/spec/containers/0/name", "value": "a"},
        {"op": "add", "path": "/metadata/labels", "value": {"x~y/z": "1"}},
        {"op": "replace", "path": "/metadata/labels/x~0y~1z", "value": "2"},
        {"op": "remove", "path": "/spec/containers/0"}]"""
    new, _ = patch.apply(patch.JSON_PATCH, PODS, pod({"name": "a"}), data)
    assert new == {"metadata": {"name": "p", "labels": {"x~y/z": "2"}}, "spec": {"containers": []}}


@pytest.mark.parametrize(
    ("media", "data", "code"),
    [
        (patch.JSON_PATCH, b'[{"op": "test", "path": "/metadata/name", "value": "q"}]', 422),
        (patch.JSON_PATCH, b'[{"op": "remove", "path": "/spec/none/deeper"}]', 422),
        (patch.JSON_PATCH, b'[{"op": "replace", "path": "", "value": 3}]', 422),
        (patch.JSON_PATCH, b'[{"op": "explode", "path": "/spec"}]', 422),
        (patch.JSON_PATCH, b'{"op": "add"}', 400),
        (patch.JSON_PATCH, b"[", 400),
        (patch.JSON_PATCH, json.dumps([{"op": "test", "path": "/kind", "value": 1}] * 10001).encode(), 413),
        (patch.MERGE_PATCH, b"[]", 400),
        (patch.STRATEGIC, b'"x"', 400),
        (patch.MERGE_PATCH, b'{"x": "' + b"y" * (4 << 20) + b'"}', 413),
        ("application/apply-patch+yaml", b"{}", 415),
        ("application/json", b"{}", 415),
        ("", b"{}", 415),
    ],
)
def test_a_bad_patch_is_refused_with_the_status_of_its_fault(media: str, data: bytes, code: int) -> None:
    with pytest.raises(StatusError) as caught:
        patch.apply(media, PODS, pod({"name": "a"}), data)
    assert caught.value.code == code


def test_json_patch_is_as_mild_with_members_as_kubernetes() -> None:
    old = pod({"name": "a"}) | {"data": {"x": "1"}}
    operations = [
        {"op": "test", "path": "/data/none", "value": None},
        {"op": "replace", "path": "/data/y", "value": "2"},
        {"op": "add", "path": "/data/z"},
    ]
    found, _ = patch.apply(patch.JSON_PATCH, PODS, old, json.dumps(operations).encode())
    assert found["data"] == {"x": "1", "y": "2", "z": None}
    assert old["data"] == {"x": "1"}
    for operation in (
        {"op": "test", "path": "/data/none", "value": "1"},
        {"op": "replace", "path": "/none/y", "value": 1},
    ):
        with pytest.raises(StatusError) as caught:
            patch.apply(patch.JSON_PATCH, PODS, old, json.dumps([operation]).encode())
        assert caught.value.code == 422


def test_server_side_apply_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(StatusError, match="without --server-side"):
        patch.apply("application/apply-patch+yaml; charset=utf-8", PODS, pod(), b"{}")


def test_fields_given_twice_are_told() -> None:
    assert patch.apply(patch.MERGE_PATCH, PODS, pod(), b'{"a": 1, "a": 2, "b": {"c": 1, "c": 1}}')[1] == ["c", "a"]
