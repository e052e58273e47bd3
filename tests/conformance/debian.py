"""Root file systems for images, from Debian's packages: fetched from the guest's own sources and only unpacked.

No maintainer script runs and the guest's own packages stay as they are: apt resolves and fetches as for a machine that
has nothing installed, `dpkg -x` unpacks. The only user of apt-get and dpkg under tests/conformance.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.images_local import Entry
from vkcri.errors import Refused

_SECONDS = 600.0
_UNREAD = ("doc", "man", "locale", "info", "lintian", "bug", "bash-completion", "zoneinfo")  # below usr/share
_SEARCHED = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")


def root_file_system(packages: Sequence[str]) -> list[Entry]:
    """What these packages and all that they depend on (recommendations aside) contain, without what only people read.
    Raises Refused with apt's own words."""
    with TemporaryDirectory(prefix="vkcri-rootfs-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        for package in _download(packages, Path(scratch)):
            _run(["dpkg", "-x", str(package), str(root)])
        for name in _UNREAD:
            shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
        return sorted(_entries(root), key=lambda entry: entry.path)


def with_applets(entries: Sequence[Entry]) -> list[Entry]:
    """The same with the busybox among the entries under each of its names that nothing else there answers to: the small
    tools that scripts expect to find."""
    busybox = program_in(entries, "busybox")
    assert busybox.content is not None
    taken = {entry.path.rpartition("/")[2] for entry in entries if entry.path.rpartition("/")[0] in _SEARCHED}
    with TemporaryDirectory(prefix="vkcri-applets-") as scratch:
        program = Path(scratch) / "busybox"
        program.write_bytes(busybox.content)
        program.chmod(0o755)
        applets = _run([str(program), "--list"]).split()
    links = [
        Entry(f"usr/local/bin/{name}", 0o777, link=f"/{busybox.path}") for name in sorted(applets) if name not in taken
    ]
    return [*entries, *links]


def program_in(entries: Sequence[Entry], name: str) -> Entry:
    """The file of this name in one of the folders of programs. Raises Refused where there is none."""
    for entry in entries:
        folder, _, file = entry.path.rpartition("/")
        if file == name and folder in _SEARCHED:
            return entry
    raise Refused(f"no program {name} in the packages")


def _download(packages: Sequence[str], scratch: Path) -> list[Path]:
    """The packages' files. The package lists are the guest's, brought up to date where that did not do."""
    archives, status = scratch / "archives", scratch / "status"
    (archives / "partial").mkdir(parents=True)
    status.touch()
    options = (f"Dir::State::status={status}", f"Dir::Cache::archives={archives}", "Debug::NoLocking=true")
    command = ["apt-get", "-y", "-q", "--no-install-recommends", "--download-only"]
    command += [f"-o{option}" for option in options]
    command += ["install", *packages]
    try:
        _run(command)
    except Refused:
        _run(["apt-get", "-q", "update"])
        _run(command)
    return sorted(archives.glob("*.deb"))


def _entries(root: Path) -> Iterator[Entry]:
    """Folders, files and links below a folder; sockets, devices and pipes are in no package."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            place, found = str(path.relative_to(root)), path.lstat()
            mode = stat.S_IMODE(found.st_mode)
            if stat.S_ISLNK(found.st_mode):
                yield Entry(place, 0o777, link=os.readlink(path))
            elif stat.S_ISDIR(found.st_mode):
                yield Entry(place, mode)
            elif stat.S_ISREG(found.st_mode):
                yield Entry(place, mode, path.read_bytes())


def _run(command: Sequence[str]) -> str:
    """What a program prints on its standard output. Raises Refused with the last lines of what it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise Refused(f"{' '.join(command[:2])}: {' '.join(done.stderr.strip().splitlines()[-3:])}")
    return done.stdout
