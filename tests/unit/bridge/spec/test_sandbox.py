"""The sandbox's configuration: names, labels, ports, namespaces, host names, the hosts file."""

from typing import Any

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec import Features, hosts, names, sandbox_config
from tests.unit.bridge.spec.make import container, context, pod
from vkcri.errors import Invalid


def config(found: dict[str, Any], **fields: Any) -> cri.PodSandboxConfig:
    return sandbox_config(found, context(**fields), 3)


def test_identity_labels_and_annotations() -> None:
    found = pod(terminationGracePeriodSeconds=7)
    found["metadata"].update(labels={"app": "web"}, annotations={"note": "x"})
    made = config(found, cgroup_parent="/vk/kubepods/podu-1")
    assert (made.metadata.name, made.metadata.namespace, made.metadata.uid, made.metadata.attempt) == (
        "web",
        "shop",
        "u-1",
        3,
    )
    assert dict(made.labels) == {
        "app": "web",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "u-1",
        "vkcri.instance": "spec-50",
    }
    assert dict(made.annotations) == {
        "note": "x",
        "kubernetes.io/config.source": "api",
        "io.kubernetes.pod.terminationGracePeriod": "7",
    }
    assert made.log_directory == "/var/log/vk-cri-spec-50/pods/shop_web_u-1"
    assert made.linux.cgroup_parent == "/vk/kubepods/podu-1"


def test_a_pod_cannot_claim_the_labels_of_another_instance() -> None:
    found = pod()
    found["metadata"]["labels"] = {"vkcri.instance": "other", "io.kubernetes.pod.uid": "else"}
    labels = config(found).labels
    assert (labels["vkcri.instance"], labels["io.kubernetes.pod.uid"]) == ("spec-50", "u-1")


def test_only_ports_with_a_host_port_are_mapped() -> None:
    ports = [
        {"containerPort": 80},
        {"containerPort": 81, "hostPort": 0},
        {"containerPort": 82, "hostPort": 8082, "protocol": "UDP", "hostIP": "127.0.0.1"},
    ]
    (mapping,) = config(pod(container(ports=ports))).port_mappings
    assert (mapping.container_port, mapping.host_port, mapping.protocol, mapping.host_ip) == (
        82,
        8082,
        cri.UDP,
        "127.0.0.1",
    )


def test_ports_of_sidecars_are_mapped_and_none_on_the_host_network() -> None:
    side = {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 1, "hostPort": 1}]}
    init = {"name": "i", "ports": [{"containerPort": 2, "hostPort": 2}]}
    found = pod(initContainers=[side, init])
    assert [mapping.host_port for mapping in config(found).port_mappings] == [1]
    found["spec"]["hostNetwork"] = True
    assert list(config(found).port_mappings) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, (cri.POD, cri.CONTAINER, cri.POD)),
        ({"hostNetwork": True}, (cri.NODE, cri.CONTAINER, cri.POD)),
        ({"hostPID": True}, (cri.POD, cri.NODE, cri.POD)),
        ({"hostIPC": True}, (cri.POD, cri.CONTAINER, cri.NODE)),
        ({"shareProcessNamespace": True}, (cri.POD, cri.POD, cri.POD)),
        ({"hostPID": True, "shareProcessNamespace": True}, (cri.POD, cri.NODE, cri.POD)),
    ],
)
def test_namespaces_are_the_nodes_the_pods_or_the_containers(spec: dict[str, Any], expected: tuple[int, ...]) -> None:
    options = config(pod(**spec)).linux.security_context.namespace_options
    assert (options.network, options.pid, options.ipc) == expected


def test_a_user_namespace_is_refused_not_dropped() -> None:
    with pytest.raises(Invalid, match=r"^can't set `spec.hostUsers: false`, runtime does not support user namespaces$"):
        config(pod(hostUsers=False))
    with pytest.raises(Invalid, match='RuntimeClass handler "crun" does not'):
        config(pod(hostUsers=False), features=Features(handler="crun"))
    assert not config(pod(hostUsers=True)).linux.security_context.namespace_options.HasField("userns_options")


def test_a_pods_range_of_ids_stands_in_its_sandbox_and_no_pod_can_claim_one() -> None:
    assert config(pod(hostUsers=False), first_id=131072).annotations[names.FIRST_ID] == "131072"
    forger = pod()
    forger["metadata"]["annotations"] = {names.FIRST_ID: "65536"}
    assert names.FIRST_ID not in config(forger).annotations


@pytest.mark.parametrize(
    ("spec", "kernel_name"),
    [
        ({}, "web"),
        ({"hostname": "h"}, "h"),
        ({"hostname": "h", "subdomain": "sub"}, "h"),
        ({"hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": True}, "h.sub.shop.svc.cluster.local"),
        ({"setHostnameAsFQDN": True}, "web"),
        ({"hostnameOverride": "full.example", "subdomain": "sub", "setHostnameAsFQDN": True}, "full.example"),
        ({"hostNetwork": True}, ""),
    ],
)
def test_host_names(spec: dict[str, Any], kernel_name: str) -> None:
    assert config(pod(**spec)).hostname == kernel_name


def test_a_long_pod_name_is_cut_to_a_host_name() -> None:
    found = pod()
    found["metadata"]["name"] = "a" * 62 + "-bcd"
    assert config(found).hostname == "a" * 62


def test_a_full_name_over_64_bytes_is_refused_with_the_kubelets_message() -> None:
    spec = {"hostname": "h" * 60, "subdomain": "sub", "setHostnameAsFQDN": True}
    with pytest.raises(
        Invalid, match=r"FQDN h+\.sub\.shop\.svc\.cluster\.local is too long \(64 characters is the max"
    ):
        config(pod(**spec))


@pytest.mark.parametrize("spec", [{"hostname": "Bad_"}, {"subdomain": "a.b"}, {"hostnameOverride": "-x"}])
def test_bad_host_names_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="is not a valid DNS"):
        config(pod(**spec))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["metadata"].update(name="../../etc"),
        lambda found: found["metadata"].update(namespace="a/b"),
        lambda found: found["metadata"].update(uid="../x"),
        lambda found: found["metadata"].update(uid="a..b"),
        lambda found: found["metadata"].update(uid=""),
        lambda found: found["spec"].update(containers=[{"name": "../c"}]),
        lambda found: found["spec"].update(initContainers=[{"name": "a/b"}]),
        lambda found: found["spec"].update(volumes=[{"name": "../v"}]),
        lambda found: found["spec"].update(volumes=[{"name": "v"}, {"name": "v"}]),
        lambda found: found["spec"].update(initContainers=[{"name": "app"}]),
    ],
)
def test_names_that_would_leave_their_folder_are_refused(change: Any) -> None:
    found = pod()
    change(found)
    with pytest.raises(Invalid):
        config(found)


def test_sandbox_resources_are_the_pods_sums_and_overhead_apart() -> None:
    amounts = {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "64Mi"}}
    found = pod(
        container(resources=amounts), {"name": "b", "resources": amounts}, overhead={"cpu": "100m", "memory": "10Mi"}
    )
    linux = config(found).linux
    assert (linux.resources.cpu_shares, linux.resources.cpu_quota, linux.resources.memory_limit_in_bytes) == (
        1024,
        200000,
        128 << 20,
    )
    assert (linux.overhead.cpu_shares, linux.overhead.cpu_quota, linux.overhead.memory_limit_in_bytes) == (
        102,
        10000,
        10 << 20,
    )


def test_the_managed_hosts_file_names_the_pod() -> None:
    found = pod(hostname="h", subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = hosts.content(found, context(pod_ips=("10.0.0.9", "fd00::9")), "node's")
    assert text == (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        "10.0.0.9\th.sub.shop.svc.cluster.local\th\n"
        "fd00::9\th.sub.shop.svc.cluster.local\th\n"
        "\n# Entries added by HostAliases.\n"
        "1.2.3.4\ta\tb\n"
    )


def test_a_host_network_pod_sees_the_nodes_hosts() -> None:
    text = hosts.content(pod(hostNetwork=True), context(), "127.0.0.1 me\n")
    assert text == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n"


@pytest.mark.parametrize(
    ("mounts", "addresses", "spec", "expected"),
    [
        ([], ("10.0.0.1",), {}, True),
        ([{"name": "v", "mountPath": "/etc/hosts"}], ("10.0.0.1",), {}, False),
        ([], (), {}, False),
        ([], (), {"hostNetwork": True}, True),
    ],
)
def test_the_hosts_file_is_wanted_with_an_address_and_no_mount_of_the_pods_own(
    mounts: list[dict[str, str]], addresses: tuple[str, ...], spec: dict[str, Any], expected: bool
) -> None:
    item = container(volumeMounts=mounts)
    assert hosts.wanted(pod(item, **spec), item, context(pod_ips=addresses)) is expected


def test_a_containers_hash_changes_with_its_image_only() -> None:
    first = names.container_hash({"name": "a", "image": "x"})
    assert names.container_hash({"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}}}) == first
    assert names.container_hash({"name": "a", "image": "y"}) != first
