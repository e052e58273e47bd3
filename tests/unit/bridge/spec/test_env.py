"""A container's environment by the kubelet's rules."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.spec import Prepared, container_config, container_findings, env, expansion
from tests.unit.bridge.spec.make import config_map, container, context, pod, secret, service
from vkcri.errors import Invalid, NotFound, Refused, Unavailable


def resolved(entries: list[dict[str, Any]], objects: dict[str, bytes] | None = None, **fields: Any) -> dict[str, str]:
    item = container(env=entries)
    return env.environment(pod(item), item, context(objects, **fields))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("100$", "100$"),
        ("$()", "$()"),
        ("$(C)", "$(A)"),
    ],
)
def test_references_expand_once_and_dollars_escape(text: str, expected: str) -> None:
    assert expansion.expand(text, {"A": "1", "C": "$(A)"}, {"A": "0", "B": "2"}) == expected


def test_literals_see_earlier_variables_only() -> None:
    found = resolved(
        [
            {"name": "LATE", "value": "$(EARLY)"},
            {"name": "EARLY", "value": "1"},
            {"name": "NOW", "value": "$(EARLY)!"},
            {"name": "EMPTY"},
        ]
    )
    assert (found["LATE"], found["NOW"], found["EMPTY"]) == ("$(EARLY)", "1!", "")


def test_command_and_arguments_expand_with_the_environment() -> None:
    item = container(env=[{"name": "A", "value": "1"}], command=["sh", "$(A)"], args=["$(A)$$(A)", "$(B)"])
    config = container_config(pod(item), item, context(), 0)
    assert (list(config.command), list(config.args)) == (["sh", "1"], ["1$(A)", "$(B)"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['a/b']", "c"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['n']", 'q"'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "192.168.0.5"),
        ("status.hostIPs", "192.168.0.5,fd00::5"),
        ("status.podIP", "10.244.0.7"),
        ("status.podIPs", "10.244.0.7,fd00::7"),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    item = container(env=[{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}])
    found = pod(item, nodeName="node-1", serviceAccountName="robot")
    found["metadata"].update(labels={"a/b": "c"}, annotations={"n": 'q"'})
    ctx = context(pod_ips=("10.244.0.7", "fd00::7"), host_ips=("192.168.0.5", "fd00::5"))
    assert env.environment(found, item, ctx)["X"] == value


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(Invalid, match=r"unsupported fieldPath: spec\.x"):
        resolved([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}])


RESOURCES = {"limits": {"cpu": "1500m", "memory": "100Mi"}, "requests": {"cpu": "250m"}}


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", None, "2"),
        ("limits.cpu", "1m", "1500"),
        ("limits.cpu", "0", "2"),
        ("limits.memory", None, str(100 << 20)),
        ("limits.memory", "1Mi", "100"),
        ("limits.memory", "1Gi", "1"),
        ("requests.cpu", "1m", "250"),
        ("requests.memory", "1Mi", "100"),
        ("limits.ephemeral-storage", "1Gi", "10"),
        ("requests.ephemeral-storage", None, "0"),
    ],
)
def test_resources_are_divided_and_rounded_up_with_the_nodes_allocatable_as_default(
    resource: str, divisor: str | None, value: str
) -> None:
    reference = {"resource": resource, **({"divisor": divisor} if divisor else {})}
    item = container(resources=RESOURCES, env=[{"name": "X", "valueFrom": {"resourceFieldRef": reference}}])
    assert env.environment(pod(item), item, context())["X"] == value


def test_a_limit_left_out_is_the_nodes_allocatable() -> None:
    assert resolved(
        [{"name": "X", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]
    ) == {"X": "3500"}


def test_a_resource_of_another_container_is_found_by_name() -> None:
    reference = {"containerName": "other", "resource": "limits.cpu"}
    item = container(env=[{"name": "X", "valueFrom": {"resourceFieldRef": reference}}])
    other = {"name": "other", "resources": {"limits": {"cpu": "3"}}}
    assert env.environment(pod(item, other), item, context())["X"] == "3"
    with pytest.raises(Invalid, match="container other not found"):
        env.environment(pod(item), item, context())


def key_ref(kind: str, optional: bool = False, key: str = "k") -> list[dict[str, Any]]:
    return [{"name": "X", "valueFrom": {kind: {"name": "o", "key": key, "optional": optional}}}]


def test_keys_of_config_maps_and_secrets() -> None:
    objects = {"configmaps/shop/o": config_map(k="v"), "secrets/shop/o": secret(k=b"s3")}
    assert resolved(key_ref("configMapKeyRef"), objects) == {"X": "v"}
    assert resolved(key_ref("secretKeyRef"), objects) == {"X": "s3"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [("configMapKeyRef", 'configmap "o" not found'), ("secretKeyRef", 'secret "o" not found')],
)
def test_a_missing_object_is_the_kubelets_message_unless_optional(kind: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        resolved(key_ref(kind))
    assert resolved(key_ref(kind, optional=True)) == {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("configMapKeyRef", "couldn't find key z in ConfigMap shop/o"),
        ("secretKeyRef", "couldn't find key z in Secret shop/o"),
    ],
)
def test_a_missing_key_is_the_kubelets_message_unless_optional(kind: str, message: str) -> None:
    objects = {"configmaps/shop/o": config_map(k="v"), "secrets/shop/o": secret(k=b"s")}
    with pytest.raises(NotFound, match=message):
        resolved(key_ref(kind, key="z"), objects)
    assert resolved(key_ref(kind, optional=True, key="z"), objects) == {}


def test_an_object_not_heard_of_yet_is_waited_for_even_if_optional() -> None:
    item = container(env=key_ref("configMapKeyRef", optional=True))
    ctx = dataclasses.replace(context(), objects=lambda _key: None)
    with pytest.raises(Unavailable):
        container_config(pod(item), item, ctx, 0)


def test_a_forbidden_object_is_said_to_be() -> None:
    with pytest.raises(Refused, match="forbidden"):
        resolved(key_ref("secretKeyRef"), {"secrets/shop/o": b"forbidden"})


def test_a_container_config_error_is_invalid_whatever_its_cause() -> None:
    item = container(env=key_ref("configMapKeyRef"))
    with pytest.raises(Invalid, match='configmap "o" not found'):
        container_config(pod(item), item, context(), 0)


def test_env_from_takes_all_keys_with_a_prefix_and_env_overrides() -> None:
    item = container(
        envFrom=[
            {"configMapRef": {"name": "a"}},
            {"prefix": "P_", "secretRef": {"name": "b"}},
            {"configMapRef": {"name": "absent", "optional": True}},
            {"secretRef": {"name": "absent", "optional": True}},
        ],
        env=[{"name": "one", "value": "mine $(two)"}],
    )
    objects = {"configmaps/shop/a": config_map(one="1", two="2"), "secrets/shop/b": secret(one=b"s")}
    found = env.environment(pod(item), item, context(objects))
    assert found == {"one": "mine 2", "two": "2", "P_one": "s"}


def test_a_later_env_from_wins() -> None:
    item = container(envFrom=[{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}])
    objects = {"configmaps/shop/a": config_map(k="1"), "configmaps/shop/b": config_map(k="2")}
    assert env.environment(pod(item), item, context(objects)) == {"k": "2"}


def test_env_from_of_a_missing_object_fails() -> None:
    item = container(envFrom=[{"secretRef": {"name": "gone"}}])
    with pytest.raises(NotFound, match='secret "gone" not found'):
        env.environment(pod(item), item, context())


def test_keys_that_no_environment_can_hold_are_skipped_with_an_event() -> None:
    item = container(envFrom=[{"prefix": "a=", "configMapRef": {"name": "a"}}])
    ctx = context({"configmaps/shop/a": config_map(x="1", b="2")})
    assert env.environment(pod(item), item, ctx) == {}
    (finding,) = container_findings(pod(item), item, ctx)
    assert (finding.type, finding.reason) == ("Warning", "InvalidEnvironmentVariableNames")
    assert finding.message == (
        "Keys [a=b, a=x] from the EnvFrom configMap shop/a were skipped since they are considered invalid environment "
        "variable names."
    )


def test_keys_that_are_no_c_identifiers_pass_as_on_a_new_kubelet() -> None:
    item = container(envFrom=[{"configMapRef": {"name": "a"}}])
    ctx = context({"configmaps/shop/a": config_map(**{"1-a.b": "x"})})
    assert env.environment(pod(item), item, ctx) == {"1-a.b": "x"}
    assert container_findings(pod(item), item, ctx) == ()


def test_a_secret_of_any_bytes_reaches_the_runtime_unharmed() -> None:
    item = container(env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "o", "key": "k"}}}])
    config = container_config(pod(item), item, context({"secrets/shop/o": secret(k=b"\xff\xfe\x80")}), 0)
    assert [(entry.key, entry.value) for entry in config.envs] == [("X", b"\xff\xfe\x80")]


def test_a_nul_byte_is_refused_without_showing_the_value() -> None:
    with pytest.raises(Invalid) as caught:
        resolved(key_ref("secretKeyRef"), {"secrets/shop/o": secret(k=b"s3cr3t\0")})
    assert "s3cr3t" not in str(caught.value)


def test_a_source_that_is_not_supported_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="cloudKeyRef is not supported"):
        resolved([{"name": "X", "valueFrom": {"cloudKeyRef": {"path": "a"}}}])


class TestFiles:
    """fileKeyRef, with a volume `v` that holds the file a.env."""

    def resolved(self, volume: str = "v", path: str = "a.env", key: str = "K", **more: Any) -> dict[str, str]:
        def volume_file(volume: str, path: str) -> Iterator[bytes]:
            if path != "a.env":
                raise NotFound(f"{volume} has no {path}")
            yield from (b"K='one'\n", b"EMPTY=''\n", b"S3CR3T\n")

        reference = {"volumeName": volume, "path": path, "key": key, **more}
        entries = [{"name": "X", "valueFrom": {"fileKeyRef": reference}}]
        volumes = {"v": Prepared("/volumes/v"), "image": Prepared("", "image", image="sha256:1")}
        return resolved(entries, volumes=volumes, volume_file=volume_file)

    def test_a_key_is_read(self) -> None:
        assert self.resolved() == {"X": "one"}

    @pytest.mark.parametrize("optional", [False, True])
    def test_a_key_that_is_empty_or_missing_is_left_out_or_an_error(self, optional: bool) -> None:
        if optional:
            assert self.resolved(key="EMPTY", optional=True) == {}
            return
        with pytest.raises(Invalid) as caught:
            self.resolved(key="EMPTY")
        assert str(caught.value) == 'environment variable key "EMPTY" not found in file "/volumes/v/a.env"'

    @pytest.mark.parametrize("optional", [False, True])
    def test_a_file_that_is_missing_or_malformed_is_an_error_that_quotes_nothing(self, optional: bool) -> None:
        for place in ({"path": "b.env"}, {"key": "OTHER"}):
            with pytest.raises(Invalid) as caught:
                self.resolved(**place, optional=optional)  # type: ignore[arg-type]
            assert str(caught.value) == "couldn't parse env file"

    def test_a_volume_that_is_missing_is_named(self) -> None:
        with pytest.raises(Invalid, match='cannot find the volume "w" referenced by FileKeyRef'):
            self.resolved(volume="w")

    def test_an_image_has_no_path_here_that_could_be_read(self) -> None:
        with pytest.raises(Invalid, match='failed to get host path for volume "image": path is empty'):
            self.resolved(volume="image")


def test_service_variables_are_docker_links() -> None:
    found = env.service_variables([service("my-db", port=5432, name="pg", protocol="TCP")], "shop")
    assert found == {
        "MY_DB_SERVICE_HOST": "10.0.0.1",
        "MY_DB_SERVICE_PORT": "5432",
        "MY_DB_SERVICE_PORT_PG": "5432",
        "MY_DB_PORT": "tcp://10.0.0.1:5432",
        "MY_DB_PORT_5432_TCP": "tcp://10.0.0.1:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_ADDR": "10.0.0.1",
    }


def test_an_ipv6_service_is_bracketed_in_urls_only() -> None:
    found = env.service_variables([service("six", address="fd00::1", protocol="UDP")], "shop")
    assert (found["SIX_SERVICE_HOST"], found["SIX_PORT"]) == ("fd00::1", "udp://[fd00::1]:80")


def test_only_the_own_namespace_and_the_api_server_have_variables() -> None:
    services = [
        service("here"),
        service("there", namespace="other"),
        service("kubernetes", namespace="default", address="10.96.0.1"),
        service("headless", address="None"),
        service("pending", address=None),
    ]
    hosts = {name for name in env.service_variables(services, "shop") if name.endswith("_SERVICE_HOST")}
    assert hosts == {"HERE_SERVICE_HOST", "KUBERNETES_SERVICE_HOST"}


def test_without_service_links_the_api_server_is_still_named() -> None:
    services = [service("here"), service("kubernetes", namespace="default", address="10.96.0.1")]
    item = container()
    found = env.environment(pod(item, enableServiceLinks=False), item, context(services=services))
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert "HERE_SERVICE_HOST" not in found


def test_a_variable_of_the_container_wins_over_a_service_variable_and_may_refer_to_one() -> None:
    entries = [{"name": "HERE_SERVICE_PORT", "value": "1"}, {"name": "URL", "value": "http://$(HERE_SERVICE_HOST)"}]
    found = resolved(entries, services=[service("here")])
    assert (found["HERE_SERVICE_PORT"], found["URL"]) == ("1", "http://10.0.0.1")
