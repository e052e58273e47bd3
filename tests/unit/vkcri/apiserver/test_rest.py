"""HTTP as clients meet it: verbs, versions, selectors, forms of an answer, and errors that say what was wrong."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from vkcri import certs
from vkcri.apiserver import tokens
from vkcri.apiserver.authn import Authenticator
from vkcri.apiserver.authz import Authorizer
from vkcri.apiserver.proxy import Kubelet
from vkcri.apiserver.rest import Api
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings
from vkcri.instance import Instance

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"


def no_kubelet() -> ssl.SSLContext:
    raise AssertionError("no test here reaches a kubelet")


def der(name: str, *groups: str, authority: certs.CertificateAuthority) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.issue_client(name, groups)[0].decode())


@pytest.fixture(scope="module")
def authority() -> certs.CertificateAuthority:
    return certs.CertificateAuthority.create("test-ca")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store.db")
    for name in ("default", "other"):
        metadata = {"name": name, "uid": f"ns-{name}"}
        spec, status = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "spec": spec, "status": status}
        opened.create("/namespaces", namespace)
        account = {"name": "default", "namespace": name, "uid": f"sa-{name}"}
        opened.create("/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    yield opened
    opened.close()


@pytest.fixture
def anonymous(store: Store) -> FlaskClient:
    settings = ApiServerSettings(instance=Instance("apis-70"), node_name="node", pod_ip="127.0.0.1")
    signer = tokens.signer_of(tokens.new_key())
    kubelet = Kubelet(store, no_kubelet, 10250)
    api = Api(store, settings, Authenticator(store, signer), Authorizer(store), kubelet, address="127.0.0.1:6443")
    return api.app().test_client()


@pytest.fixture
def client(anonymous: FlaskClient, authority: certs.CertificateAuthority) -> FlaskClient:
    """A client of system:masters."""
    anonymous.environ_base["vkcri.peer_certificate"] = der("admin", "system:masters", authority=authority)
    return anonymous


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "p", **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "busybox"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


def body(response: TestResponse, code: int = 200) -> Any:
    """The answer's JSON, once its status is as expected."""
    assert response.status_code == code, response.get_data(as_text=True)
    return response.get_json()


def refused(response: TestResponse, code: int, reason: str) -> dict[str, Any]:
    """The Status of a refusal."""
    status: dict[str, Any] = body(response, code)
    assert (status["kind"], status["status"], status["code"], status["reason"]) == ("Status", "Failure", code, reason)
    return status


def events(response: TestResponse) -> list[dict[str, Any]]:
    """A watch's events, read to its end."""
    return [json.loads(line) for line in response.get_data().splitlines()]


# One object


def test_what_is_created_can_be_read_replaced_and_deleted(client: FlaskClient) -> None:
    made = body(client.post(MAPS, json=config_map(x="1")), 201)
    assert made["metadata"]["namespace"] == "default"
    assert body(client.get(f"{MAPS}/a")) == made
    changed = body(client.put(f"{MAPS}/a", json={**made, "data": {"x": "2"}}))
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    gone = body(client.delete(f"{MAPS}/a"))
    assert (gone["status"], gone["details"]["name"], gone["details"]["uid"]) == (
        "Success",
        "a",
        made["metadata"]["uid"],
    )
    assert refused(client.get(f"{MAPS}/a"), 404, "NotFound")["message"] == 'configmaps "a" not found'


def test_an_update_from_an_old_version_is_a_conflict(client: FlaskClient) -> None:
    made = body(client.post(MAPS, json=config_map(x="1")), 201)
    body(client.put(f"{MAPS}/a", json={**made, "data": {"x": "2"}}))
    refused(client.put(f"{MAPS}/a", json={**made, "data": {"x": "3"}}), 409, "Conflict")
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "4"}}
    refused(client.patch(f"{MAPS}/a", json=stale, content_type=MERGE), 409, "Conflict")
    assert body(client.get(f"{MAPS}/a"))["data"] == {"x": "2"}


def test_an_update_that_changes_nothing_keeps_the_version(client: FlaskClient) -> None:
    made = body(client.post(MAPS, json=config_map(x="1")), 201)
    assert body(client.put(f"{MAPS}/a", json=made)) == made
    assert body(client.patch(f"{MAPS}/a", json={"data": {"x": "1"}}, content_type=MERGE)) == made


def test_creating_twice_is_already_exists(client: FlaskClient) -> None:
    body(client.post(MAPS, json=config_map()), 201)
    refused(client.post(MAPS, json=config_map()), 409, "AlreadyExists")


def test_a_generated_name_begins_as_asked(client: FlaskClient) -> None:
    given = {**config_map(), "metadata": {"generateName": "made-"}}
    names = {body(client.post(MAPS, json=given), 201)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


def test_a_put_creates_a_lease_but_no_config_map(client: FlaskClient) -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    body(client.put("/apis/coordination.k8s.io/v1/namespaces/default/leases/l", json=lease), 201)
    refused(client.put(f"{MAPS}/a", json=config_map()), 404, "NotFound")


@pytest.mark.parametrize(
    ("path", "given", "text"),
    [
        (MAPS, {**config_map(), "metadata": {"name": "a", "namespace": "other"}}, "does not match the namespace"),
        (MAPS, pod(), "kind in the data"),
        (MAPS, {**config_map(), "apiVersion": "v2"}, "API version in the data"),
        (MAPS, {**config_map(), "metadata": []}, "metadata"),
        (MAPS, {**config_map(), "metadata": {"name": "a", "resourceVersion": "1"}}, "resourceVersion"),
    ],
)
def test_a_body_that_contradicts_its_path_is_a_bad_request(
    client: FlaskClient, path: str, given: dict[str, Any], text: str
) -> None:
    assert text in refused(client.post(path, json=given), 400, "BadRequest")["message"]


def test_another_name_than_the_paths_is_a_bad_request(client: FlaskClient) -> None:
    body(client.post(MAPS, json=config_map()), 201)
    refused(client.put(f"{MAPS}/a", json=config_map("b")), 400, "BadRequest")
    for patched in ({"metadata": {"name": "b"}}, {"metadata": {"namespace": "other"}}, {"metadata": None}):
        refused(client.patch(f"{MAPS}/a", json=patched, content_type=MERGE), 400, "BadRequest")


def test_what_is_wrong_with_a_pod_is_told_by_field(client: FlaskClient) -> None:
    given = pod()
    del given["spec"]["containers"][0]["image"]
    status = refused(client.post(PODS, json=given), 422, "Invalid")
    (cause,) = status["details"]["causes"]
    assert (cause["field"], cause["reason"]) == ("spec.containers[0].image", "FieldValueRequired")
    assert status["details"]["kind"] == "Pod"


# Strictness and dry runs


def test_unknown_fields_are_refused_warned_of_or_ignored_as_asked(client: FlaskClient) -> None:
    given = {**config_map(), "colour": "red"}
    assert (
        'unknown field "colour"'
        in refused(client.post(f"{MAPS}?fieldValidation=Strict", json=given), 400, "BadRequest")["message"]
    )
    warned = client.post(MAPS, json=given)
    assert "colour" not in body(warned, 201)
    assert warned.headers.getlist("Warning") == ['299 - "unknown field \\"colour\\""']
    ignored = client.put(f"{MAPS}/a?fieldValidation=Ignore", json=given)
    assert "colour" not in body(ignored)
    assert not ignored.headers.getlist("Warning")
    refused(client.post(f"{MAPS}?fieldValidation=Maybe", json=given), 422, "Invalid")


def test_fields_given_twice_are_refused_under_strict(client: FlaskClient) -> None:
    data = b'{"metadata": {"name": "a"}, "data": {"x": "1", "x": "2"}}'
    status = refused(client.post(f"{MAPS}?fieldValidation=Strict", data=data), 400, "BadRequest")
    assert 'duplicate field "x"' in status["message"]
    assert body(client.post(MAPS, data=data), 201)["data"] == {"x": "2"}


def test_a_dry_run_answers_as_the_real_thing_and_keeps_nothing(client: FlaskClient, store: Store) -> None:
    before = store.current_rv()
    made = body(client.post(f"{MAPS}?dryRun=All", json=config_map()), 201)
    assert made["metadata"]["uid"]
    assert "resourceVersion" not in made["metadata"]
    refused(client.get(f"{MAPS}/a"), 404, "NotFound")
    assert store.current_rv() == before
    body(client.post(MAPS, json=config_map(x="1")), 201)
    refused(client.post(f"{MAPS}?dryRun=All", json=config_map()), 409, "AlreadyExists")
    patched = body(client.patch(f"{MAPS}/a?dryRun=All", json={"data": {"x": "2"}}, content_type=MERGE))
    assert patched["data"] == {"x": "2"}
    body(client.delete(f"{MAPS}/a", json={"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}))
    assert body(client.get(f"{MAPS}/a"))["data"] == {"x": "1"}
    refused(client.post(f"{MAPS}?dryRun=Some", json=config_map("b")), 422, "Invalid")


def test_a_warning_of_odd_text_stays_one_header(client: FlaskClient) -> None:
    response = client.post(MAPS, data=json.dumps({**config_map(), 'a"\n\u00e9\u20ac': 1}))
    assert response.status_code == 201
    (warning,) = response.headers.getlist("Warning")
    assert warning.isascii()
    assert "\n" not in warning


def test_a_patch_that_is_nested_without_end_is_refused(client: FlaskClient) -> None:
    body(client.post(MAPS, json=config_map()), 201)
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    refused(client.patch(f"{MAPS}/a", data=deep, content_type=MERGE), 400, "BadRequest")


# Patches and subresources


def test_a_strategic_patch_merges_and_a_pods_spec_stays_checked(client: FlaskClient) -> None:
    body(client.post(PODS, json=pod(app="x")), 201)
    changed = {"spec": {"containers": [{"name": "c", "image": "other"}]}, "metadata": {"labels": {"more": "1"}}}
    new = body(client.patch(f"{PODS}/p", json=changed, content_type=STRATEGIC))
    assert new["spec"]["containers"][0]["image"] == "other"
    assert new["metadata"]["labels"] == {"app": "x", "more": "1"}
    assert new["metadata"]["generation"] == 2
    moved = {"spec": {"hostNetwork": True}}
    refused(client.patch(f"{PODS}/p", json=moved, content_type=STRATEGIC), 422, "Invalid")


def test_status_is_written_through_its_subresource_only(client: FlaskClient) -> None:
    body(client.post(PODS, json=pod()), 201)
    running = {"status": {"phase": "Running"}}
    assert body(client.patch(f"{PODS}/p", json=running, content_type=MERGE))["status"]["phase"] == "Pending"
    new = body(client.patch(f"{PODS}/p/status", json=running, content_type=STRATEGIC))
    assert new["status"]["phase"] == "Running"
    spec = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
    unchanged = body(client.patch(f"{PODS}/p/status", json=spec, content_type=STRATEGIC))
    assert unchanged["spec"]["containers"][0]["image"] == "busybox"
    assert body(client.get(f"{PODS}/p/status"))["metadata"]["name"] == "p"


def test_server_side_apply_is_refused_with_a_reason(client: FlaskClient) -> None:
    response = client.patch(f"{MAPS}/a?fieldManager=k", data=b"{}", content_type="application/apply-patch+yaml")
    assert "server-side apply" in refused(response, 415, "UnsupportedMediaType")["message"]


# Lists


def test_a_list_carries_the_version_to_watch_from_and_plain_items(client: FlaskClient, store: Store) -> None:
    body(client.post(MAPS, json=config_map("a")), 201)
    body(client.post("/api/v1/namespaces/other/configmaps", json=config_map("b")), 201)
    found = body(client.get("/api/v1/configmaps"))
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert found["metadata"]["resourceVersion"] == str(store.current_rv())
    assert [item["metadata"]["name"] for item in found["items"]] == ["a", "b"]
    assert not {"kind", "apiVersion"} & found["items"][0].keys()
    assert len(body(client.get(MAPS))["items"]) == 1


def test_pages_follow_each_other(client: FlaskClient) -> None:
    for number in range(5):
        body(client.post(MAPS, json=config_map(f"m{number}")), 201)
    names, token = [], ""
    while True:
        page = body(client.get(MAPS, query_string={"limit": 2, "continue": token}))
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert page["metadata"]["remainingItemCount"] == 5 - len(names)
    assert names == [f"m{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"labelSelector": "app=x"}, ["a", "c"]),
        ({"labelSelector": "app in (x,y),!old"}, ["a", "b"]),
        ({"labelSelector": "nothing"}, []),
        ({"fieldSelector": "metadata.name=b"}, ["b"]),
        ({"fieldSelector": "metadata.name!=b,status.phase=Pending", "labelSelector": "app"}, ["a", "c"]),
        ({"fieldSelector": "spec.nodeName="}, ["a", "b", "c"]),
        ({"fieldSelector": "spec.nodeName=n"}, []),
    ],
)
def test_selectors_choose(client: FlaskClient, query: dict[str, str], names: list[str]) -> None:
    for name, labels in {"a": {"app": "x"}, "b": {"app": "y"}, "c": {"app": "x", "old": "1"}}.items():
        body(client.post(PODS, json=pod(name, **labels)), 201)
    assert [item["metadata"]["name"] for item in body(client.get(PODS, query_string=query))["items"]] == names


@pytest.mark.parametrize(
    "query",
    [
        "labelSelector=a%20b",
        "fieldSelector=spec.imaginary=1",
        "fieldSelector=x",
        "limit=many",
        "timeoutSeconds=soon",
        "continue=nonsense",
        "resourceVersion=abc",
        "resourceVersion=-1",
    ],
)
def test_a_list_that_cannot_be_understood_is_a_bad_request(client: FlaskClient, query: str) -> None:
    refused(client.get(f"{PODS}?{query}"), 400, "BadRequest")


def test_a_list_of_the_future_times_out_and_of_the_past_is_expired(client: FlaskClient) -> None:
    refused(client.get(f"{MAPS}?resourceVersion=99999"), 504, "Timeout")
    body(client.get(f"{MAPS}?resourceVersion=1"))
    refused(client.get(f"{MAPS}?resourceVersion=1&resourceVersionMatch=Exact"), 410, "Expired")


def test_a_collection_is_deleted_as_far_as_it_is_selected(client: FlaskClient) -> None:
    for name, labels in {"a": {"app": "x"}, "b": {"app": "y"}}.items():
        body(client.post(PODS, json=pod(name, **labels)), 201)
    gone = body(client.delete(PODS, query_string={"labelSelector": "app=x"}))
    assert [item["metadata"]["name"] for item in gone["items"]] == ["a"]
    assert [item["metadata"]["name"] for item in body(client.get(PODS))["items"]] == ["b"]


# Deletion


def bound(client: FlaskClient, store: Store, name: str = "p", **spec: Any) -> dict[str, Any]:
    """A pod that runs on a node."""
    made = body(client.post(PODS, json={**pod(name), "spec": {**pod()["spec"], **spec}}), 201)

    def bind(obj: dict[str, Any]) -> dict[str, Any]:
        obj["spec"]["nodeName"] = "node"
        return obj

    store.modify("/pods", "default", name, bind)
    return made  # type: ignore[no-any-return]


def test_a_running_pod_is_marked_and_goes_with_grace_zero(client: FlaskClient, store: Store) -> None:
    bound(client, store, terminationGracePeriodSeconds=17)
    marked = body(client.delete(f"{PODS}/p"))
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 17
    assert body(client.get(f"{PODS}/p"))["metadata"]["deletionTimestamp"]
    body(client.delete(f"{PODS}/p?gracePeriodSeconds=0"))
    refused(client.get(f"{PODS}/p"), 404, "NotFound")


def test_a_deletion_of_another_uid_is_a_conflict(client: FlaskClient, store: Store) -> None:
    bound(client, store)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": "x"}}
    refused(client.delete(f"{PODS}/p", json=options), 409, "Conflict")
    body(client.get(f"{PODS}/p"))


def test_an_object_with_finalizers_goes_with_the_last_one(client: FlaskClient) -> None:
    given = {**config_map(), "metadata": {"name": "a", "finalizers": ["x.io/one", "x.io/two"]}}
    body(client.post(MAPS, json=given), 201)
    assert body(client.delete(f"{MAPS}/a"))["metadata"]["deletionTimestamp"]
    for left in (["x.io/two"], []):
        changed = {"metadata": {"finalizers": left}}
        assert body(client.patch(f"{MAPS}/a", json=changed, content_type=MERGE))["metadata"]["name"] == "a"
    refused(client.get(f"{MAPS}/a"), 404, "NotFound")


def test_a_deletion_in_protobuf_as_client_go_sends_it(client: FlaskClient, store: Store) -> None:
    bound(client, store)
    type_meta = b"\x0a\x02v1\x12\x0dDeleteOptions"
    raw = b"\x08\x00"  # gracePeriodSeconds: 0
    data = b"k8s\x00\x0a" + bytes([len(type_meta)]) + type_meta + b"\x12" + bytes([len(raw)]) + raw
    body(client.delete(f"{PODS}/p", data=data, content_type="application/vnd.kubernetes.protobuf"))
    refused(client.get(f"{PODS}/p"), 404, "NotFound")


# Watches


def test_a_watch_begins_with_what_is_there_and_ends_in_time(client: FlaskClient) -> None:
    body(client.post(MAPS, json=config_map("a")), 201)
    (event,) = events(client.get(f"{MAPS}?watch=1&timeoutSeconds=1"))
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")
    assert (event["object"]["kind"], event["object"]["apiVersion"]) == ("ConfigMap", "v1")


def test_a_watch_resumes_from_a_version(client: FlaskClient) -> None:
    made = body(client.post(MAPS, json=config_map("a")), 201)
    body(client.patch(f"{MAPS}/a", json={"data": {"x": "1"}}, content_type=MERGE))
    body(client.delete(f"{MAPS}/a"))
    query = {"watch": "true", "timeoutSeconds": 1, "resourceVersion": made["metadata"]["resourceVersion"]}
    found = events(client.get(MAPS, query_string=query))
    assert [event["type"] for event in found] == ["MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in found]
    assert versions == sorted(versions)


def test_a_watch_of_an_unknown_version_is_told_to_list_again(client: FlaskClient) -> None:
    (event,) = events(client.get(f"{MAPS}?watch=1&resourceVersion=999999&timeoutSeconds=1"))
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


def test_a_watch_list_ends_its_beginning_with_a_bookmark(client: FlaskClient, store: Store) -> None:
    body(client.post(MAPS, json=config_map("a")), 201)
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    added, mark = events(client.get(f"{MAPS}?{query}"))
    assert (added["type"], mark["type"]) == ("ADDED", "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark["object"]["metadata"]["resourceVersion"] == str(store.current_rv())
    assert mark["object"]["kind"] == "ConfigMap"
    refused(client.get(f"{MAPS}?watch=1&sendInitialEvents=true"), 422, "Invalid")


def test_a_watch_sees_through_its_selector(client: FlaskClient) -> None:
    body(client.post(PODS, json=pod("a", app="x")), 201)
    rv = body(client.post(PODS, json=pod("b", app="y")), 201)["metadata"]["resourceVersion"]
    body(client.patch(f"{PODS}/a", json={"metadata": {"labels": {"app": "y"}}}, content_type=MERGE))
    body(client.patch(f"{PODS}/b", json={"metadata": {"labels": {"app": "x"}}}, content_type=MERGE))
    query = {"watch": 1, "labelSelector": "app=x", "resourceVersion": rv, "timeoutSeconds": 1}
    found = events(client.get(PODS, query_string=query))
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in found] == [
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]


def test_a_watch_of_tables_sends_the_columns_once(client: FlaskClient) -> None:
    body(client.post(MAPS, json=config_map("a")), 201)
    body(client.post(MAPS, json=config_map("b")), 201)
    found = events(client.get(f"{MAPS}?watch=1&timeoutSeconds=1", headers={"Accept": TABLE}))
    assert [len(event["object"]["columnDefinitions"] or ()) for event in found] == [3, 0]
    assert [event["object"]["rows"][0]["cells"][0] for event in found] == ["a", "b"]


# Forms of an answer


def test_a_table_is_what_kubectl_get_asks_for(client: FlaskClient) -> None:
    body(client.post(PODS, json=pod()), 201)
    shown = body(client.get(PODS, headers={"Accept": TABLE}))
    assert (shown["kind"], shown["rows"][0]["cells"][:3]) == ("Table", ["p", "0/1", "Pending"])
    assert shown["metadata"]["resourceVersion"]
    one = body(client.get(f"{PODS}/p?includeObject=Object", headers={"Accept": TABLE}))
    assert one["rows"][0]["object"]["spec"]["containers"][0]["name"] == "c"
    missing = client.get(f"{PODS}/none", headers={"Accept": TABLE})
    refused(missing, 404, "NotFound")


def test_metadata_alone_is_served(client: FlaskClient) -> None:
    body(client.post(PODS, json=pod()), 201)
    accept = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    one = body(client.get(f"{PODS}/p", headers=accept))
    assert (one["kind"], one["apiVersion"], "spec" in one) == ("PartialObjectMetadata", "meta.k8s.io/v1", False)
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    several = body(client.get(PODS, headers=accept))
    assert several["kind"] == "PartialObjectMetadataList"
    assert [item["kind"] for item in several["items"]] == ["PartialObjectMetadata"]


def test_yaml_is_read_and_written(client: FlaskClient) -> None:
    text = b"metadata: {name: a}\ndata:\n  day: '2026-11-23'\n  plain: 2026-11-23\n"
    response = client.post(MAPS, data=text, content_type="application/yaml", headers={"Accept": "application/yaml"})
    assert response.status_code == 201
    assert response.content_type == "application/yaml"
    assert b"\n  plain: '2026-11-23'\n" in response.data
    twice = b"metadata: {name: b}\nmetadata: {name: c}\n"
    refused(client.post(MAPS, data=twice, content_type="application/yaml"), 400, "BadRequest")


def test_a_client_that_takes_only_protobuf_gets_it(client: FlaskClient) -> None:
    made = body(client.post(MAPS, json=config_map(x="1")), 201)
    protobuf = "application/vnd.kubernetes.protobuf"
    response = client.get(f"{MAPS}/a", headers={"Accept": protobuf})
    assert (response.status_code, response.content_type) == (200, protobuf)
    assert response.data.startswith(b"k8s\x00")
    assert made["metadata"]["uid"].encode() in response.data
    assert client.get(f"{MAPS}/a", headers={"Accept": f"{protobuf}, */*"}).content_type == "application/json"
    missing = client.get(f"{MAPS}/b", headers={"Accept": protobuf})
    assert (missing.status_code, missing.content_type) == (404, protobuf)
    assert b'configmaps "b" not found' in missing.data
    refused(client.get(f"{MAPS}/a", headers={"Accept": "text/html"}), 406, "NotAcceptable")


@pytest.mark.parametrize(
    ("content_type", "data", "code", "reason"),
    [
        ("application/json", b"{", 400, "BadRequest"),
        ("application/json", b"", 400, "BadRequest"),
        ("application/json", b"[]", 400, "BadRequest"),
        ("application/json", b'{"a": NaN}', 400, "BadRequest"),
        ("application/json", b'{"a": 1e999}', 400, "BadRequest"),
        ("application/json", b'{"a": ' + b"9" * 5000 + b"}", 400, "BadRequest"),
        ("application/json", b"\xff", 400, "BadRequest"),
        ("application/json", b"[" * 100_000, 400, "BadRequest"),
        ("application/yaml", b"a: [", 400, "BadRequest"),
        ("application/yaml", b"a: &a [x]\nb: [*a, *a]", 400, "BadRequest"),
        ("application/yaml", b"!!python/object/apply:os.system ['true']", 400, "BadRequest"),
        ("application/json", b" " * (4 << 20), 413, "RequestEntityTooLarge"),
        ("text/plain", b"{}", 415, "UnsupportedMediaType"),
        ("application/cbor", b"\xa0", 415, "UnsupportedMediaType"),
    ],
)
def test_a_body_that_is_no_object_is_refused(
    client: FlaskClient, content_type: str, data: bytes, code: int, reason: str
) -> None:
    refused(client.post(MAPS, data=data, content_type=content_type), code, reason)


def test_a_body_without_a_type_is_json(client: FlaskClient) -> None:
    """kubectl 1.20 creates so."""
    body(client.post(MAPS, data=json.dumps(config_map())), 201)


def test_half_a_surrogate_does_not_break_the_store(client: FlaskClient) -> None:
    data = b'{"metadata": {"name": "a"}, "data": {"x": "\\ud800", "y": "\\u00e9"}}'
    assert body(client.post(MAPS, data=data), 201)["data"]["y"] == "é"
    assert body(client.get(f"{MAPS}/a"))["data"]["y"] == "é"


# Who may


def test_nobody_gets_nothing_but_health_and_version(anonymous: FlaskClient) -> None:
    refused(anonymous.get(PODS), 403, "Forbidden")
    refused(anonymous.get("/api/v1/imaginary"), 403, "Forbidden")
    refused(anonymous.get("/apis"), 403, "Forbidden")
    assert anonymous.get("/healthz").data == b"ok"
    assert anonymous.get("/readyz?verbose").status_code == 200
    assert body(anonymous.get("/version"))["major"] == "1"
    refused(anonymous.get(PODS, headers={"Authorization": "Bearer nonsense"}), 401, "Unauthorized")


def test_a_node_may_list_its_own_pods_only(anonymous: FlaskClient, authority: certs.CertificateAuthority) -> None:
    anonymous.environ_base["vkcri.peer_certificate"] = der("system:node:n", "system:nodes", authority=authority)
    body(anonymous.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn"))
    refused(anonymous.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dm"), 403, "Forbidden")
    refused(anonymous.get("/api/v1/pods"), 403, "Forbidden")
    refused(anonymous.get("/api/v1/pods?watch=1"), 403, "Forbidden")


# Paths


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/api/v1/imaginary", 404, "NotFound"),
        ("GET", "/apis/imaginary.io/v1/things", 404, "NotFound"),
        ("GET", "/api/v2/pods", 404, "NotFound"),
        ("GET", "/imaginary", 404, "NotFound"),
        ("GET", "/api/v1/pods/p", 404, "NotFound"),
        ("GET", f"{PODS}/p/imaginary", 404, "NotFound"),
        ("GET", f"{MAPS}/a/status", 404, "NotFound"),
        ("POST", "/api/v1/pods", 405, "MethodNotAllowed"),
        ("PUT", PODS, 405, "MethodNotAllowed"),
        ("DELETE", "/api/v1/namespaces", 405, "MethodNotAllowed"),
        ("POST", f"{PODS}/p", 405, "MethodNotAllowed"),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews", 405, "MethodNotAllowed"),
        ("POST", "/version", 405, "MethodNotAllowed"),
        ("OPTIONS", PODS, 405, "MethodNotAllowed"),
    ],
)
def test_what_is_not_served_is_said_so(client: FlaskClient, method: str, path: str, code: int, reason: str) -> None:
    refused(client.open(path, method=method, json={} if method in ("POST", "PUT") else None), code, reason)


def test_namespaces_and_their_subresources_are_found(client: FlaskClient) -> None:
    assert body(client.get("/api/v1/namespaces/default"))["kind"] == "Namespace"
    assert body(client.get("/api/v1/namespaces/default/status"))["kind"] == "Namespace"
    assert len(body(client.get("/api/v1/namespaces"))["items"]) == 2


def test_discovery_and_its_aggregate_agree(client: FlaskClient) -> None:
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}
    response = client.get("/apis", headers=accept)
    assert response.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = {item["metadata"]["name"]: item["versions"] for item in body(response)["items"]}
    plain = body(client.get("/apis"))
    assert sorted(groups) == sorted(item["name"] for item in plain["groups"])
    for name, versions in groups.items():
        listed = body(client.get(f"/apis/{name}/{versions[0]['version']}"))["resources"]
        whole = [item["name"] for item in listed if "/" not in item["name"]]
        assert whole == [item["resource"] for item in versions[0]["resources"]]
    core = body(client.get("/api", headers=accept))["items"][0]["versions"][0]["resources"]
    rows = body(client.get("/api/v1"))["resources"]
    assert {item["resource"] for item in core} == {item["name"] for item in rows if "/" not in item["name"]}
    pods = next(item for item in rows if item["name"] == "pods")
    assert (pods["shortNames"], pods["kind"], pods["namespaced"]) == (["po"], "Pod", True)


def test_openapi_says_that_fields_are_validated_here(client: FlaskClient) -> None:
    documents = body(client.get("/openapi/v3"))["paths"]
    document = body(client.get(documents["api/v1"]["serverRelativeURL"]))
    operation = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert "fieldValidation" in {item["name"] for item in operation["parameters"]}
    assert operation["x-kubernetes-group-version-kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    second = client.get("/openapi/v2", headers={"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"})
    assert (second.status_code, "@" in second.content_type) == (200, False)


# Subresources that act, and kinds that are never stored


def test_a_pod_is_bound_by_its_binding(client: FlaskClient) -> None:
    body(client.post(PODS, json=pod()), 201)
    body(client.post("/api/v1/nodes", json={"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node"}}), 201)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "node"},
    }
    assert body(client.post(f"{PODS}/p/binding", json=binding), 201)["status"] == "Success"
    assert body(client.get(f"{PODS}/p"))["spec"]["nodeName"] == "node"
    refused(client.post(f"{PODS}/p/binding", json=binding), 409, "Conflict")


def test_who_am_i_and_may_i(client: FlaskClient) -> None:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    review["spec"] = {"resourceAttributes": {"verb": "get", "resource": "pods"}}  # type: ignore[assignment]
    answer = body(client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=review), 201)
    assert answer["status"]["allowed"] is True
    who = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = body(client.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json=who), 201)
    assert answer["status"]["userInfo"]["username"] == "admin"


def test_logs_of_a_pod_without_a_node_are_empty_and_containers_are_named(client: FlaskClient) -> None:
    given = pod()
    given["spec"]["containers"].append({"name": "d", "image": "busybox"})
    body(client.post(PODS, json=given), 201)
    assert "[c d]" in refused(client.get(f"{PODS}/p/log"), 400, "BadRequest")["message"]
    refused(client.get(f"{PODS}/p/log?container=e"), 400, "BadRequest")
    assert client.get(f"{PODS}/p/log?container=d").data == b""
    refused(client.get(f"{PODS}/none/log"), 404, "NotFound")
