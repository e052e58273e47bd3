"""Single programs of another Debian release, unpacked into the cache folder and never installed.

    <cache>/debian/<suite>-<package>-<version>/    the package's files, complete once the folder is there
    <cache>/debian/<suite>-<package>               a link to the one that serves
    <cache>/debian/apt-<suite>/                    apt's own folder

Fetched once: what the cache has serves, for a test wants another version than the guest's, not the newest.
"""

import fcntl
import os
import tempfile
from pathlib import Path

from tests.cluster import programs
from tests.runtimes.apt import Apt


def program(suite: str, package: str, path: str) -> Path:
    """A file of the package as that release has it, such as `usr/bin/etcd`. Raises ConfigError or Unavailable with one
    line where the guest's apt does not lead there."""
    cache = programs.cache() / "debian"
    link = cache / f"{suite}-{package}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (link / path).exists():
            _fetch(Apt(suite, cache / f"apt-{suite}"), package, link)
    found = link.resolve() / path
    if not found.exists():
        raise FileNotFoundError(f"{found}: the package has no such file")
    return found


def _fetch(apt: Apt, package: str, link: Path) -> None:
    print(f"cluster: {package} of Debian is fetched into {link}", flush=True)
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
