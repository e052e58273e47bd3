"""kubectl of several ages, the oldest that Debian 12 has and the newest: none of them is installed, and make puts them
into the cache before a test looks for one."""

from pathlib import Path

from tests.cluster import debian, programs
from vkcri.errors import Unavailable

VERSIONS = ("1.20", "1.32", "1.37")


def found(version: str) -> Path:
    """The program: Debian's, or the one that is built with the pinned control plane. Raises Unavailable where it is
    not here."""
    name = f"kubectl-{version}"
    return debian.found(name) if name in debian.PROGRAMS else built("")


def built(kubernetes: str) -> Path:
    """The one of a real cluster's release, as make builds it. Raises Unavailable where it is not here."""
    program = programs.binary(programs.resolve(kubernetes), "kubectl")
    if not program.exists():
        raise Unavailable("the cluster's own kubectl is not built here: make programs")
    return program
