"""A registry on loopback that serves one small image and stops in the middle of a layer for as long as it is told.

Threads: one a connection, of the standard library's server. The image is the shell image that vkcri makes itself with
a layer more, so that a pod of it runs once the pull has ended.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bridge.images_local import shell_archive
from tests.waiting import PATIENCE

NAME = "stalling/shell"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Registry:
    """`stall`: seconds that the second half of the last layer is late. `asked`: when it was asked for,
    `sent`: when it was sent whole, both monotonic, 0 before."""

    def __init__(self, stall: float) -> None:
        self.stall = stall
        self.asked = 0.0
        self.sent = 0.0
        self._closing = threading.Event()
        self.manifest, self.late, self.blobs = _image(shell_archive("localhost/vkcri/shell:latest"))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}/{NAME}:1"

    def send(self, handler: BaseHTTPRequestHandler, digest: str) -> None:
        content, half = self.blobs[digest], 0
        if digest in self.late:
            self.asked = time.monotonic()
            half = len(content) // 2
            handler.wfile.write(content[:half])
            handler.wfile.flush()
            self._closing.wait(self.stall)
        handler.wfile.write(content[half:])
        if half:
            self.sent = time.monotonic()

    @contextmanager
    def serving(self) -> Iterator["Registry"]:
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join(PATIENCE)


def _image(archive: bytes) -> tuple[str, list[str], dict[str, bytes]]:
    """The manifest's digest, the layers', and all blobs by digest: the archive's image and one layer more, which no
    content store has yet, so that it must be fetched."""
    blobs = _archived(archive)
    manifest = json.loads(blobs[json.loads(blobs["index.json"])["manifests"][0]["digest"]])
    config = json.loads(blobs[manifest["config"]["digest"]])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("late")
        entry.size = 64 * 1024
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    layer = gzip.compress(buffer.getvalue())
    config["rootfs"]["diff_ids"].append(_digest(buffer.getvalue()))
    manifest["layers"].append({**manifest["layers"][0], **_described(layer)})
    config_text = json.dumps(config).encode()
    manifest["config"] |= _described(config_text)
    manifest_text = json.dumps(manifest | {"mediaType": MANIFEST}).encode()
    blobs |= {_digest(content): content for content in (layer, config_text, manifest_text)}
    return _digest(manifest_text), [_digest(layer)], blobs


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(content: bytes) -> dict[str, str | int]:
    return {"digest": _digest(content), "size": len(content)}


def _archived(archive: bytes) -> dict[str, bytes]:
    """An OCI archive's blobs by digest, its other files by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}
    return {_digest(content) if name.startswith("blobs/") else name: content for name, content in files.items()}


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            digest = self._head()
            if digest:
                registry.send(self, digest)

        def _head(self) -> str:
            """Answer with the head; the digest asked for, empty for none."""
            if self.path == "/v2/":
                return self._answer(200, 0, "application/json")
            reference = self.path.rpartition("/")[2]
            digest = registry.manifest if "/manifests/" in self.path else reference
            if not self.path.startswith(f"/v2/{NAME}/") or digest not in registry.blobs:
                return self._answer(404, 0, "text/plain")
            kind = MANIFEST if "/manifests/" in self.path else "application/octet-stream"
            self._answer(200, len(registry.blobs[digest]), kind, digest)
            return digest

        def _answer(self, code: int, length: int, kind: str, digest: str = "") -> str:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            return ""

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
            """Nothing on the tests' stderr."""

    return Handler
