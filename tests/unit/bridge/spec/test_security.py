"""The security context, pod and container level."""

from typing import Any

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec import Features, ImageRef, Prepared, container_config, sandbox_config, sysctls
from bridge.spec.security import MASKED_PATHS, READONLY_PATHS
from tests.unit.bridge.spec.make import container, context, pod
from vkcri.errors import ConfigError, Invalid


def made(
    own: dict[str, Any] | None = None, shared: dict[str, Any] | None = None, **fields: Any
) -> cri.LinuxContainerSecurityContext:
    item = container(securityContext=own or {})
    spec = {"securityContext": shared or {}}
    return container_config(pod(item, **spec), item, context(**fields), 0).linux.security_context


@pytest.mark.parametrize(
    ("own", "shared", "image", "expected"),
    [
        ({}, {}, ImageRef("i", "r"), (0, "")),
        ({}, {}, ImageRef("i", "r", uid=65534), (65534, "")),
        ({}, {}, ImageRef("i", "r", username="nobody"), (None, "nobody")),
        ({}, {"runAsUser": 5}, ImageRef("i", "r", username="nobody"), (5, "")),
        ({"runAsUser": 6}, {"runAsUser": 5}, ImageRef("i", "r"), (6, "")),
        ({"runAsUser": 0}, {"runAsUser": 5}, ImageRef("i", "r"), (0, "")),
    ],
)
def test_the_user_is_the_containers_the_pods_or_the_images(
    own: dict[str, Any], shared: dict[str, Any], image: ImageRef, expected: tuple[int | None, str]
) -> None:
    found = made(own, shared, image=image)
    user = found.run_as_user.value if found.HasField("run_as_user") else None
    assert (user, found.run_as_username) == expected


def test_group_and_supplemental_groups() -> None:
    shared = {"runAsGroup": 7, "fsGroup": 2000, "supplementalGroups": [3000, 2000]}
    found = made({}, shared, volumes={"v": Prepared("/x", groups=(4000,))})
    assert (found.run_as_group.value, list(found.supplemental_groups)) == (7, [2000, 3000, 4000])
    assert not made().HasField("run_as_group")
    assert made({"runAsGroup": 8}, shared).run_as_group.value == 8


def test_a_strict_group_policy_is_refused_where_the_runtime_would_drop_it() -> None:
    with pytest.raises(Invalid, match="Strict is not supported"):
        made({}, {"supplementalGroupsPolicy": "Strict"})
    supported = Features(supplemental_groups_policy=True)
    assert made({}, {"supplementalGroupsPolicy": "Strict"}, features=supported).supplemental_groups_policy == cri.Strict
    with pytest.raises(Invalid, match="unsupported supplementalGroupsPolicy: Odd"):
        made({}, {"supplementalGroupsPolicy": "Odd"})


WHERE = r'\(pod: "web_shop\(u-1\)", container: app\)'


@pytest.mark.parametrize(
    ("own", "image", "message"),
    [
        ({"runAsUser": 0}, ImageRef("i", "r"), f"container's runAsUser breaks non-root policy {WHERE}"),
        ({}, ImageRef("i", "r"), f"container has runAsNonRoot and image will run as root {WHERE}"),
        ({}, ImageRef("i", "r", uid=0), f"container has runAsNonRoot and image will run as root {WHERE}"),
        (
            {},
            ImageRef("i", "r", username="bob"),
            rf"image has non-numeric user \(bob\), cannot verify user is non-root {WHERE}",
        ),
        ({}, ImageRef("i", "r", uid=2**40), r"has an invalid user id \(1099511627776\)"),
    ],
)
def test_run_as_non_root_is_verified_with_the_kubelets_messages(
    own: dict[str, Any], image: ImageRef, message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        made({"runAsNonRoot": True, **own}, image=image)


def test_run_as_non_root_of_the_pod_passes_with_a_user_of_the_spec_or_of_the_image() -> None:
    with pytest.raises(Invalid, match="image will run as root"):
        made({}, {"runAsNonRoot": True})
    made({"runAsUser": 5}, {"runAsNonRoot": True})
    made({}, {"runAsNonRoot": True}, image=ImageRef("i", "r", uid=5))
    made({"runAsNonRoot": False}, {"runAsNonRoot": True})


def test_privileges() -> None:
    found = made({"privileged": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": True})
    assert (found.privileged, found.readonly_rootfs, found.no_new_privs) == (True, True, False)
    assert made({"allowPrivilegeEscalation": False}).no_new_privs
    assert not made().no_new_privs


def test_capabilities_are_passed_on() -> None:
    found = made({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}).capabilities
    assert (list(found.add_capabilities), list(found.drop_capabilities)) == (["NET_ADMIN"], ["ALL"])


@pytest.mark.parametrize(
    ("own", "shared", "kind", "path"),
    [
        (None, None, cri.SecurityProfile.Unconfined, ""),
        (None, {"type": "RuntimeDefault"}, cri.SecurityProfile.RuntimeDefault, ""),
        ({"type": "Unconfined"}, {"type": "RuntimeDefault"}, cri.SecurityProfile.Unconfined, ""),
        (
            {"type": "Localhost", "localhostProfile": "p/a.json"},
            None,
            cri.SecurityProfile.Localhost,
            "/var/lib/vk-cri-spec-50/seccomp/p/a.json",
        ),
    ],
)
def test_seccomp(own: dict[str, Any] | None, shared: dict[str, Any] | None, kind: int, path: str) -> None:
    found = made({"seccompProfile": own}, {"seccompProfile": shared}).seccomp
    assert (found.profile_type, found.localhost_ref) == (kind, path)


@pytest.mark.parametrize(
    "profile",
    [
        {"type": "Localhost"},
        {"type": "Localhost", "localhostProfile": "../x"},
        {"type": "Localhost", "localhostProfile": "/x"},
        {"type": "Odd"},
    ],
)
def test_bad_seccomp_profiles_are_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        made({"seccompProfile": profile})


@pytest.mark.parametrize(
    ("profile", "kind", "reference", "legacy"),
    [
        ({"type": "RuntimeDefault"}, cri.SecurityProfile.RuntimeDefault, "", "runtime/default"),
        ({"type": "Unconfined"}, cri.SecurityProfile.Unconfined, "", "unconfined"),
        ({"type": "Localhost", "localhostProfile": "p"}, cri.SecurityProfile.Localhost, "p", "localhost/p"),
    ],
)
def test_apparmor_in_both_spellings(profile: dict[str, str], kind: int, reference: str, legacy: str) -> None:
    found = made({"appArmorProfile": profile})
    assert (found.apparmor.profile_type, found.apparmor.localhost_ref, found.apparmor_profile) == (
        kind,
        reference,
        legacy,
    )


def test_apparmor_of_the_pod_is_that_of_a_container_without_its_own() -> None:
    shared = {"appArmorProfile": {"type": "Unconfined"}}
    assert made({}, shared).apparmor_profile == "unconfined"
    assert made({"appArmorProfile": {"type": "RuntimeDefault"}}, shared).apparmor_profile == "runtime/default"


def test_apparmor_is_left_to_the_runtime_unless_asked_for() -> None:
    found = made()
    assert (found.HasField("apparmor"), found.apparmor_profile) == (False, "")
    with pytest.raises(Invalid, match="missing localhost apparmor profile name"):
        made({"appArmorProfile": {"type": "Localhost"}})


def test_apparmor_of_the_old_annotation_counts() -> None:
    item = container()
    found = pod(item)
    found["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/app": "localhost/mine"}
    assert container_config(found, item, context(), 0).linux.security_context.apparmor_profile == "localhost/mine"


def test_selinux_options_are_passed_on_container_first() -> None:
    found = made({"seLinuxOptions": {"type": "t", "level": "s0"}}, {"seLinuxOptions": {"type": "other"}})
    assert (found.selinux_options.type, found.selinux_options.level, found.selinux_options.user) == ("t", "s0", "")
    shared = made({}, {"seLinuxOptions": {"user": "u", "role": "r"}}).selinux_options
    assert (shared.user, shared.role, shared.type) == ("u", "r", "")


def test_proc_is_masked_unless_asked_otherwise() -> None:
    assert (tuple(made().masked_paths), tuple(made().readonly_paths)) == (MASKED_PATHS, READONLY_PATHS)
    bare = made({"procMount": "Unmasked"})
    assert (list(bare.masked_paths), list(bare.readonly_paths)) == ([], [])


def test_an_ephemeral_container_joins_its_targets_processes() -> None:
    options = made(target_container_id="abc").namespace_options
    assert (options.pid, options.target_id) == (cri.TARGET, "abc")
    item = container()
    shared = container_config(pod(item, shareProcessNamespace=True), item, context(target_container_id="abc"), 0)
    assert shared.linux.security_context.namespace_options.pid == cri.POD


def test_a_group_without_a_user_is_not_asked_of_the_sandbox_which_containerd_would_refuse() -> None:
    found = sandbox_config(pod(securityContext={"runAsGroup": 6}), context(), 0).linux.security_context
    assert not found.HasField("run_as_group")


def test_the_sandbox_runs_as_the_pod_says_and_with_the_runtimes_seccomp() -> None:
    found = pod(
        container(securityContext={"privileged": True}),
        securityContext={
            "runAsUser": 5,
            "runAsGroup": 6,
            "fsGroup": 7,
            "sysctls": [{"name": "net.core.somaxconn", "value": "128"}],
            "seLinuxOptions": {"level": "s0:c1"},
            "seccompProfile": {"type": "Unconfined"},
        },
    )
    linux = sandbox_config(found, context(), 0).linux
    security = linux.security_context
    assert (security.run_as_user.value, security.run_as_group.value, list(security.supplemental_groups)) == (5, 6, [7])
    assert (security.privileged, security.selinux_options.level) == (True, "s0:c1")
    assert security.seccomp.profile_type == cri.SecurityProfile.RuntimeDefault
    assert dict(linux.sysctls) == {"net.core.somaxconn": "128"}


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.100/arp", "net.ipv4.conf.eth0/100.arp"),
        ("net.ipv4.conf.eth0/100.arp", "net.ipv4.conf.eth0/100.arp"),
    ],
)
def test_sysctls_have_one_spelling(written: str, normal: str) -> None:
    assert sysctls.normal(written) == normal


@pytest.mark.parametrize(
    ("name", "spec", "allowed", "forbidden"),
    [
        ("kernel.shm_rmid_forced", {}, "", ""),
        ("net.ipv4.tcp_syncookies", {}, "", ""),
        ("net.ipv4.tcp_notsent_lowat", {}, "", ""),
        ("net.core.somaxconn", {}, "", "not allowlisted"),
        ("net.core.somaxconn", {}, "net.core.*", ""),
        ("net.core.somaxconn", {}, "kernel.msg*, net/core/somaxconn", ""),
        ("net.core.somaxconn", {"hostNetwork": True}, "net.core.*", "not allowed with host Net enabled"),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, "", "not allowed with host Net enabled"),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, "", "not allowed with host IPC enabled"),
        ("kernel.shm_next_id", {"hostIPC": True}, "kernel.shm*", "not allowed with host IPC enabled"),
        ("kernel.shm_next_id", {}, "kernel.shm*", ""),
        ("kernel.domainname", {"hostNetwork": True}, "kernel.domainname", ""),
        ("user.max_pid_namespaces", {}, "user.*", "not allowed with host User enabled"),
        ("user.max_pid_namespaces", {"hostUsers": False}, "user.*", ""),
    ],
)
def test_only_safe_or_allowed_sysctls_of_the_pods_own_namespaces(
    name: str, spec: dict[str, Any], allowed: str, forbidden: str
) -> None:
    found = pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **spec)
    told = sysctls.forbidden(found, sysctls.allowlist(allowed))
    assert told == (f'forbidden sysctl: "{name}" {forbidden}' if forbidden else None)


@pytest.mark.parametrize("setting", ["net.core.*,kernel.pid_max", "vm.*", "Net.core", "net.*.x", "net. core", "*"])
def test_a_parameter_without_a_namespace_is_allowed_to_nobody(setting: str) -> None:
    with pytest.raises(ConfigError, match="allowed_unsafe_sysctls"):
        sysctls.allowlist(setting)
