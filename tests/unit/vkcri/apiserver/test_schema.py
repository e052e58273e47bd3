"""Reading objects strictly: unknown fields, wrong types, what a typed server would have kept."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.apiserver import models, schema
from vkcri.apiserver.resources import RESOURCES


def test_schema_json_is_what_the_pinned_package_says(tmp_path: Path) -> None:
    models.write_schema(tmp_path / "schema.json")
    built = Path(schema.__file__).with_name("schema.json")
    assert built.read_text() == (tmp_path / "schema.json").read_text()


def test_every_served_kind_and_every_nested_one_has_fields() -> None:
    for resource in RESOURCES:
        assert {"apiVersion", "kind", "metadata"} <= set(schema.fields(resource.kind))
    for kind in schema.kinds():
        for name, field in schema.fields(kind).items():
            assert not field.nested or schema.fields(field.type) is not None, (kind, name)
            assert not field.nested or field.type in schema.kinds(), (kind, name)


def test_merge_keys_name_fields_that_exist() -> None:
    for kind, field in schema._MERGE_KEYS:
        found = schema.fields(kind)[field]
        assert found.container == "list"
        key = schema.merge_key(kind, field)
        assert key == "" or key in schema.fields(found.type), (kind, field)
    for kind, field in schema._QUANTITIES | schema._INT_OR_STRING:
        assert field in schema.fields(kind), (kind, field)


def test_merge_tables() -> None:
    assert schema.merge_key("PodSpec", "containers") == "name"
    assert schema.merge_key("Container", "ports") == "containerPort"
    assert schema.merge_key("ObjectMeta", "finalizers") == ""
    assert schema.merge_key("PodSpec", "tolerations") is None
    assert schema.patch_strategy("PodSpec", "volumes") == {"merge", "retainKeys"}
    assert schema.patch_strategy("PodSpec", "tolerations") == frozenset()


def test_unknown_fields_are_named_with_their_path_and_left_out() -> None:
    pod = {"metadata": {"labls": {}}, "spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x"}], "foo": 1}}
    wanted = ["metadata.labls", "spec.containers[1].imagee", "spec.foo"]
    assert schema.unknown_fields("Pod", pod) == wanted
    read, unknown = schema.decode("Pod", pod)
    assert unknown == wanted
    containers = [{"name": "a", "resources": {}}, {"name": "b", "resources": {}}]
    assert read == {"metadata": {}, "spec": {"containers": containers}, "status": {}}


def test_map_keys_are_never_unknown() -> None:
    assert schema.unknown_fields("ConfigMap", {"data": {"anything/at all": "x"}}) == []


@pytest.mark.parametrize(
    ("kind", "obj", "message"),
    [
        ("Pod", {"spec": {"hostNetwork": "yes"}}, "string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        (
            "Pod",
            {"spec": {"containers": {}}},
            "object into Go struct field PodSpec.spec.containers of type []v1.Contai",
        ),
        ("Pod", {"spec": []}, "array into Go struct field Pod.spec of type v1.PodSpec"),
        ("Pod", {"spec": {"priority": 1.5}}, "number into Go struct field PodSpec.spec.priority of type int64"),
        ("Pod", {"spec": {"priority": True}}, "bool into Go struct field PodSpec.spec.priority of type int64"),
        ("Pod", {"metadata": {"labels": {"a": 1}}}, "number into Go struct field ObjectMeta.metadata.labels.a of type"),
        ("Pod", {"metadata": {"creationTimestamp": "today"}}, 'parsing time "today"'),
        ("Secret", {"data": {"a": "not base64!"}}, "illegal base64 data in data.a"),
        ("Service", {"spec": {"ports": [{"targetPort": []}]}}, "of type intstr.IntOrString"),
        ("Node", {"status": {"capacity": {"cpu": "two"}}}, "quantities must match the regular expression"),
    ],
)
def test_wrong_types_are_refused_as_the_decoder_does(kind: str, obj: dict[str, object], message: str) -> None:
    with pytest.raises(schema.TypeMismatch) as caught:
        schema.decode(kind, obj)
    assert message in str(caught.value)


def test_a_list_index_is_not_part_of_a_decoders_path() -> None:
    with pytest.raises(schema.TypeMismatch) as caught:
        schema.decode("Pod", {"spec": {"containers": [{"image": 1}]}})
    text = "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"
    assert str(caught.value) == text


def test_a_typed_reading_drops_nulls_and_empty_lists_and_keeps_empty_structs_and_what_is_always_written() -> None:
    pod = {
        "metadata": {"labels": {}, "annotations": None, "finalizers": []},
        "spec": {"containers": [], "volumes": [{"name": "v", "emptyDir": {}}], "hostAliases": []},
    }
    read, _ = schema.decode("Pod", pod)
    spec = {"containers": None, "volumes": [{"name": "v", "emptyDir": {}}]}
    assert read == {"metadata": {}, "spec": spec, "status": {}}


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("ContainerPort", {"containerPort": 80, "hostPort": 0, "name": ""}, {"containerPort": 80}),
        ("SecurityContext", {"privileged": False, "runAsUser": 0}, {"privileged": False, "runAsUser": 0}),
        ("HTTPHeader", {"name": "A"}, {"name": "A", "value": ""}),
        ("ContainerState", {"running": {}}, {"running": {"startedAt": None}}),
        ("EndpointSlice", {"addressType": "IPv4"}, {"addressType": "IPv4", "endpoints": None, "ports": None}),
        ("TokenRequestSpec", {}, {"audiences": None, "boundObjectRef": None, "expirationSeconds": None}),
        ("GRPCAction", {"port": 1}, {"port": 1, "service": None}),
        ("ProjectedVolumeSource", {"sources": []}, {"sources": None}),
    ],
)
def test_empty_values_stand_where_go_writes_them(kind: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert schema.decode(kind, given)[0] == wanted


def test_what_a_definition_always_has_is_made_anew_for_each_object() -> None:
    one, other = schema.decode("Node", {})[0], schema.decode("Node", {})[0]
    assert one == other == {"spec": {}, "status": one["status"]}
    assert one["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}
    one["status"]["nodeInfo"]["machineID"] = "x"
    assert other["status"]["nodeInfo"]["machineID"] == ""


@pytest.mark.parametrize(
    ("kind", "field", "given", "wanted"),
    [
        ("PodCondition", "lastTransitionTime", "2026-01-01T01:00:00.7+01:00", "2026-01-01T00:00:00Z"),
        ("LeaseSpec", "renewTime", "2026-01-01T01:00:00.123456+01:00", "2026-01-01T00:00:00.123456Z"),
    ],
)
def test_times_are_written_in_utc_and_in_their_own_precision(kind: str, field: str, given: str, wanted: str) -> None:
    assert schema.decode(kind, {field: given})[0][field] == wanted


def test_a_time_with_micros_wants_all_six_digits() -> None:
    with pytest.raises(schema.TypeMismatch, match=r'cannot parse ".5Z" as ".000000"'):
        schema.decode("LeaseSpec", {"renewTime": "2026-01-01T00:00:01.5Z"})


def test_quantities_become_canonical_and_numbers_are_accepted() -> None:
    amounts = {"cpu": 1, "memory": "1024Mi", "a/b": "1000m"}
    read, _ = schema.decode("Pod", {"spec": {"containers": [{"resources": {"limits": amounts}}]}})
    limits = read["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "1", "memory": "1Gi", "a/b": "1"}


def test_a_null_value_of_a_string_map_is_the_empty_string() -> None:
    assert schema.decode("ConfigMap", {"data": {"a": None}})[0] == {"data": {"a": ""}}


def test_reading_copies() -> None:
    pod = {"spec": {"nodeSelector": {"a": "b"}}}
    read, _ = schema.decode("Pod", pod)
    read["spec"]["nodeSelector"]["a"] = "c"
    assert pod["spec"]["nodeSelector"]["a"] == "b"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "containers", "metadata", "labels", "env", "ports", "volumes", "name", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["spec", "metadata", "status", "x"]), _JSON))
def test_any_json_is_read_or_refused_and_reading_twice_changes_nothing(obj: dict[str, object]) -> None:
    try:
        read, _ = schema.decode("Pod", obj)
    except schema.TypeMismatch:
        return
    assert schema.decode("Pod", read) == (read, [])
