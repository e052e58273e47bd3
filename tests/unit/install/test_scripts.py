"""The scripts that run before Python is there: what they install, what they leave alone, what they say."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from vkcri.config import ClusterSettings, load

INSTALL = Path(__file__).resolve().parents[3] / "install"
TOOLS = ("sh", "awk", "sed", "cat", "tr", "readlink", "mktemp", "rm", "tail", "id", "dirname")
PRESENT = ("containerd", "runc", "nft", "iptables", "ip", "conntrack", "catatonit", "busybox", "curl", "kubectl")
PRESENT_FOR_TESTS = (*PRESENT, "docker-registry", "skopeo", "chromium")


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
        'echo "$@" >> "$APT_CALLS"\n'
        'for word in "$@"; do [ "$word" != "$BROKEN" ] || { echo "E: $word" >&2; exit 100; }; done',
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


FLOW_STYLE = KUBECONFIG.replace("CURRENT", "flow-style")
MINIKUBE = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority: /root/.minikube/ca.crt
    extensions:
    - extension:
        provider: minikube.sigs.k8s.io
      name: cluster_info
    server: https://m.example:8443 # the second of them
  name: minikube
contexts:
- context:
    cluster: minikube
    extensions:
    - extension:
        provider: minikube.sigs.k8s.io
      name: context_info
    user: minikube
  name: minikube
current-context: minikube
"""


def joining(guest: Path, *, script: Path = INSTALL / "joining.sh", **environ: str) -> subprocess.CompletedProcess[str]:
    """What `make run` says first, in the folder above the guest's PATH."""
    return subprocess.run(
        ["/bin/sh", str(script)],
        cwd=guest.parent,
        env={"PATH": str(guest), "VKCRI_CONFIG": str(guest / "no.toml"), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def line(server: str, node: str, kubeconfig: object, variable: str = "KUBECONFIG") -> str:
    return f"joining {server} as node {node} ({variable}={kubeconfig}); for the embedded server: make run {variable}=\n"


@pytest.fixture
def without_python(tmp_path: Path) -> Path:
    """joining.sh in a clone whose virtual environment is not made yet."""
    folder = tmp_path / "clone" / "install"
    folder.mkdir(parents=True)
    return Path(shutil.copy(INSTALL / "joining.sh", folder))


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (KUBECONFIG.replace("CURRENT", "first"), "https://a.example:6443"),
        (KUBECONFIG.replace("CURRENT", "second"), "https://b.example:6443"),
        (MINIKUBE, "https://m.example:8443"),
        (FLOW_STYLE, "the cluster of KUBECONFIG"),
        (KUBECONFIG.replace("CURRENT", "none"), "the cluster of KUBECONFIG"),
        (json.dumps(yaml.safe_load(MINIKUBE)), "the cluster of KUBECONFIG"),
        (json.dumps(yaml.safe_load(MINIKUBE), indent=2), "the cluster of KUBECONFIG"),
        ("", "the cluster of KUBECONFIG"),
    ],
)
def test_the_cluster_about_to_be_joined_is_said_first(
    guest: Path, tmp_path: Path, without_python: Path, text: str, server: str
) -> None:
    file = tmp_path / "admin.conf"
    file.write_text(text)
    done = joining(guest, script=without_python, KUBECONFIG=str(file), VKUBELET_NODE_NAME="Edge")
    assert (done.stdout, done.stderr) == (line(server, "edge", file), "")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (FLOW_STYLE, "https://a.example:6443"),
        (json.dumps(yaml.safe_load(MINIKUBE)), "https://m.example:8443"),
        (yaml.safe_dump(yaml.safe_load(MINIKUBE), default_flow_style=True), "https://m.example:8443"),
        (KUBECONFIG.replace("CURRENT", "none"), "the cluster of KUBECONFIG"),
        ("no: [yaml", "the cluster of KUBECONFIG"),
    ],
)
def test_any_layout_is_read_once_python_is_there(guest: Path, tmp_path: Path, text: str, server: str) -> None:
    file = tmp_path / "admin.conf"
    file.write_text(text)
    done = joining(guest, KUBECONFIG=str(file), VKUBELET_NODE_NAME="edge")
    assert (done.stdout, done.stderr) == (line(server, "edge", file), "")


def test_the_first_of_several_kubeconfigs_that_says_something_wins(guest: Path, tmp_path: Path) -> None:
    (tmp_path / "first.conf").write_text(KUBECONFIG.replace("current-context: CURRENT\n", ""))
    (tmp_path / "second.conf").write_text(KUBECONFIG.replace("CURRENT", "second").replace("b.example", "c.example"))
    done = joining(guest, KUBECONFIG="first.conf:/not/there:second.conf", VKUBELET_NODE_NAME="edge")
    files = f"{tmp_path}/first.conf:/not/there:{tmp_path}/second.conf"
    assert done.stdout == line("https://b.example:6443", "edge", files)


@pytest.mark.parametrize(
    ("toml", "node"),
    [
        ('kubeconfig = "admin.conf"\nnode_name = "From-Toml"\n', "from-toml"),
        ("# kubeconfig = 'x'\n  'kubeconfig'='admin.conf' # ours\nnode_name\t=\t'n'\n", "n"),
        ('kubeconfig = "ABSOLUTE"\n', Path("/proc/sys/kernel/hostname").read_text().strip().lower()),
    ],
)
def test_both_settings_may_stand_in_the_toml_file(guest: Path, tmp_path: Path, toml: str, node: str) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "admin.conf"
    file.write_text(MINIKUBE)
    config = folder / "config.toml"
    config.write_text(toml.replace("ABSOLUTE", str(file)))
    done = joining(guest, VKCRI_CONFIG=str(config))
    assert done.stdout == line("https://m.example:8443", node, file)
    assert load(ClusterSettings, {"VKCRI_CONFIG": str(config)}).kubeconfig == str(file)  # the programs agree
    assert joining(guest, VKCRI_CONFIG="etc/config.toml").stdout == done.stdout

    assert joining(guest, VKCRI_CONFIG=str(config), KUBECONFIG="").stdout == ""  # the printed cure
    named = joining(guest, VKCRI_CONFIG=str(config), KUBECONFIG="etc/admin.conf", DEFAULTNODE_NAME="edge")
    assert named.stdout == line("https://m.example:8443", "edge", file)


def test_a_bootstrap_kubeconfig_is_said_by_its_own_name(guest: Path, tmp_path: Path) -> None:
    (tmp_path / "bootstrap.conf").write_text(MINIKUBE)
    own = {"BOOTSTRAP_KUBECONFIG": "bootstrap.conf", "VKUBELET_NODE_NAME": "edge"}
    said = line("https://m.example:8443", "edge", tmp_path / "bootstrap.conf", "BOOTSTRAP_KUBECONFIG")
    for environ in ({}, {"KUBECONFIG": ""}, {"KUBECONFIG": "/var/lib/vk-cri/admin.conf"}):
        assert joining(guest, **own, **environ).stdout == said
    both = joining(guest, **own, KUBECONFIG="other.conf")
    assert both.returncode == 1
    assert "are two ways to join" in both.stderr
    gone = joining(guest, BOOTSTRAP_KUBECONFIG="gone.conf")
    assert gone.returncode == 1
    assert f"BOOTSTRAP_KUBECONFIG={tmp_path}/gone.conf: no such file" in gone.stderr


def test_a_variable_hides_both_ways_to_join_of_the_toml_file(guest: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('bootstrap_kubeconfig = "boot.conf"\n')
    (tmp_path / "boot.conf").write_text(MINIKUBE)
    own = {"VKCRI_CONFIG": str(tmp_path / "config.toml"), "VKUBELET_NODE_NAME": "edge"}
    said = line("https://m.example:8443", "edge", tmp_path / "boot.conf", "BOOTSTRAP_KUBECONFIG")
    assert joining(guest, **own).stdout == said
    assert joining(guest, **own, KUBECONFIG="").stdout == ""
    assert joining(guest, **own, BOOTSTRAP_KUBECONFIG="").stdout == ""
    given = joining(guest, **own, KUBECONFIG="boot.conf").stdout
    assert given == line("https://m.example:8443", "edge", tmp_path / "boot.conf")


@pytest.mark.parametrize("toml", ["kubeconfig = 1\n", "kubeconfig = ''\n", "not_kubeconfig = 'x'\n", ""])
def test_a_toml_file_that_names_no_cluster_means_embedded(guest: Path, tmp_path: Path, toml: str) -> None:
    (tmp_path / "config.toml").write_text(toml)
    done = joining(guest, VKCRI_CONFIG=str(tmp_path / "config.toml"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_kubeconfig_that_is_not_there_ends_make_run(guest: Path, tmp_path: Path) -> None:
    done = joining(guest, KUBECONFIG="away.conf")
    assert done.returncode == 1
    assert f"KUBECONFIG={tmp_path}/away.conf: no such file" in done.stderr


@pytest.mark.parametrize(
    ("kubeconfig", "instance"),
    [("", ""), ("/var/lib/vk-cri/admin.conf", ""), ("/var/lib/vk-cri-cli-53/node.conf", "cli-53")],
)
def test_nothing_is_said_when_embedded(guest: Path, kubeconfig: str, instance: str) -> None:
    done = joining(guest, KUBECONFIG=kubeconfig, VKCRI_INSTANCE=instance)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
