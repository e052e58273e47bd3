"""The scripts that run before Python is there: what they install, what they leave alone, what they say."""

import os
import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[3] / "install"
TOOLS = ("sh", "awk", "sed", "cat", "tr", "readlink", "mktemp", "rm", "tail", "id", "dirname")
PRESENT = ("containerd", "runc", "nft", "iptables", "ip", "conntrack", "catatonit", "busybox", "curl", "kubectl")
PRESENT_FOR_TESTS = (*PRESENT, "docker-registry", "skopeo")


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A PATH of our own: the shell's tools, a python3 that is new enough, an apt-get that records its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(f"/usr/bin/{tool}" if Path(f"/usr/bin/{tool}").exists() else f"/bin/{tool}")
    script(folder / "python3", "exit 0")
    script(
        folder / "apt-get",
        'echo "$@" >> "$APT_CALLS"\nfor word in "$@"; do [ "$word" != "$BROKEN" ] || { echo "E: $word" >&2; exit 100; }; done',
    )
    return folder


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def install(guest: Path, broken: str = "none") -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    calls = guest.parent / "calls"
    calls.touch()
    environment = {"PATH": str(guest), "APT_CALLS": str(calls), "BROKEN": broken}
    done = subprocess.run(
        ["/bin/sh", str(INSTALL / "packages.sh"), "test"], env=environment, capture_output=True, text=True, timeout=60
    )
    return done, [line.split() for line in calls.read_text().splitlines()]


def packages(call: list[str]) -> list[str]:
    return [word for word in call[1:] if not word.startswith("-")]


def test_nothing_is_installed_where_nothing_is_missing(guest: Path) -> None:
    for name in PRESENT_FOR_TESTS:
        script(guest / name, "exit 0")
    done, calls = install(guest)
    assert done.returncode == 0
    installed = {package for call in calls if call[0] == "install" for package in packages(call)}
    assert installed <= {"containernetworking-plugins"}  # looked for by file, so it depends on this machine


def test_kubectl_comes_in_a_call_of_its_own(guest: Path) -> None:
    done, calls = install(guest)
    assert done.returncode == 0
    together = [packages(call) for call in calls if call[0] == "install"]
    assert ["kubernetes-client"] in together
    assert all("kubernetes-client" not in call for call in together if len(call) > 1)
    assert all("--no-remove" in call for call in calls if call[0] == "install")


def test_a_package_that_cannot_be_installed_is_named_and_the_others_are_installed(guest: Path) -> None:
    done, calls = install(guest, broken="nftables")
    assert done.returncode == 1
    assert "could not be installed: nftables" in done.stderr
    alone = [packages(call)[0] for call in calls if call[0] == "install" and len(packages(call)) == 1]
    assert {"containerd", "runc", "iptables", "catatonit"} <= set(alone)


def test_a_kubectl_that_cannot_be_installed_breaks_nothing(guest: Path) -> None:
    done, _ = install(guest, broken="kubernetes-client")
    assert done.returncode == 0
    assert "kubernetes-client could not be installed" in done.stderr


KUBECONFIG = """\
apiVersion: v1
clusters:
- cluster:
    server: https://a.example:6443
  name: one
- name: two
  cluster:
    server: "https://b.example:6443"
contexts:
- context: {cluster: one, user: u}
  name: flow-style
- context:
    cluster: one
    user: u
  name: first
- context:
    cluster: two
    user: u
  name: second
current-context: CURRENT
"""


@pytest.mark.parametrize(
    ("current", "server"), [("first", "https://a.example:6443"), ("second", "https://b.example:6443")]
)
def test_the_cluster_about_to_be_joined_is_said_first(guest: Path, tmp_path: Path, current: str, server: str) -> None:
    file = tmp_path / "admin.conf"
    file.write_text(KUBECONFIG.replace("CURRENT", current))
    environment = {"PATH": str(guest), "KUBECONFIG": str(file), "VKUBELET_NODE_NAME": "Edge"}
    done = subprocess.run(
        ["/bin/sh", str(INSTALL / "joining.sh")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == (
        f"joining {server} as node edge (KUBECONFIG={file}); for the embedded server: make run KUBECONFIG=\n"
    )


@pytest.mark.parametrize("kubeconfig", ["", "/var/lib/vk-cri/admin.conf"])
def test_nothing_is_said_when_embedded(guest: Path, kubeconfig: str) -> None:
    environment = {**os.environ, "PATH": str(guest), "KUBECONFIG": kubeconfig, "VKCRI_INSTANCE": ""}
    done = subprocess.run(
        ["/bin/sh", str(INSTALL / "joining.sh")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
