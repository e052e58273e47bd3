"""What make cluster prints to type next is typed here, into sh, with a make that tells what it was given."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cluster.__main__ import next_steps
from tests.cluster.control import Cluster
from vkcri.config import ClusterSettings, load

INSTALL = Path(__file__).resolve().parents[3] / "install"
VARIABLES = ("KUBECONFIG", "BOOTSTRAP_KUBECONFIG", "VKUBELET_DISABLE_TAINT", "VKCRI_CONFIG")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A PATH's first folder whose `make` writes its words and the variables that say how to join."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shown = " ".join(f'"{name}=${{{name}-unset}}"' for name in VARIABLES)
    (folder / "make").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" {shown}\n')
    (folder / "make").chmod(0o755)
    (folder / "empty.toml").touch()
    return folder


def typed(line: str, bin_folder: Path, **exported: str) -> tuple[list[str], dict[str, str]]:
    """make's words, and the environment that its recipes get, of one line in a shell that has exported these."""
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    environment = {**inherited, "VKCRI_CONFIG": str(bin_folder / "empty.toml"), **exported}
    environment["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, check=True, timeout=20)
    lines = done.stdout.splitlines()
    found = dict(item.split("=", 1) for item in lines[-len(VARIABLES) :])
    return lines[: -len(VARIABLES)], {name: value for name, value in found.items() if value != "unset"}


@pytest.mark.parametrize("exported", [{}, {"KUBECONFIG": "/left/admin.conf"}])
def test_the_line_with_an_identity_joins_by_it_without_a_taint(bin_folder: Path, exported: dict[str, str]) -> None:
    cluster = Cluster(39)
    words, environment = typed(next_steps("n", Path("/c/nodes/n.conf"), cluster)[0], bin_folder, **exported)
    assert words == ["run"]
    assert environment["VKUBELET_DISABLE_TAINT"] == "true"
    settings = load(ClusterSettings, environment)
    assert (settings.kubeconfig, settings.bootstrap_kubeconfig) == ("/c/nodes/n.conf", "")


@pytest.mark.parametrize("exported", [{}, {"KUBECONFIG": "/left/admin.conf"}])
def test_the_line_for_certificates_of_its_own_joins_by_tls_bootstrap(
    bin_folder: Path, exported: dict[str, str]
) -> None:
    cluster = Cluster(39)
    words, environment = typed(next_steps("n", Path("/c/nodes/n.conf"), cluster)[1], bin_folder, **exported)
    assert words == ["run"]
    assert environment["VKUBELET_DISABLE_TAINT"] == "true"
    settings = load(ClusterSettings, environment)
    assert settings.bootstraps
    assert settings.bootstrap_kubeconfig == str(cluster.bootstrap_kubeconfig)
    path = {"PATH": os.environ["PATH"]}
    said = subprocess.run(
        ["sh", str(INSTALL / "joining.sh")], env=environment | path, capture_output=True, text=True, timeout=20
    )
    told = said.stdout or said.stderr  # where it joins, or that there is no such file
    assert f"BOOTSTRAP_KUBECONFIG={cluster.bootstrap_kubeconfig}" in told
    assert "two ways to join" not in told


def test_what_follows_is_an_administrators(bin_folder: Path) -> None:
    cluster = Cluster(39)
    lines = next_steps("n", Path("/c/nodes/n.conf"), cluster)
    assert f"    export KUBECONFIG={cluster.admin_kubeconfig}" in lines
    words, _ = typed(lines[-1].partition(";")[0], bin_folder)
    assert words == ["stop", "KUBECONFIG="], "with the one exported above the node would be taken for another cluster's"
