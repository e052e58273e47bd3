"""Packages of another Debian release, fetched by an apt that has its folders to itself: the guest's sources, lists and
packages stay as they are, and nothing is installed.

The mirror is that of the guest's own sources, as apt itself reads them (one-line and deb822). How to reach it (proxies,
dates of a frozen mirror) is taken from the guest's configuration, its hooks are not. Signatures are checked against
Debian's archive keyring, whatever the guest trusts besides.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from vkcri.errors import ConfigError, Unavailable

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INDEX = re.compile(r"^'(?P<mirror>\S+)/dists/(?P<suite>[^/\s]+)/main/binary-", re.MULTILINE)
_SECONDS = 600.0
_OWN = """Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "2";
"""


class Apt:
    """apt for one suite (a code name), in a folder of its own. Errors are Unavailable with apt's own last word."""

    def __init__(self, suite: str, folder: Path) -> None:
        self._suite = suite
        self._folder = folder
        self._environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def update(self) -> None:
        """Read what the suite has now. Raises ConfigError where the guest's sources lead to no Debian mirror."""
        text = sources(self._suite, guest_indexes(_run(["apt-get", "update", "--print-uris"])))
        if not KEYRING.exists():
            raise ConfigError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        (self._folder / "sources.list").write_text(text)
        (self._folder / "apt.conf").write_text(configuration(self._folder, _run(["apt-config", "dump"])))
        _run(["apt-get", "update", "-q", "--error-on=any"], self._environment)

    def candidate(self, package: str) -> str:
        """The newest version that the suite had at the last update."""
        shown = _run(["apt-cache", "show", "--no-all-versions", package], self._environment)
        found = re.search(r"^Version: (\S+)$", shown, re.MULTILINE)
        if found is None:
            raise Unavailable(f"{self._suite} has no {package}")
        return found[1]

    def unpack(self, package: str, version: str, target: Path) -> None:
        """The package's files below `target`; apt checks the archive's hash against the signed index."""
        archives = self._folder / "archives"
        archives.mkdir(exist_ok=True)
        for old in archives.glob("*.deb"):
            old.unlink()
        _run(["apt-get", "download", "-q", f"{package}={version}"], self._environment, archives)
        (archive,) = archives.glob("*.deb")
        _run(["dpkg-deb", "--extract", str(archive), str(target)])
        archive.unlink()


def guest_indexes(printed: str) -> list[tuple[str, str]]:
    """(mirror, suite) of each component main in what `apt-get update --print-uris` says, in the guest's order."""
    return list(dict.fromkeys((found["mirror"], found["suite"]) for found in _INDEX.finditer(printed)))


def sources(suite: str, indexes: Iterable[tuple[str, str]]) -> str:
    """The sources.list of that suite on the mirrors of these: its archive, and for a stable release its security
    updates. Raises ConfigError where they name no archive."""
    indexes = list(indexes)
    archive = next((mirror for mirror, name in indexes if "-" not in name), None)
    security = next((mirror for mirror, name in indexes if name.endswith("-security")), None)
    if archive is None:
        raise ConfigError("this guest's apt sources name no Debian archive (component main): add one, then try again")
    signed = f"deb [signed-by={KEYRING}]"
    lines = [f"{signed} {archive} {suite} main\n"]
    if security is not None and suite not in ("sid", "unstable"):
        lines.append(f"{signed} {security} {suite}-security main\n")
    return "".join(lines)


def configuration(folder: Path, dumped: str) -> str:
    """The apt.conf of an apt that lives in `folder`. dumped: the guest's `apt-config dump`, of which only the way to
    the mirrors is taken over."""
    transport = [
        line
        for line in dumped.splitlines()
        if line.startswith("Acquire::") and not line.startswith(("Acquire::IndexTargets", "Acquire::Allow"))
    ]
    return "\n".join([*transport, _OWN.format(folder=folder)])


def _run(command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """What the command prints. Raises ConfigError where there is no such program, Unavailable where it fails."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{command[0]} is not on this guest: other runtimes come as Debian packages") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(command)}: not done after {error.timeout:.0f} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E: ")] or done.stderr.splitlines()[-1:]
        raise Unavailable(f"{' '.join(command)}: {said[0].removeprefix('E: ') if said else done.returncode}")
    return done.stdout
