"""What the images that Kubernetes' end-to-end tests name are made of here, where no registry answers.

A recipe gives a layer's entries and the image's execution parameters, by the end of the image's name without its tag:
`e2e.test --list-images` says which names and tags a version of Kubernetes wants. The programs of Kubernetes itself
(agnhost, nonewprivs) are built from its own sources, everything else is Debian's. What each image must have is written
in its Dockerfile below test/images in Kubernetes' sources.
"""

import functools
import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.containerd_config import SEARCH_PATH
from bridge.images_local import Entry, pause_archive, pause_entries, shell_entries
from tests.conformance import oci
from tests.conformance.debian import program_in, root_file_system, with_applets
from vkcri import certs

PROGRAMS = ("agnhost", "nonewprivs")
AGNHOST_PACKAGES = (
    "base-files",
    "bash",
    "bind9-dnsutils",
    "busybox-static",
    "coreutils",
    "curl",
    "dash",
    "iperf",
    "iproute2",
    "libc-bin",
    "netcat-openbsd",
    "socat",
    "util-linux",
)
GLIBC_PACKAGES = ("base-files", "bash", "bind9-dnsutils", "coreutils", "dash", "grep", "hostname", "libc-bin", "sed")
NGINX_PACKAGES = ("base-files", "bash", "coreutils", "curl", "dash", "nginx")
_USERS = {"root": 0, "daemon": 1, "www-data": 33, "nobody": 65534}
_NGINX = """user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80;
        root /usr/share/nginx/html;
    }
}
"""
_LOOKUPS = Entry("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")
_WELCOME = b"<!DOCTYPE html>\n<html><title>Welcome to nginx!</title><body>Welcome to nginx!</body></html>\n"


@dataclass(frozen=True)
class Content:
    """An image of one layer. `config`: execution parameters in OCI's field names."""

    entries: Sequence[Entry]
    config: Mapping[str, Any]


Programs = Mapping[str, Path]  # PROGRAMS, built from Kubernetes' sources
Recipe = Callable[[Programs], Content]


def pause(_: Programs) -> Content:
    """Waits for ever as nobody in particular: tests count on an image that does not run as root."""
    return Content(pause_entries(), _run(Entrypoint=["/pause", "-P"], User="65535:65535"))


def busybox(_: Programs) -> Content:
    return Content(_shell(), _run(Cmd=["sh"]))


def nonewprivs(programs: Programs) -> Content:
    """A program that prints its effective uid and belongs to root with the set-user-id bit."""
    program = programs["nonewprivs"].read_bytes()
    folders = [Entry(path, 0o755) for path in ("usr/local", "usr/local/bin")]
    return Content([*_shell(), *folders, Entry("usr/local/bin/nnp", 0o6755, program)], _run(Cmd=["nnp"]))


def agnhost(programs: Programs) -> Content:
    """Kubernetes' program of many subcommands, with the tools that tests call beside it."""
    entries = root_file_system(AGNHOST_PACKAGES)
    netcat = program_in(entries, "nc.openbsd")  # called nc by Debian's alternatives, which unpacking does not set
    entries = with_applets([*entries, Entry("usr/bin/nc", 0o777, link=f"/{netcat.path}")])
    entries += _accounts({"user-defined-in-image": 1000}, {"group-defined-in-image": (50000, "user-defined-in-image")})
    entries += [
        Entry("uploads", 0o755),
        Entry("agnhost", 0o755, programs["agnhost"].read_bytes()),
        Entry("agnhost-2", 0o777, link="agnhost"),
        _LOOKUPS,
        *_pair(),
        *_registry("pause", "testing"),
    ]
    return Content(entries, _run(Entrypoint=["/agnhost"], Cmd=["pause"]))


def nonroot(_: Programs) -> Content:
    return Content(_shell(), _run(Cmd=["sh"], User="1234"))


def nginx(_: Programs) -> Content:
    """Debian's nginx on port 80, logging to its output."""
    replaced = ("etc/nginx/nginx.conf", "usr/share/nginx/html/index.html")
    entries = [entry for entry in root_file_system(NGINX_PACKAGES) if entry.path not in replaced]
    entries += _accounts({}, {})
    entries.append(Entry(replaced[0], 0o644, _NGINX.encode()))
    entries.append(Entry(replaced[1], 0o644, _WELCOME))
    return Content(entries, _run(Cmd=["nginx", "-g", "daemon off;"], StopSignal="SIGQUIT"))


def glibc_dns_testing(_: Programs) -> Content:
    """Debian's resolver and what asks it."""
    entries = [*root_file_system(GLIBC_PACKAGES), *_accounts({}, {}), _LOOKUPS]
    return Content(entries, _run(Cmd=["bash"]))


def _picture(name: str, programs: Programs) -> Content:
    """A web server that says which picture it would show; the picture itself nobody asks for."""
    data = f'{{\n  "image": "{name}.jpg"\n}}\n'.encode()
    entries = [Entry("agnhost", 0o755, programs["agnhost"].read_bytes()), Entry("data.json", 0o644, data)]
    return Content([*_shell(), *entries], _run(Entrypoint=["/agnhost"], Cmd=["test-webserver"]))


kitten = functools.partial(_picture, "kitten")
nautilus = functools.partial(_picture, "nautilus")
FURTHER: frozenset[Recipe] = frozenset({glibc_dns_testing, kitten, nautilus})
"""What no test of passing.txt wants: CI does not make these."""
RECIPES: Mapping[str, Recipe] = {
    "pause": pause,
    "e2e-test-images/agnhost": agnhost,
    "e2e-test-images/busybox": busybox,
    "e2e-test-images/glibc-dns-testing": glibc_dns_testing,
    "e2e-test-images/kitten": kitten,
    "e2e-test-images/nautilus": nautilus,
    "e2e-test-images/nginx": nginx,
    "e2e-test-images/nonewprivs": nonewprivs,
    "e2e-test-images/nonroot": nonroot,
}


def recipe_of(image: str) -> Recipe | None:
    """The recipe for an image's whole name (host/path:tag); None where there is none."""
    path = image.partition("/")[2].rpartition(":")[0]
    return RECIPES.get(path)


@functools.cache
def _shell() -> Sequence[Entry]:
    """busybox, with two shells, since tests want both: /bin/sh is busybox' own, whose words about errors they compare;
    `sh` in PATH is bash, since Debian's busybox does not hand on variables whose names no shell can set (`data-1`)."""
    bash = program_in(root_file_system(["bash-static"]), "bash-static")
    return (*shell_entries(), Entry("usr/bin/sh", 0o755, bash.content))


def _run(**parameters: Any) -> dict[str, Any]:
    return {"Env": [f"PATH={SEARCH_PATH}"], "WorkingDir": "/", **parameters}


def _accounts(users: Mapping[str, int], groups: Mapping[str, tuple[int, str]]) -> list[Entry]:
    """/etc/passwd and /etc/group: Debian's usual few, these users with a group of their own, and these groups with one
    member each."""
    everyone = {**_USERS, **users}
    passwd = [f"{name}:x:{number}:{number}:{name}:/:/bin/sh" for name, number in everyone.items()]
    group = [f"{name}:x:{number}:" for name, number in everyone.items()]
    group += [f"{name}:x:{number}:{member}" for name, (number, member) in groups.items()]
    texts = {"etc/passwd": passwd, "etc/group": group}
    return [Entry(path, 0o644, "".join(f"{line}\n" for line in lines).encode()) for path, lines in texts.items()]


def _pair() -> list[Entry]:
    """What `agnhost porter` serves TLS with; nobody who asks it looks at the name."""
    certificate, key = certs.self_signed("localhost", ["localhost"], ["127.0.0.1"])
    return [Entry("localhost.crt", 0o644, certificate), Entry("localhost.key", 0o644, key)]


def _registry(name: str, tag: str) -> list[Entry]:
    """The pause image in the layout that agnhost's fake-registry-server serves from /var/registry: a file a tag, which
    holds a digest, and a file a manifest and blob."""
    with tarfile.open(fileobj=io.BytesIO(pause_archive(f"{name}:{tag}"))) as archive:
        image, blobs = oci.image_in(archive), oci.blobs_in(archive)
    files = {f"manifests/{tag}": f"{image.manifest}\n".encode()}
    for digest, blob in blobs.items():
        kind, number = "manifests" if digest == image.manifest else "blobs", digest.removeprefix("sha256:")
        files[f"{kind}/sha256/{number[:2]}/{number}/data"] = blob
    return _files({f"var/registry/{name}/{path}": content for path, content in files.items()})


def _files(contents: Mapping[str, bytes]) -> list[Entry]:
    """Files that everybody may read, with the folders that lead to them."""
    folders = {str(parent) for path in contents for parent in Path(path).parents if str(parent) not in (".", "var")}
    return [Entry(path, 0o755) for path in sorted(folders)] + [
        Entry(path, 0o644, content) for path, content in sorted(contents.items())
    ]
