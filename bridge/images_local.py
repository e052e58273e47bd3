"""Images made on the spot, for a guest that no registry answers: the pause image and a small shell image.

Built in memory from Debian's static `catatonit` and `busybox` as OCI archives, the same bytes each time, and given to
containerd by `ctr`, whose only user this module is. Called by the bridge at its start and by whoever finds an image
gone; `ensure_*` do nothing, and ask nobody on the network, where the image is there.
"""

import gzip
import hashlib
import io
import json
import logging
import os
import platform
import shutil
import struct
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.containerd_config import SEARCH_PATH, configured_sandbox_image
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from vkcri.api.architecture import go_architecture
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, Unavailable, VkcriError

SHELL_IMAGE = "localhost/vkcri/shell:1"
PINNED_LABEL = "io.cri-containerd.pinned=pinned"  # containerd 1.7 and later report it; kubelets then never remove it
_IMPORT_SECONDS = 120.0
_PULL_SECONDS = 20.0
_VISIBLE_SECONDS = 20.0  # CRI learns of an import from an event
_PT_INTERP = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One entry of a layer: a folder (neither content nor link), a file or a link. Owner root, time zero."""

    path: str
    mode: int
    content: bytes | None = None
    link: str = ""


@dataclass(frozen=True)
class Layer:
    """An image's layer: the gzipped tar, and the digest of the plain one."""

    blob: bytes
    diff_id: str


def ensure_images(runtime: Runtime, settings: RuntimeSettings) -> None:
    """Make sure that pause and shell image are there. Raises Refused with the cure, Unavailable."""
    ensure_pause(runtime, settings.runtime_socket)
    ensure_shell(runtime, settings.runtime_socket)


def ensure_pause(runtime: Runtime, socket: Path, *, seconds: float = _PULL_SECONDS) -> str:
    """Make sure that the sandbox image is there under the name that the runtime itself uses; gives the name, "" for a
    runtime that does not tell and sees to it itself. In this order: it is there; a pull of at most `seconds`; made
    here. Raises Refused with the cure, or Unavailable."""
    config = status_info(runtime).get("config", {})
    name = str(config.get("sandboxImage") or configured_sandbox_image(socket))
    if not name:
        log.info("the runtime does not tell its sandbox image, so none is made")
        return ""
    local = name.startswith("localhost/")
    if not image_present(runtime, name) and (local or not _pull(runtime, name, seconds)):
        import_image(runtime, socket, name, pause_archive(name), snapshotter_of(config))
    return name


def ensure_shell(runtime: Runtime, socket: Path) -> str:
    """Make sure that the examples' shell image is there; gives its name. Raises Refused with the cure, Unavailable."""
    if not image_present(runtime, SHELL_IMAGE):
        snapshotter = snapshotter_of(status_info(runtime).get("config", {}))
        import_image(runtime, socket, SHELL_IMAGE, shell_archive(SHELL_IMAGE), snapshotter)
    return SHELL_IMAGE


def status_info(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """CRI's verbose Status: the runtime's own JSON by name (`config`, `cniconfig`), {} for what it does not tell."""
    answer = runtime.status(cri.StatusRequest(verbose=True), seconds=10.0)
    info: dict[str, dict[str, Any]] = {}
    for name, text in answer.info.items():
        try:
            value = json.loads(text)
        except ValueError:
            continue  # some entries are plain words, such as golang's version
        if isinstance(value, dict):
            info[name] = value
    return info


def snapshotter_of(config: Mapping[str, Any]) -> str:
    """The snapshotter that the runtime uses for containers; "" where it does not say."""
    return str(config.get("containerd", {}).get("snapshotter") or config.get("snapshotter") or "")


def image_present(runtime: Runtime, name: str) -> bool:
    """Whether CRI knows the image by this name."""
    answer = runtime.image_status(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)), seconds=10.0)
    return answer.HasField("image")


def import_image(runtime: Runtime, socket: Path, name: str, archive: bytes, snapshotter: str = "") -> None:
    """Give an OCI archive to the containerd at this socket and wait until CRI shows it. Raises Refused where ctr is
    missing or says no, Unavailable where it takes too long."""
    options = ["--snapshotter", snapshotter] if snapshotter else []
    _ctr(socket, ["images", "import", *options, "-"], archive)
    try:
        _ctr(socket, ["images", "label", name, PINNED_LABEL])
    except Refused as error:
        log.warning("%s is imported but not marked as pinned: %s", name, error)
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while not image_present(runtime, name):
        if time.monotonic() > deadline:
            raise Unavailable(f"{name} was imported at {socket}, but CRI does not show it: is that CRI's containerd?")
        time.sleep(0.05)
    log.info("%s made here and imported", name)


def pause_archive(name: str) -> bytes:
    """An image whose one process waits for ever and reaps: what a sandbox needs."""
    config = {"Entrypoint": ["/pause", "-P"], "Env": [f"PATH={SEARCH_PATH}"], "WorkingDir": "/"}
    return oci_archive(name, layer_of(pause_entries()), config)


def pause_entries() -> list[Entry]:
    """The pause program, which waits for ever with the option -P. Raises Refused where it is missing."""
    return [Entry("pause", 0o755, _static_program("catatonit", "catatonit"))]


def shell_archive(name: str) -> bytes:
    """An image with busybox under all its applets' names, root and nobody, and a /tmp for everybody."""
    config = {"Cmd": ["sh"], "Env": [f"PATH={SEARCH_PATH}"], "WorkingDir": "/"}
    return oci_archive(name, layer_of(shell_entries()), config)


def layer_of(entries: Iterable[Entry]) -> Layer:
    """The same entries give the same layer."""
    plain = _tar(entries)
    return Layer(gzip.compress(plain, 6, mtime=0), _digest(plain))


def oci_archive(name: str, layer: Layer, config: Mapping[str, Any]) -> bytes:
    """An OCI image layout of one layer as a tar. `config`: the image's execution parameters, in OCI's field names. The
    same input gives the same bytes, so a second import changes nothing."""
    image = {
        "architecture": go_architecture(platform.machine()),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }
    oci = "application/vnd.oci.image"
    image_bytes = json.dumps(image, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{oci}.manifest.v1+json",
        "config": _descriptor(f"{oci}.config.v1+json", image_bytes),
        "layers": [_descriptor(f"{oci}.layer.v1.tar+gzip", layer.blob)],
    }
    manifest_bytes = json.dumps(manifest, sort_keys=True).encode()
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    described = {**_descriptor(f"{oci}.manifest.v1+json", manifest_bytes), "annotations": names}
    files = [Entry("oci-layout", 0o644, b'{"imageLayoutVersion": "1.0.0"}')]
    files += [
        Entry(f"blobs/sha256/{_digest(blob)[7:]}", 0o644, blob) for blob in (layer.blob, image_bytes, manifest_bytes)
    ]
    files.append(Entry("index.json", 0o644, json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()))
    return _tar(files)


def shell_entries() -> list[Entry]:
    """busybox under all its applets' names, root and nobody, and a /tmp for everybody. Raises Refused where it is
    missing."""
    busybox = _static_program("busybox", "busybox-static")
    entries = [Entry(path, 0o755) for path in ("bin", "etc", "home", "root", "usr", "usr/bin", "var", "var/log")]
    entries += [Entry("tmp", 0o1777), Entry("var/tmp", 0o1777), Entry("bin/busybox", 0o755, busybox)]
    entries += [Entry(f"bin/{name}", 0o777, link="/bin/busybox") for name in _applets() if name != "busybox"]
    entries.append(Entry("usr/bin/env", 0o777, link="/bin/busybox"))
    users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    entries.append(Entry("etc/passwd", 0o644, users.encode()))
    entries.append(Entry("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"))
    return entries


def _applets() -> list[str]:
    """busybox' own list of the names that it answers to."""
    try:
        done = subprocess.run(
            [_find("busybox", "busybox-static"), "--list"], capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(f"busybox --list: {error}") from error
    return done.stdout.decode().split()


def _pull(runtime: Runtime, name: str, seconds: float) -> bool:
    """Whether a pull worked; what hindered it is logged, since the next step is making the image here."""
    try:
        runtime.pull_image(cri.PullImageRequest(image=cri.ImageSpec(image=name)), seconds=seconds)
    except VkcriError as error:
        log.info("the sandbox image %s cannot be pulled (%s); made here instead", name, error)
        return False
    return True


def _ctr(socket: Path, arguments: list[str], archive: bytes | None = None) -> None:
    command = [_find("ctr", "containerd"), "-a", os.fspath(socket), "-n", "k8s.io", *arguments]
    try:
        done = subprocess.run(
            command, input=archive or b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"ctr {' '.join(arguments[:2])} at {socket}: not done after {error.timeout:.0f} s") from error
    except OSError as error:
        raise Refused(f"ctr: {error}") from error
    if done.returncode != 0:
        raise Refused(f"ctr {' '.join(arguments[:2])} at {socket}: {done.stdout.decode(errors='replace').strip()}")


def _find(program: str, package: str) -> str:
    found = shutil.which(program) or shutil.which(program, path=SEARCH_PATH)
    if found is None:
        raise Refused(f"{program} is not installed: apt-get install {package}")
    return found


def _static_program(program: str, package: str) -> bytes:
    """The bytes of a statically linked program. Raises Refused where it is missing or wants a dynamic linker, which an
    image of one file does not have."""
    content = Path(_find(program, package)).read_bytes()
    if content[:4] != b"\x7fELF" or _wants_linker(content):
        raise Refused(f"{program} on this guest is not a static program: apt-get install {package}")
    return content


def _wants_linker(elf: bytes) -> bool:
    """Whether an ELF file's program headers name an interpreter."""
    wide, order = elf[4] == 2, "<" if elf[5] == 1 else ">"
    offset, size_at = (
        (struct.unpack_from(f"{order}Q", elf, 32)[0], 54)
        if wide
        else (
            struct.unpack_from(f"{order}I", elf, 28)[0],
            42,
        )
    )
    size, count = struct.unpack_from(f"{order}HH", elf, size_at)
    return any(struct.unpack_from(f"{order}I", elf, offset + n * size)[0] == _PT_INTERP for n in range(count))


def _tar(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            item = tarfile.TarInfo(entry.path)
            item.mode = entry.mode
            item.uname = item.gname = "root"
            if entry.link:
                item.type, item.linkname = tarfile.SYMTYPE, entry.link
            elif entry.content is None:
                item.type = tarfile.DIRTYPE
            else:
                item.size = len(entry.content)
            archive.addfile(item, io.BytesIO(entry.content or b""))
    return buffer.getvalue()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
