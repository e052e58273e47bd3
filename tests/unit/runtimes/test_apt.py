"""The other release's sources and apt.conf are made from the guest's, in whatever form those are written."""

import subprocess
from pathlib import Path

import pytest

from tests.runtimes import apt
from vkcri.errors import ConfigError, Unavailable

MIRROR, SECURITY = "https://mirror.example/debian", "https://mirror.example/debian-security"
SIGNED = f"[signed-by={apt.KEYRING}]"
ONE_LINE = (
    f"deb {MIRROR} bookworm main contrib\ndeb-src {MIRROR} bookworm main\ndeb {SECURITY} bookworm-security main\n"
)
DEB822 = f"""Types: deb deb-src
URIs: {MIRROR}
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: {SECURITY}
Suites: bookworm-security
Components: main
"""


@pytest.mark.parametrize(("name", "text"), [("one.list", ONE_LINE), ("two.sources", DEB822)])
def test_the_guests_mirrors_are_found_in_both_forms(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "lists").mkdir()
    options = ("Dir::Etc::sourcelist=/dev/null", f"Dir::Etc::sourceparts={tmp_path}", f"Dir::State={tmp_path}")
    command = ["apt-get", "update", "--print-uris", *(word for option in options for word in ("-o", option))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    found = apt.guest_indexes(printed)
    assert (MIRROR, "bookworm") in found
    assert (SECURITY, "bookworm-security") in found
    assert apt.sources("trixie", found) == (
        f"deb {SIGNED} {MIRROR} trixie main\ndeb {SIGNED} {SECURITY} trixie-security main\n"
    )
    assert apt.sources("sid", found) == f"deb {SIGNED} {MIRROR} sid main\n"


def test_a_guest_without_an_archive_is_told_the_cure() -> None:
    with pytest.raises(ConfigError, match="name no Debian archive"):
        apt.sources("sid", [(SECURITY, "bookworm-security")])


def test_the_way_to_the_mirrors_is_taken_over_and_hooks_and_laxer_checks_are_not(tmp_path: Path) -> None:
    dumped = "\n".join(
        [
            'Acquire::http::Proxy "http://proxy.example:3128";',
            'Acquire::Check-Valid-Until "false";',
            'Acquire::AllowInsecureRepositories "true";',
            'Acquire::IndexTargets::deb::DEP-11::MetaKey "x";',
            'APT::Update::Post-Invoke-Success:: "touch /hook";',
            'APT::Get::AllowUnauthenticated "true";',
            'Dir::State "/var/lib/apt";',
        ]
    )
    text = apt.configuration(tmp_path, dumped)
    (tmp_path / "apt.conf").write_text(text)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "APT_CONFIG": str(tmp_path / "apt.conf")}
    seen = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True, env=environment).stdout
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in seen
    assert 'Acquire::Check-Valid-Until "false";' in seen
    assert f'Dir::State "{tmp_path}/state";' in seen
    assert "Post-Invoke" not in seen
    assert 'AllowInsecureRepositories "true"' not in seen
    assert "AllowUnauthenticated" not in seen


def test_what_apt_says_last_is_what_is_told() -> None:
    with pytest.raises(Unavailable, match=r"^apt-get download no-such-package-1: Unable to locate package"):
        apt._run(["apt-get", "download", "no-such-package-1"])
