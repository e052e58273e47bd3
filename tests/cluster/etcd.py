"""Debian's etcd: the program alone. Its package is unpacked into the cache folder and never installed, since installing
it would start (and at each boot start again) a service that nobody asked for. An etcd in PATH is used as it is."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import grpc

from tests.cluster import programs
from tests.cluster.place import Place
from vkcri.errors import Unavailable

_PACKAGE = "etcd-server"
_SECONDS = 300.0
_CALL_SECONDS = 10.0


def ensure() -> Path:
    """The etcd program. Raises Unavailable where there is none and apt has none."""
    found = shutil.which("etcd")
    if found:
        return Path(found)
    target = programs.cache() / "etcd" / "etcd"
    if not target.exists():
        print(f"cluster: {_PACKAGE} is fetched by apt-get download and unpacked into {target.parent}", flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            _download(Path(scratch))
            unpacked = Path(scratch) / "usr" / "bin" / "etcd"
            try:
                unpacked.chmod(0o755)
                os.replace(unpacked, target)
            except FileNotFoundError as error:
                raise Unavailable(f"{_PACKAGE} has no usr/bin/etcd") from error
    return target


def compact(place: Place, revision: int) -> None:
    """Let a cluster's etcd forget what was before a revision, which is a resourceVersion of its API server."""
    files = ("etcd-ca.crt", "apiserver-etcd-client.key", "apiserver-etcd-client.crt")
    credentials = grpc.ssl_channel_credentials(*((place.pki / name).read_bytes() for name in files))
    with grpc.secure_channel(f"127.0.0.1:{place.port('etcd')}", credentials) as channel:
        call = channel.unary_unary("/etcdserverpb.KV/Compact", bytes, bytes)
        call(b"\x08" + _varint(revision), timeout=_CALL_SECONDS)  # CompactionRequest.revision


def _varint(number: int) -> bytes:
    """Protocol buffers' whole number."""
    head, rest = number & 0x7F, number >> 7
    return bytes([head | 0x80]) + _varint(rest) if rest else bytes([head])


def _download(scratch: Path) -> None:
    """The package's files below `scratch`."""
    if shutil.which("apt-get") is None:
        raise Unavailable("etcd is missing, and so is apt-get: put an etcd into your PATH")
    fetch = ("apt-get", "download", "-q", _PACKAGE)
    if _run(scratch, *fetch) != "":
        _run(scratch, "apt-get", "update", "-q")
        failure = _run(scratch, *fetch)
        if failure:
            raise Unavailable(f"etcd is missing, and apt-get download {_PACKAGE} failed: {failure}")
    archive = next(scratch.glob("*.deb"), None)
    if archive is None:
        raise Unavailable(f"apt-get download {_PACKAGE} left no package")
    failure = _run(scratch, "dpkg", "-x", str(archive), str(scratch))
    if failure:
        raise Unavailable(f"{_PACKAGE}: {failure}")


def _run(folder: Path, *command: str) -> str:
    """Empty, or in one line why a command failed: the last that it printed. Raises Unavailable where there is no such
    program, and where it does not end."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is missing: put an etcd into your PATH") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(command)}: not done after {_SECONDS:.0f} s") from error
    return "" if done.returncode == 0 else (done.stdout.strip().splitlines() or ["failed"])[-1]
