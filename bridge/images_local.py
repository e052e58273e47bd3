"""Images made on the spot, where no registry answers: a pause program and a shell, from the guest's own files.

OCI image archives are built in memory (tarfile, json, sha256) and imported by `ctr`, which works on a containerd that
someone else started as well. The pause image is imported under the name that the runtime reports. Runs in cri-bridge
at its start; the only user of `ctr`.
"""

import hashlib
import io
import json
import logging
import platform
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Refused, Unavailable, VkcriError

log = logging.getLogger(__name__)

PAUSE_IMAGE = "localhost/vkcri/pause:latest"
SHELL_IMAGE = "localhost/vkcri/shell:latest"
_PULL_SECONDS = 20.0
_IMPORT_SECONDS = 60.0
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


@dataclass
class Layer:
    """One image layer in the making: files by absolute path, as an uncompressed tar with all times zero."""

    _buffer: io.BytesIO = field(default_factory=io.BytesIO)
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.GNU_FORMAT)

    def folder(self, path: str, mode: int = 0o755) -> None:
        if path not in self._seen:
            self._add(path, tarfile.DIRTYPE, mode)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._parents(path)
        self._add(path, tarfile.REGTYPE, mode, data=data)

    def link(self, path: str, target: str) -> None:
        self._parents(path)
        if path not in self._seen:
            self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def close(self) -> bytes:
        """The finished tar."""
        self._tar.close()
        return self._buffer.getvalue()

    def _parents(self, path: str) -> None:
        for parent in reversed(Path(path).parents):
            if str(parent) != "/":
                self.folder(str(parent))

    def _add(self, path: str, kind: bytes, mode: int, *, data: bytes = b"", target: str = "") -> None:
        self._seen.add(path)
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
        self._tar.addfile(entry, io.BytesIO(data))


def archive(name: str, layer: bytes, config: dict[str, object]) -> bytes:
    """An OCI image archive of one layer. `config`: the image's runtime configuration (Entrypoint, Cmd, Env, ...)."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    layer_blob = blob(layer, _LAYER)
    machine = platform.machine()
    image = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
    }
    config_blob = blob(_json(image), _CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config_blob, "layers": [layer_blob]}
    entry = blob(_json(manifest), _MANIFEST)
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), **blobs}
    files["index.json"] = _json({"schemaVersion": 2, "manifests": [entry]})
    outer = Layer()
    for path, data in files.items():
        outer.file(f"/{path}", data)
    return outer.close()


def pause_archive(name: str) -> bytes:
    """catatonit as the pause program: it reaps zombies and waits. Raises ConfigError where it is not installed."""
    layer = Layer()
    _program(layer, "/pause", _require("catatonit"))
    return archive(name, layer.close(), {"Entrypoint": ["/pause", "-P"]})


def shell_archive(name: str = SHELL_IMAGE) -> bytes:
    """busybox with a link an applet, root and nobody, and /tmp. Raises ConfigError where it is not installed."""
    busybox = _require("busybox", "busybox-static")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, timeout=10, check=True).stdout.split()
    layer = Layer()
    _program(layer, "/bin/busybox", busybox)
    for applet in applets:
        layer.link(f"/bin/{applet}", "busybox")
    layer.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    layer.file("/etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    layer.folder("/root", 0o700)
    layer.folder("/tmp", 0o1777)
    return archive(name, layer.close(), {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]})


def ensure_images(runtime: Runtime, settings: RuntimeSettings) -> None:
    """Make sure that pause and shell image are there: pulled where a registry answers (pause only), else made. Raises
    Unavailable where the runtime is away, ConfigError where a program to make them from is missing."""
    pause = pause_name(runtime)
    if not _present(runtime, pause) and not _pulled(runtime, pause):
        import_archive(settings, pause_archive(pause))
        log.info("made the pause image %s from catatonit, since no registry answers", pause)
    if not _present(runtime, SHELL_IMAGE):
        import_archive(settings, shell_archive())
        log.info("made the shell image %s from busybox", SHELL_IMAGE)


def pause_name(runtime: Runtime) -> str:
    """The sandbox image that the runtime's own configuration names (Status, verbose); ours where it names none."""
    info = runtime.status(cri.StatusRequest(verbose=True)).info
    found = re.search(r'"sandbox(?:Image)?"\s*:\s*"([^"]+)"', info.get("config", ""))
    return found[1] if found else PAUSE_IMAGE


def import_archive(settings: RuntimeSettings, data: bytes) -> None:
    """Import an OCI archive into the runtime's CRI namespace. Raises Refused with ctr's words."""
    command = [_require("ctr", "containerd"), "--address", str(settings.runtime_socket), "--namespace", "k8s.io"]
    try:
        done = subprocess.run(
            [*command, "images", "import", "-"], input=data, capture_output=True, timeout=_IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"ctr images import took more than {_IMPORT_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise Refused(f"ctr images import: {done.stderr.decode(errors='replace').strip()}")


def _present(runtime: Runtime, name: str) -> bool:
    request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
    return runtime.image_status(request).HasField("image")


def _pulled(runtime: Runtime, name: str) -> bool:
    """Whether a registry gave it; one that is named localhost has none."""
    if name.startswith("localhost/"):
        return False
    try:
        runtime.pull_image(cri.PullImageRequest(image=cri.ImageSpec(image=name)), seconds=_PULL_SECONDS)
    except VkcriError as error:
        log.info("the pause image %s cannot be pulled: %s", name, error)
        return False
    return True


def _program(layer: Layer, path: str, source: str) -> None:
    """A program with the shared libraries that it wants, each under its own path, so that it runs in an empty root."""
    layer.file(path, Path(source).read_bytes(), 0o755)
    listed = subprocess.run(["ldd", source], capture_output=True, text=True, timeout=10, check=False)
    for library in sorted(set(re.findall(r"(/\S+) \(0x", listed.stdout))):
        layer.file(library, Path(library).read_bytes(), 0o755)


def _require(program: str, package: str = "") -> str:
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"{program} is not installed: apt-get install {package or program}")
    return found


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
