"""A container's configuration: what CRI gets for each field of the spec."""

from typing import Any

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec import ContainerFiles, Features, ImageRef, Prepared, container_config
from bridge.spec import mounts as mounts_module
from tests.unit.bridge.spec.make import container, context, pod
from vkcri.errors import Invalid


def made(item: dict[str, Any], spec: dict[str, Any] | None = None, **fields: Any) -> cri.ContainerConfig:
    return container_config(pod(item, **(spec or {})), item, context(**fields), 2)


def test_identity_and_plain_fields() -> None:
    item = container(workingDir="/w", stdin=True, stdinOnce=True, tty=True, command=["a"], args=["b"])
    config = made(item)
    assert (config.metadata.name, config.metadata.attempt, config.log_path) == ("app", 2, "app/2.log")
    assert (config.image.image, config.image.user_specified_image) == ("sha256:abc", "busybox")
    assert (config.working_dir, config.stdin, config.stdin_once, config.tty) == ("/w", True, True, True)
    assert dict(config.labels) == {
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "u-1",
        "io.kubernetes.container.name": "app",
        "vkcri.instance": "spec-50",
    }


def test_what_must_outlive_the_pod_stands_in_annotations() -> None:
    item = container(
        terminationMessagePath="/tmp/m",
        terminationMessagePolicy="FallbackToLogsOnError",
        lifecycle={"preStop": {"exec": {"command": ["x"]}}},
        ports=[{"containerPort": 80}],
    )
    annotations = made(item, {"terminationGracePeriodSeconds": 9}).annotations
    assert annotations["io.kubernetes.container.restartCount"] == "2"
    assert annotations["io.kubernetes.container.terminationMessagePath"] == "/tmp/m"
    assert annotations["io.kubernetes.container.terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert annotations["io.kubernetes.container.preStopHandler"] == '{"exec":{"command":["x"]}}'
    assert annotations["io.kubernetes.container.ports"] == '[{"containerPort":80}]'
    assert annotations["io.kubernetes.pod.terminationGracePeriod"] == "9"


VOLUMES = {"data": Prepared("/host/data"), "cm": Prepared("/host/cm", "configMap", read_only=True)}


def test_volumes_are_bound_where_the_container_wants_them() -> None:
    wanted = [
        {"name": "data", "mountPath": "/data"},
        {"name": "data", "mountPath": "relative", "readOnly": True},
        {"name": "cm", "mountPath": "/cm"},
        {"name": "data", "mountPath": "/sub", "subPath": "a/b"},
    ]
    files = ContainerFiles("/pod/etc-hosts", "/pod/containers/app/2", {3: "/pod/volume-subpaths/data/app/3"})
    config = made(container(volumeMounts=wanted), volumes=VOLUMES, files=files)
    assert [(mount.container_path, mount.host_path, mount.readonly) for mount in config.mounts] == [
        ("/data", "/host/data", False),
        ("/relative", "/host/data", True),
        ("/cm", "/host/cm", True),
        ("/sub", "/pod/volume-subpaths/data/app/3", False),
        ("/etc/hosts", "/pod/etc-hosts", False),
        ("/dev/termination-log", "/pod/containers/app/2", False),
    ]


IMAGE = {"tools": Prepared("", "image", read_only=True, image="sha256:tools", image_name="shop/tools:1")}
VOUCHED = Features(handler="kata", image_volumes=True, image_sub_paths=True)


def test_an_image_is_mounted_by_the_runtime_and_noted_for_garbage_collection() -> None:
    wanted = [
        {"name": "tools", "mountPath": "/tools"},
        {"name": "tools", "mountPath": "/bin2", "subPath": "usr/bin"},
        {"name": "data", "mountPath": "/data"},
    ]
    files = ContainerFiles(subpaths={1: "usr/bin"})
    config = made(container(volumeMounts=wanted), volumes={**IMAGE, **VOLUMES}, features=VOUCHED, files=files)
    image = cri.ImageSpec(image="sha256:tools", user_specified_image="shop/tools:1", runtime_handler="kata")
    found = [(item.container_path, item.host_path, item.image_sub_path, item.readonly) for item in config.mounts]
    assert found == [("/tools", "", "", True), ("/bin2", "", "usr/bin", True), ("/data", "/host/data", "", False)]
    assert [item.image for item in config.mounts if item.HasField("image")] == [image, image]
    assert config.annotations["vkcri/image-volumes"] == "sha256:tools"
    assert "vkcri/image-volumes" not in made(container(), volumes=VOLUMES).annotations


@pytest.mark.parametrize(
    ("features", "mount", "message"),
    [
        (Features(), {}, "image volumes are not supported by this node's runtime"),
        (Features(image_volumes=True), {"subPath": "x"}, "subPath of an image is not supported by this node's runtime"),
        (Features(image_volumes=True), {"subPathExpr": "x"}, "subPath of an image is not supported"),
    ],
)
def test_an_image_that_the_runtime_would_not_mount_as_asked_is_refused(
    features: Features, mount: dict[str, Any], message: str
) -> None:
    item = container(volumeMounts=[{"name": "tools", "mountPath": "/tools", **mount}])
    with pytest.raises(Invalid, match=f'volume "tools": {message}'):
        made(item, volumes=IMAGE, features=features, files=ContainerFiles(subpaths={0: "x"}))


def test_a_sub_path_is_of_the_volume_and_never_of_the_containers_path() -> None:
    item = container(volumeMounts=[{"name": "data", "mountPath": "/data", "subPath": "x"}])
    (mount,) = made(item, volumes=VOLUMES, files=ContainerFiles(subpaths={0: "/bound"})).mounts
    assert (mount.container_path, mount.host_path) == ("/data", "/bound")
    with pytest.raises(Invalid, match='failed to prepare subPath for volumeMount "data" of container "app"'):
        made(item, volumes=VOLUMES)


@pytest.mark.parametrize(
    ("mode", "privileged", "expected"),
    [
        (None, False, cri.PROPAGATION_PRIVATE),
        ("None", False, cri.PROPAGATION_PRIVATE),
        ("HostToContainer", False, cri.PROPAGATION_HOST_TO_CONTAINER),
        ("Bidirectional", True, cri.PROPAGATION_BIDIRECTIONAL),
    ],
)
def test_mount_propagation(mode: str | None, privileged: bool, expected: int) -> None:
    mount = {"name": "data", "mountPath": "/data", "mountPropagation": mode}
    item = container(volumeMounts=[mount], securityContext={"privileged": privileged})
    assert made(item, volumes=VOLUMES).mounts[0].propagation == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([{"name": "gone", "mountPath": "/a"}], 'cannot find volume "gone" to mount into container "app"'),
        ([{"name": "data", "mountPath": "/a"}, {"name": "cm", "mountPath": "/a"}], "must be unique"),
        ([{"name": "data", "mountPath": "/a"}, {"name": "cm", "mountPath": "/a/"}], "must be unique"),
        ([{"name": "data", "mountPath": "/a:b"}], "Invalid value"),
        ([{"name": "data", "mountPath": ""}], "Invalid value"),
        ([{"name": "data", "mountPath": "/a", "mountPropagation": "Up"}], 'invalid MountPropagation mode: "Up"'),
        ([{"name": "data", "mountPath": "/a", "mountPropagation": "Bidirectional"}], "only to privileged containers"),
        ([{"name": "data", "mountPath": "/a", "recursiveReadOnly": "Enabled"}], "it is not read-only"),
        (
            [{"name": "data", "mountPath": "/a", "readOnly": True, "recursiveReadOnly": "Enabled"}],
            "it is not supported by the runtime",
        ),
    ],
)
def test_mounts_that_cannot_be_made_are_refused(wanted: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        made(container(volumeMounts=wanted), volumes=VOLUMES)


def test_recursive_read_only_is_used_where_the_runtime_can() -> None:
    mount = {"name": "data", "mountPath": "/a", "readOnly": True, "recursiveReadOnly": "IfPossible"}
    item = container(volumeMounts=[mount])
    assert not made(item, volumes=VOLUMES).mounts[0].recursive_read_only
    assert made(item, volumes=VOLUMES, features=Features(recursive_read_only=True)).mounts[0].recursive_read_only


def test_sub_path_expressions_expand_with_the_environment() -> None:
    mount = {"name": "data", "mountPath": "/a", "subPathExpr": "$(POD)/logs"}
    item = container(env=[{"name": "POD", "value": "p"}], volumeMounts=[{"name": "data", "mountPath": "/x"}, mount])
    assert mounts_module.subpaths(pod(item), item, context()) == {1: "p/logs"}


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"subPath": "/etc"}, "must not be an absolute path"),
        ({"subPath": "a/../../b"}, "must not contain '..'"),
        ({"subPath": ".."}, "must not contain '..'"),
        ({"subPathExpr": "$(EVIL)"}, "must not contain '..'"),
        ({"subPathExpr": "$(ROOT)"}, "must not be an absolute path"),
        ({"subPathExpr": "$(NONE)"}, r'missing value for "NONE"'),
        ({"subPath": "a", "subPathExpr": "b"}, "mutually exclusive"),
    ],
)
def test_sub_paths_that_leave_the_volume_are_refused(mount: dict[str, str], message: str) -> None:
    entries = [{"name": "EVIL", "value": "../x"}, {"name": "ROOT", "value": "/etc"}]
    item = container(env=entries, volumeMounts=[{"name": "data", "mountPath": "/a", **mount}])
    with pytest.raises(Invalid, match=message):
        mounts_module.subpaths(pod(item), item, context())


def test_a_stop_signal_is_passed_on() -> None:
    assert made(container(lifecycle={"stopSignal": "SIGRTMIN+3"})).stop_signal == cri.SIGNAL_SIGRTMINPLUS3
    with pytest.raises(Invalid, match="Unsupported value"):
        made(container(lifecycle={"stopSignal": "SIGNOPE"}))


def test_every_mount_of_a_pod_with_its_own_users_shows_files_by_the_ids_that_its_containers_see() -> None:
    item = container(volumeMounts=[{"name": "data", "mountPath": "/d"}])
    ctx = context(volumes=VOLUMES, first_id=131072, features=Features(user_namespaces=True))
    config = container_config(pod(item, hostUsers=False), item, ctx, 0)
    users = config.linux.security_context.namespace_options.userns_options
    assert (users.mode, [(item.host_id, item.container_id, item.length) for item in users.uids]) == (
        cri.POD,
        [(131072, 0, 65536)],
    )
    assert [list(mount.uidMappings) for mount in config.mounts] == [list(users.uids)]
    assert [list(mount.gidMappings) for mount in config.mounts] == [list(users.gids)]
    assert not made(item, volumes=VOLUMES).mounts[0].uidMappings


def test_block_volumes_and_resource_claims_are_refused_by_name() -> None:
    with pytest.raises(Invalid, match="volumeDevices"):
        made(container(volumeDevices=[{"name": "d", "devicePath": "/dev/x"}]))
    with pytest.raises(Invalid, match=r"resources\.claims"):
        made(container(resources={"claims": [{"name": "gpu"}]}))


def test_an_image_by_digest_keeps_its_name() -> None:
    name = f"example.com/a@sha256:{'0' * 64}"
    config = made(container(image=name), image=ImageRef(name, "sha256:1"))
    assert (config.image.image, config.image.user_specified_image) == ("sha256:1", name)
