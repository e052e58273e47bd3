"""Volumes with real mounts: kinds, modes, live update, tokens, tear-down."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.volumes import NotReady, Volumes, mounting
from tests.unit.bridge.volumes.make import World
from vkcri.apiserver import schema

pytestmark = [pytest.mark.container, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]
Prepare = Callable[..., Any]


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def filesystem(path: str | Path) -> str:
    """The type of the file system that holds path."""
    return subprocess.run(
        ["stat", "-f", "-c", "%T", path], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()


def test_an_empty_dir_is_open_to_all_and_keeps_what_is_in_it(world: World, prepared: Prepare) -> None:
    found = prepared({"emptyDir": {}})
    assert found.path == str(world.settings.instance.volumes_dir / "uid-1/kubernetes.io~empty-dir/v")
    assert (mode(found.path), found.read_only) == (0o777, False)
    (Path(found.path) / "x").write_text("kept")
    assert prepared({"emptyDir": {}}) == found
    assert (Path(found.path) / "x").read_text() == "kept"


def test_a_volume_without_a_source_is_an_empty_dir(prepared: Prepare) -> None:
    assert prepared({}).kind == "emptyDir"


def test_an_empty_dir_on_disk_may_hold_programs(prepared: Prepare) -> None:
    script = Path(prepared({"emptyDir": {}}).path) / "run"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    assert subprocess.run([script], timeout=10).returncode == 7


def test_an_fs_group_owns_an_empty_dir(prepared: Prepare) -> None:
    for medium, bits in (("", 0o2777), ("Memory", 0o3777)):
        path = prepared({"emptyDir": {"medium": medium}}, securityContext={"fsGroup": 4321}).path
        assert (os.stat(path).st_gid, mode(path)) == (4321, bits)


@pytest.mark.parametrize(
    ("source", "spec", "size"),
    [
        ({"sizeLimit": "10Mi"}, {}, 10 << 20),
        ({}, {}, 1 << 30),
        ({}, {"containers": [{"name": "app", "resources": {"limits": {"memory": "64Mi"}}}]}, 64 << 20),
        ({"sizeLimit": "2Gi"}, {}, 1 << 30),
    ],
)
def test_a_memory_volume_is_a_tmpfs_of_bounded_size(
    prepared: Prepare, source: dict[str, Any], spec: dict[str, Any], size: int
) -> None:
    path = prepared({"emptyDir": {"medium": "Memory", **source}}, **spec).path
    status = os.statvfs(path)
    assert (filesystem(path), status.f_blocks * status.f_frsize, mode(path)) == ("tmpfs", size, 0o1777)


def test_a_medium_that_is_not_offered_is_said(prepared: Prepare) -> None:
    with pytest.raises(NotReady, match='emptyDir medium "HugePages" is not supported'):
        prepared({"emptyDir": {"medium": "HugePages"}})


def test_a_config_map_shows_data_and_binary_data(world: World, prepared: Prepare) -> None:
    world.config_map("cm", {"a": "1\n"}, binaryData={"b": "/wA="})
    found = prepared({"configMap": {"name": "cm"}})
    path = Path(found.path)
    assert ((path / "a").read_bytes(), (path / "b").read_bytes(), found.read_only) == (b"1\n", b"\xff\0", True)
    assert mode(path / "a") == 0o644
    assert path.name == "v"
    assert path.parent.name == "kubernetes.io~configmap"


def test_items_choose_paths_and_modes(world: World, prepared: Prepare) -> None:
    world.config_map("cm", {"a": "1", "b": "2"})
    source = {
        "name": "cm",
        "defaultMode": 0o440,
        "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o755}],
    }
    path = Path(prepared({"configMap": source}).path)
    assert (mode(path / "x/y"), mode(path / "z")) == (0o440, 0o755)
    assert not (path / "a").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMap": {"name": "gone"}}, 'MountVolume.SetUp failed for volume "v" : configmap "gone" not found'),
        ({"secret": {"secretName": "gone"}}, 'MountVolume.SetUp failed for volume "v" : secret "gone" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}},
            'MountVolume.SetUp failed for volume "v" : references non-existent config key: z',
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}},
            'MountVolume.SetUp failed for volume "v" : references non-existent secret key: z',
        ),
        (
            {"projected": {"sources": [{"secret": {"name": "gone"}}]}},
            'MountVolume.SetUp failed for volume "v" : secret "gone" not found',
        ),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../x"}]}}, "must not contain '..'"),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "/x"}]}}, "must be relative path"),
        ({"somethingNew": {}}, "volumes of kind somethingNew are not supported"),
    ],
)
def test_what_cannot_be_set_up_is_named(world: World, prepared: Prepare, source: dict[str, Any], message: str) -> None:
    world.config_map("cm", {"a": "1"})
    world.secret("s", {"a": b"1"})
    for key in ("configmaps/shop/gone", "secrets/shop/gone"):
        world.objects[key] = b"absent"
    with pytest.raises(NotReady) as caught:
        prepared(source)
    assert message in str(caught.value)


OFFERED = {"name", "configMap", "downwardAPI", "emptyDir", "hostPath", "image", "projected", "secret"}
PROJECTED = {"configMap", "downwardAPI", "secret", "serviceAccountToken"}


@pytest.mark.parametrize("kind", sorted(set(schema.fields("Volume")) - OFFERED))
def test_every_other_kind_of_volume_that_kubernetes_has_is_refused(prepared: Prepare, kind: str) -> None:
    with pytest.raises(NotReady, match=f'"v" : volumes of kind {kind} are not supported by this node'):
        prepared({kind: {}})


@pytest.mark.parametrize("kind", sorted(set(schema.fields("VolumeProjection")) - PROJECTED))
def test_every_other_kind_of_projection_that_kubernetes_has_is_refused(prepared: Prepare, kind: str) -> None:
    with pytest.raises(NotReady, match=f'"v" : projected source {kind} is not supported by this node'):
        prepared({"projected": {"sources": [{kind: {}}]}})


@pytest.mark.parametrize(
    "source",
    [
        {"configMap": {"name": "gone", "optional": True}},
        {"secret": {"secretName": "gone", "optional": True}},
        {"projected": {"sources": [{"configMap": {"name": "gone", "optional": True}}]}},
        {"projected": {"sources": [{"secret": {"name": "gone", "optional": True}}]}},
        {"configMap": {"name": "cm", "optional": True, "items": [{"key": "z", "path": "z"}]}},
    ],
)
def test_what_is_optional_and_missing_is_an_empty_folder_and_may_appear_later(
    world: World, volumes: Volumes, source: dict[str, Any]
) -> None:
    world.config_map("cm", {"a": "1"})
    world.objects["configmaps/shop/gone"] = world.objects["secrets/shop/gone"] = b"absent"
    pod = world.pod({"name": "v", **source})
    path = Path(volumes.prepare(pod)["v"].path)
    assert [entry.name for entry in path.iterdir() if not entry.name.startswith("..")] == []
    for name in ("gone", "cm"):
        world.config_map(name, {"z": "late"})
        world.secret(name, {"z": b"late"})
    volumes.refresh(pod)
    assert (path / "z").read_text() == "late"


def test_an_object_that_is_not_known_yet_is_waited_for_even_if_optional(prepared: Prepare) -> None:
    with pytest.raises(NotReady, match="has not been read from the API server yet") as caught:
        prepared({"configMap": {"name": "later", "optional": True}})
    assert caught.value.pending


def test_what_is_wrong_is_not_pending(world: World, prepared: Prepare) -> None:
    world.objects["configmaps/shop/gone"] = b"absent"
    with pytest.raises(NotReady) as caught:
        prepared({"configMap": {"name": "gone"}})
    assert not caught.value.pending


def test_secrets_are_on_tmpfs_with_the_modes_asked_for(world: World, prepared: Prepare) -> None:
    world.secret("s", {"k": b"\xffsecret"})
    path = Path(prepared({"secret": {"secretName": "s", "defaultMode": 0o400}}).path)
    assert (filesystem(path), (path / "k").read_bytes(), mode(path / "k")) == ("tmpfs", b"\xffsecret", 0o400)
    assert mounting.is_mounted(path)


def test_a_secret_that_is_missing_leaves_no_mount(world: World, prepared: Prepare) -> None:
    world.objects["secrets/shop/gone"] = b"absent"
    with pytest.raises(NotReady):
        prepared({"secret": {"secretName": "gone"}})
    assert mounting.mounts_below(world.settings.instance.volumes_dir) == []


def test_the_downward_api_as_files(prepared: Prepare) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "one", "fieldRef": {"fieldPath": "metadata.labels['b']"}, "mode": 0o400},
        {"path": "limits/cpu", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu", "divisor": "1m"}},
    ]
    path = Path(prepared({"downwardAPI": {"items": items}}).path)
    assert (path / "labels").read_text() == 'a="1\\"\\n"\nb="2"'
    assert ((path / "one").read_text(), mode(path / "one"), (path / "limits/cpu").read_text()) == ("2", 0o400, "2000")


def test_the_downward_api_has_a_mode_for_all_its_files(prepared: Prepare) -> None:
    items = [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
    path = Path(prepared({"downwardAPI": {"items": items, "defaultMode": 0o440}}).path)
    assert mode(path / "name") == 0o440


def test_changed_labels_reach_a_downward_api_volume(world: World, volumes: Volumes) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    pod = world.pod({"name": "v", "downwardAPI": {"items": items}})
    path = Path(volumes.prepare(pod)["v"].path)
    pod["metadata"]["labels"] = {"new": "1"}
    assert volumes.refresh(pod) is None
    assert (path / "labels").read_text() == 'new="1"'


def test_an_update_swaps_the_whole_folder(world: World, volumes: Volumes) -> None:
    world.config_map("cm", {"a": "1", "b": "1"})
    pod = world.pod({"name": "v", "configMap": {"name": "cm"}})
    path = Path(volumes.prepare(pod)["v"].path)
    world.config_map("cm", {"b": "2", "c": "2"})
    volumes.refresh(pod)
    assert sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("..")) == ["b", "c"]
    assert (path / "b").read_text() == "2"


def test_an_object_that_disappears_leaves_the_files_and_is_said(world: World, volumes: Volumes) -> None:
    world.config_map("cm", {"a": "1"})
    world.config_map("other", {"a": "1"})
    pod = world.pod({"name": "v", "configMap": {"name": "cm"}}, {"name": "w", "configMap": {"name": "other"}})
    found = volumes.prepare(pod)
    world.objects["configmaps/shop/cm"] = b"absent"
    world.config_map("other", {"a": "2"})
    with pytest.raises(NotReady, match='configmap "cm" not found'):
        volumes.refresh(pod)
    assert (Path(found["v"].path) / "a").read_text() == "1"
    assert (Path(found["w"].path) / "a").read_text() == "2"


def test_an_immutable_object_is_kept_as_it_was_seen(world: World, volumes: Volumes) -> None:
    world.config_map("cm", {"a": "1"}, immutable=True)
    pod = world.pod({"name": "v", "configMap": {"name": "cm"}})
    path = Path(volumes.prepare(pod)["v"].path)
    world.config_map("cm", {"a": "2"})
    volumes.refresh(pod)
    assert (path / "a").read_text() == "1"


TOKEN = {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 1000}}]}}


def test_a_token_is_asked_for_the_pods_account_and_bound_to_the_pod(world: World, prepared: Prepare) -> None:
    source = {"serviceAccountToken": {"path": "t", "expirationSeconds": 700, "audience": "vault"}}
    path = Path(prepared({"projected": {"sources": [source]}}).path)
    assert world.requests == [
        {
            "namespace": "shop",
            "serviceAccount": "robot",
            "audiences": ["vault"],
            "expirationSeconds": 700,
            "podName": "web",
            "podUID": "uid-1",
        }
    ]
    assert (path / "t").read_text().startswith("head.")
    assert filesystem(path) == "tmpfs"


def test_a_token_asks_for_an_hour_unless_told(world: World, prepared: Prepare) -> None:
    prepared({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})
    assert (world.requests[0]["expirationSeconds"], world.requests[0]["audiences"]) == (3600, [])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, (0, 0, 0o644)),
        ({"securityContext": {"runAsUser": 1000}}, (1000, 0, 0o600)),
        ({"securityContext": {"fsGroup": 2000}}, (0, 2000, 0o640)),
        ({"securityContext": {"runAsUser": 1000, "fsGroup": 2000}}, (1000, 2000, 0o640)),
        ({"containers": [{"name": "app", "securityContext": {"runAsUser": 5}}]}, (5, 0, 0o600)),
        (
            {"containers": [{"name": "app", "securityContext": {"runAsUser": 5}}, {"name": "b"}]},
            (0, 0, 0o644),
        ),
    ],
)
def test_a_token_is_readable_by_those_who_run_the_pod(
    prepared: Prepare, spec: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    status = os.stat(Path(prepared(TOKEN, **spec).path) / "token")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == expected


def test_a_token_is_renewed_at_80_percent_of_its_life(world: World, volumes: Volumes) -> None:
    pod = world.pod({"name": "v", **TOKEN})
    path = Path(volumes.prepare(pod)["v"].path) / "token"
    first = path.read_text()
    due = volumes.refresh(pod)
    assert due is not None
    assert 780 <= due <= 800
    world.now += due - 1
    volumes.refresh(pod)
    assert path.read_text() == first
    world.now += 1
    volumes.refresh(pod)
    assert path.read_text() != first
    assert len(world.requests) == 2


def test_a_long_lived_token_is_renewed_after_a_day(world: World, volumes: Volumes) -> None:
    source = {"serviceAccountToken": {"path": "t", "expirationSeconds": 10 * 86400}}
    pod = world.pod({"name": "v", "projected": {"sources": [source]}})
    volumes.prepare(pod)
    due = volumes.refresh(pod)
    assert due is not None
    assert 86380 <= due <= 86400


def test_a_restart_finds_the_token_again_even_with_its_issuer_away(world: World, volumes: Volumes) -> None:
    pod = world.pod({"name": "v", **TOKEN})
    path = Path(volumes.prepare(pod)["v"].path) / "token"
    first = path.read_text()
    world.issuer_is_away = True
    world.now += 300
    restarted = world.volumes()
    restarted.prepare(pod)
    due = restarted.refresh(pod)
    assert due is not None
    assert (path.read_text(), 480 <= due <= 500) == (first, True)


def test_a_refresh_that_fails_keeps_the_token_until_it_expires(world: World, volumes: Volumes) -> None:
    pod = world.pod({"name": "v", **TOKEN})
    path = Path(volumes.prepare(pod)["v"].path) / "token"
    first = path.read_text()
    world.issuer_is_away = True
    world.now += 850
    assert volumes.refresh(pod) == 30.0
    assert path.read_text() == first
    world.now += 200
    with pytest.raises(NotReady, match="api-watcher is away"):
        volumes.refresh(pod)
    world.issuer_is_away = False
    volumes.refresh(pod)
    assert path.read_text() != first


def test_a_projection_joins_its_sources(world: World, prepared: Prepare) -> None:
    world.config_map("ca", {"ca.crt": "pem"})
    world.secret("s", {"k": b"s"})
    sources = [
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        {"secret": {"name": "s", "items": [{"key": "k", "path": "deep/k", "mode": 0o400}]}},
    ]
    path = Path(prepared({"projected": {"sources": sources, "defaultMode": 0o444}}).path)
    assert (path / "ca.crt").read_text() == "pem"
    assert (path / "namespace").read_text() == "shop"
    assert (mode(path / "deep/k"), mode(path / "ca.crt")) == (0o400, 0o444)


def test_tear_down_leaves_nothing_and_may_be_repeated(world: World, volumes: Volumes) -> None:
    world.secret("s", {"k": b"x"})
    pod = world.pod({"name": "v", "secret": {"secretName": "s"}}, {"name": "m", "emptyDir": {"medium": "Memory"}})
    volumes.prepare(pod)
    assert volumes.known() == {"uid-1"}
    volumes.teardown("uid-1")
    volumes.teardown("uid-1")
    assert volumes.known() == set()
    assert mounting.mounts_below(world.settings.instance.volumes_dir) == []


def test_a_busy_mount_is_detached_and_that_is_said(
    world: World, volumes: Volumes, caplog: pytest.LogCaptureFixture
) -> None:
    pod = world.pod({"name": "m", "emptyDir": {"medium": "Memory"}})
    path = Path(volumes.prepare(pod)["m"].path)
    with (path / "open").open("w"):
        volumes.teardown("uid-1")
    assert "was busy and has been detached" in caplog.text
    assert volumes.known() == set()


def test_tear_down_never_deletes_what_is_only_bound(
    world: World, volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").write_text("x")
    volumes.prepare(world.pod({"name": "v", "emptyDir": {}}))
    target = world.settings.instance.volumes_dir / "uid-1/volume-subpaths/h/app/0"
    target.mkdir(parents=True)
    mounting.mount(str(tmp_path), target, "", mounting.MS_BIND)
    with monkeypatch.context() as patch:
        patch.setattr(mounting, "unmount", lambda _path: None)
        with pytest.raises(Exception, match="keep coming back"):
            volumes.teardown("uid-1")
    assert (tmp_path / "precious").exists()
    volumes.teardown("uid-1")
    assert (tmp_path / "precious").read_text() == "x"
    assert volumes.known() == set()


def test_the_run_folder_has_a_link_to_the_volumes(world: World, volumes: Volumes) -> None:
    volumes.prepare(world.pod({"name": "v", "emptyDir": {}}))
    assert (world.settings.instance.volumes_link / "uid-1").is_dir()


@pytest.mark.parametrize("uid", ["../x", "", "a/b", ".."])
def test_a_uid_that_leads_elsewhere_is_refused(world: World, volumes: Volumes, uid: str) -> None:
    pod = world.pod({"name": "v", "emptyDir": {}})
    pod["metadata"]["uid"] = uid
    with pytest.raises(NotReady):
        volumes.prepare(pod)
    with pytest.raises(NotReady):
        volumes.teardown(uid)


def test_a_volume_name_that_leads_elsewhere_is_refused(world: World, volumes: Volumes) -> None:
    with pytest.raises(NotReady, match="Invalid value"):
        volumes.prepare(world.pod({"name": "../../x", "emptyDir": {}}))
