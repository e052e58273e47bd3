"""kubectl of several ages, the oldest that Debian 12 has and the newest: none of them is installed."""

from pathlib import Path

from tests.cluster import debian, programs

VERSIONS = ("1.20", "1.32", "1.37")
OF_DEBIAN = {"1.20": ("bookworm", "kubernetes-client"), "1.32": ("trixie", "kubectl")}


def ensure(version: str) -> Path:
    """The program: Debian's, or the one that is built with the pinned control plane (needs go where the cache lacks
    it). Raises ConfigError or Unavailable with one line."""
    if version in OF_DEBIAN:
        suite, package = OF_DEBIAN[version]
        return debian.program(suite, package, "usr/bin/kubectl")
    return programs.ensure(programs.resolve(""), ["kubectl"])["kubectl"]
