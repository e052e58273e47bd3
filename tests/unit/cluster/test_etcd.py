"""What can go wrong while Debian's etcd is fetched is one line, not a traceback."""

from pathlib import Path

import pytest

from tests.cluster import etcd
from vkcri.errors import Unavailable


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_an_etcd_in_path_is_used_as_it_is(programs: Path) -> None:
    program(programs / "etcd", "exit 0")
    assert etcd.ensure() == programs / "etcd"


def test_a_package_is_unpacked_once(programs: Path, tmp_path: Path) -> None:
    program(programs / "apt-get", ": >etcd-server.deb")
    program(programs / "dpkg", '/bin/mkdir -p "$3/usr/bin"; echo etcd >"$3/usr/bin/etcd"')
    found = etcd.ensure()
    assert found == tmp_path / "cache" / "vkcri" / "etcd" / "etcd"
    (programs / "apt-get").unlink()
    assert etcd.ensure() == found


@pytest.mark.usefixtures("programs")
def test_a_guest_without_apt_is_told_what_to_do() -> None:
    with pytest.raises(Unavailable, match=r"^etcd is missing, and so is apt-get: [^\n]*$"):
        etcd.ensure()


def test_a_guest_without_dpkg_is_told_what_to_do(programs: Path) -> None:
    program(programs / "apt-get", ": >etcd-server.deb")
    with pytest.raises(Unavailable, match=r"^dpkg is missing: put an etcd into your PATH$"):
        etcd.ensure()


def test_apts_last_word_is_the_error(programs: Path) -> None:
    program(programs / "apt-get", "echo 'E: no mirror'; exit 100")
    with pytest.raises(Unavailable, match=r"^etcd is missing, and apt-get download etcd-server failed: E: no mirror$"):
        etcd.ensure()


@pytest.mark.parametrize(
    ("apt", "dpkg", "said"),
    [
        (":", ":", "apt-get download etcd-server left no package"),
        (": >etcd-server.deb", ":", "etcd-server has no usr/bin/etcd"),
    ],
)
def test_a_package_that_is_not_what_it_should_be_is_one_line(programs: Path, apt: str, dpkg: str, said: str) -> None:
    program(programs / "apt-get", apt)
    program(programs / "dpkg", dpkg)
    with pytest.raises(Unavailable, match=f"^{said}$"):
        etcd.ensure()


def test_an_apt_that_does_not_end_is_one_line(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "_SECONDS", 0.2)
    program(programs / "apt-get", "exec /bin/sleep 60")
    with pytest.raises(Unavailable, match=r"^apt-get download -q etcd-server: not done after 0 s$"):
        etcd.ensure()
