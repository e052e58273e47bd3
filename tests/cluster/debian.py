"""Single programs of another Debian release, unpacked into the cache folder and never installed.

    <cache>/debian/<suite>-<package>-<version>/    the package's files, complete once the folder is there
    <cache>/debian/<suite>-<package>               a link to the one that serves
    <cache>/debian/apt-<suite>/                    apt's own folder

Fetched once, and by make before a test begins: what the cache has serves, for a test wants another version than the
guest's, not the newest.
"""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.cluster import programs
from tests.runtimes.apt import Apt
from vkcri.errors import Unavailable


class Packaged(NamedTuple):
    """A program's release (a code name), package, and path in it."""

    suite: str
    package: str
    path: str


PROGRAMS = {
    "kubectl-1.20": Packaged("bookworm", "kubernetes-client", "usr/bin/kubectl"),
    "kubectl-1.32": Packaged("trixie", "kubectl", "usr/bin/kubectl"),
    "etcd-3.5": Packaged("trixie", "etcd-server", "usr/bin/etcd"),
}


def ensure(name: str) -> Path:
    """One of PROGRAMS, fetched where the cache lacks it. Raises ConfigError or Unavailable with one line where the
    guest's apt does not lead there."""
    suite, package, path = PROGRAMS[name]
    link = _link(name)
    link.parent.mkdir(parents=True, exist_ok=True)
    with (link.parent / f".{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (link / path).exists():
            _fetch(name, Apt(suite, link.with_name(f"apt-{suite}")), package, link)
    if not (link / path).exists():
        raise Unavailable(f"{name}: {suite}'s {package} has no {path}")
    return found(name)


def found(name: str) -> Path:
    """One of PROGRAMS as the cache has it. Raises Unavailable, with what to type, where it does not."""
    program = _link(name).resolve() / PROGRAMS[name].path
    if not program.exists():
        raise Unavailable(f"{name} is not here: .venv/bin/python -m tests.cluster fetch {name}")
    return program


def _link(name: str) -> Path:
    return programs.cache() / "debian" / f"{PROGRAMS[name].suite}-{PROGRAMS[name].package}"


def _fetch(name: str, apt: Apt, package: str, link: Path) -> None:
    began = time.monotonic()
    print(f"cluster: fetching {name}: {package} of Debian, unpacked into {link}", flush=True)
    apt.update()
    version = apt.candidate(package)
    target = link.with_name(f"{link.name}-{version.replace(':', '%3a')}")
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=link.parent) as scratch:
            apt.unpack(package, version, Path(scratch) / "files")
            os.replace(Path(scratch) / "files", target)
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target.name)
    os.replace(beside, link)
    print(f"cluster: fetched {name}: {version}, {time.monotonic() - began:.0f} s", flush=True)
