"""Images made on the spot: what is in them, and that they run."""

import gzip
import hashlib
import io
import json
import logging
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bridge import images_local
from bridge.containerd_config import PAUSE_IMAGE, configured_sandbox_image
from bridge.images_local import SHELL_IMAGE, Entry, ensure_images, ensure_pause, layer_of, oci_archive
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.fake_runtime import FakeRuntime
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, Unavailable
from vkcri.instance import Instance

SETTINGS = RuntimeSettings(instance=Instance("rt-11"), pod_ip="127.0.0.1")


def unpack(archive: bytes) -> tuple[dict[str, Any], dict[str, Any], tarfile.TarFile]:
    """The manifest's entry in the index, the image's configuration and its layer; every digest and size is checked."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as layout:
        files = {item.name: layout.extractfile(item).read() for item in layout.getmembers()}  # type: ignore[union-attr]

    def blob(described: dict[str, Any]) -> bytes:
        content = files[f"blobs/sha256/{described['digest'].removeprefix('sha256:')}"]
        assert described["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert described["size"] == len(content)
        return content

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(entry))
    image = json.loads(blob(manifest["config"]))
    (described,) = manifest["layers"]
    layer = gzip.decompress(blob(described))
    assert image["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    return entry, image, tarfile.open(fileobj=io.BytesIO(layer))


def test_an_archive_holds_what_it_was_given_and_is_the_same_each_time() -> None:
    entries = [Entry("bin", 0o755), Entry("bin/a", 0o4755, b"text"), Entry("bin/b", 0o777, link="a")]
    archive = oci_archive("localhost/x:1", layer_of(entries), {"Cmd": ["a"]})
    assert archive == oci_archive("localhost/x:1", layer_of(entries), {"Cmd": ["a"]})
    entry, image, layer = unpack(archive)
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    assert (image["os"], image["config"]) == ("linux", {"Cmd": ["a"]})
    kinds = [(item.name, item.type, item.mode, item.uid, item.mtime) for item in layer.getmembers()]
    assert kinds == [
        ("bin", tarfile.DIRTYPE, 0o755, 0, 0),
        ("bin/a", tarfile.REGTYPE, 0o4755, 0, 0),
        ("bin/b", tarfile.SYMTYPE, 0o777, 0, 0),
    ]


def test_the_shell_image_has_a_shell_users_and_a_tmp_for_everybody() -> None:
    entry, image, layer = unpack(images_local.shell_archive(SHELL_IMAGE))
    assert entry["annotations"]["io.containerd.image.name"] == SHELL_IMAGE
    assert image["config"]["Cmd"] == ["sh"]
    names = {item.name: item for item in layer.getmembers()}
    assert {"bin/sh", "bin/ls", "bin/wget", "usr/bin/env"} <= set(names)
    assert names["tmp"].mode == 0o1777
    passwd = layer.extractfile("etc/passwd")
    assert passwd is not None
    assert b"nobody:x:65534:" in passwd.read()


def test_a_program_that_wants_a_dynamic_linker_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Path("/bin/sh").resolve()
    (tmp_path / "catatonit").symlink_to(shell)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="catatonit on this guest is not a static program: apt-get install catatonit"):
        images_local.pause_archive(PAUSE_IMAGE)


def test_a_missing_program_is_refused_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(images_local, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(Refused, match="apt-get install busybox-static"):
        images_local.shell_archive(SHELL_IMAGE)


def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeRuntime, *, works: bool = True) -> list[str]:
    """Put a `ctr` in the way that notes its arguments; the fake then has the image, as CRI has after an import."""
    log = tmp_path / "log"
    script = f'#!/bin/sh\ncat > /dev/null\necho "$@" >> {log}\nexit {0 if works else 1}\n'
    (tmp_path / "ctr").write_text(script)
    (tmp_path / "ctr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    present = images_local.image_present

    def with_import(runtime: Runtime, name: str) -> bool:
        if log.exists() and works:
            fake.add_image(name)
        return present(runtime, name)

    monkeypatch.setattr(images_local, "image_present", with_import)
    return [log.read_text()] if log.exists() else [str(log)]


def test_nothing_is_pulled_or_imported_where_the_images_are_there(
    fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log,) = imports(tmp_path, monkeypatch, fake)
    runtime = Runtime(fake.endpoint)
    ensure_images(runtime, SETTINGS)
    assert fake.count("PullImage") == 0
    assert not Path(log).exists()
    runtime.close()


def test_a_registry_is_asked_before_the_sandbox_image_is_made(
    fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "registry.example/pause:3"
    monkeypatch.setattr(images_local, "status_info", lambda _: {"config": {"sandboxImage": name}})
    (log,) = imports(tmp_path, monkeypatch, fake)
    runtime = Runtime(fake.endpoint)
    fake.registry.add(name)
    assert ensure_pause(runtime, tmp_path / "socket") == name
    assert (fake.count("PullImage"), Path(log).exists()) == (1, False)
    runtime.close()


def test_where_no_registry_answers_the_sandbox_image_is_made_under_the_runtimes_name(
    fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    name = "registry.example/pause:3"
    info = {"config": {"sandboxImage": name, "containerd": {"snapshotter": "native"}}}
    monkeypatch.setattr(images_local, "status_info", lambda _: info)
    (log,) = imports(tmp_path, monkeypatch, fake)
    runtime = Runtime(fake.endpoint)
    ensure_pause(runtime, tmp_path / "socket")
    assert "connection refused" in caplog.text
    calls = Path(log).read_text().splitlines()
    assert calls[0] == f"-a {tmp_path}/socket -n k8s.io images import --snapshotter native -"
    assert calls[1].endswith(f"images label {name} io.cri-containerd.pinned=pinned")
    runtime.close()


def test_an_import_that_fails_is_told(fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.images.clear()
    imports(tmp_path, monkeypatch, fake, works=False)
    runtime = Runtime(fake.endpoint)
    with pytest.raises(Refused, match="ctr images import"):
        ensure_pause(runtime, tmp_path / "socket")
    runtime.close()


def test_an_import_that_cri_does_not_show_is_told(
    fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports(tmp_path, monkeypatch, fake)
    monkeypatch.setattr(images_local, "image_present", lambda *_: False)
    monkeypatch.setattr(images_local, "_VISIBLE_SECONDS", 0.1)
    runtime = Runtime(fake.endpoint)
    with pytest.raises(Unavailable, match="CRI does not show it"):
        images_local.import_image(runtime, tmp_path / "socket", SHELL_IMAGE, b"")
    runtime.close()


def test_a_runtime_that_does_not_tell_its_sandbox_image_sees_to_it_itself(
    fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_local, "status_info", lambda _: {"config": {}})
    fake.images.clear()
    runtime = Runtime(fake.endpoint)
    assert ensure_pause(runtime, Path(fake.endpoint.removeprefix("unix://"))) == ""
    assert fake.count("PullImage") == 0
    runtime.close()


@pytest.mark.container
def test_the_sandbox_image_is_read_from_the_configuration_of_who_listens(
    containerd_settings: RuntimeSettings, tmp_path: Path
) -> None:
    assert configured_sandbox_image(containerd_settings.runtime_socket) == PAUSE_IMAGE
    assert configured_sandbox_image(tmp_path / "none.sock") == ""


@pytest.mark.container
def test_a_made_image_is_in_cri_and_is_made_again_when_gone(
    containerd_settings: RuntimeSettings, containerd_runtime: Runtime
) -> None:
    runtime = containerd_runtime
    name = "localhost/vkcri/again:1"
    layer = [Entry("hello", 0o644, b"hello\n")]
    identities = []
    for _ in range(2):
        archive = oci_archive(name, layer_of(layer), {"Cmd": ["none"], "User": "1000:1000"})
        images_local.import_image(runtime, containerd_settings.runtime_socket, name, archive)
        image = runtime.image_status(cri.ImageStatusRequest(image=cri.ImageSpec(image=name))).image
        identities.append(image.id)
        assert image.uid.value == 1000
        runtime.remove_image(cri.RemoveImageRequest(image=cri.ImageSpec(image=name)))
        assert not images_local.image_present(runtime, name)
    assert identities[0] == identities[1]
