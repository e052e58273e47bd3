"""A runtime in the cache folder, and which one serves for a line of versions.

    <cache>/runtimes/2.1.9+ds1-5_runc-1.3.6+ds1-1/usr/bin/    what goes first in PATH
    <cache>/runtimes/2                                        a link to the newest one of that line
    <cache>/runtimes/apt-2/                                   apt's own folder; its file `updated` says when it looked

A runtime is unpacked beside its place and moved there when it is whole, and never changed after; a lock keeps two
fetches apart. The release is asked for news once a day, and where it does not answer, what the cache has serves.

A runc that is too old for user namespaces gets a newer one of the same release at its side, which wants a newer libc
than the guest has: it comes with that libc and is told by patchelf to use it.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.runtimes.apt import Apt
from vkcri.errors import ConfigError, Unavailable, VkcriError

LINES = {"1.6": "bookworm", "1.7": "trixie", "2": "sid"}
"""RUNTIME -> the Debian release whose newest containerd it is."""
NEEDS_RUNC = {"2": (1, 2)}
"""RUNTIME -> the runc without which it does not do all that it can: 1.2 has mounts with mapped ids."""
NEWS_SECONDS = 86400.0
_VERSION_SECONDS = 30.0
_VERSION = re.compile(r"\sv?(\d+)\.(\d+)")


@dataclass(frozen=True)
class Found:
    """The runtime that serves. folder: what goes first in PATH, None where the guest's own serves; name: for people."""

    folder: Path | None
    name: str


def ensure(line: str, cache: Path, say: Callable[[str], None]) -> Found:
    """The runtime of that line, fetched where the cache lacks it or has an old one. Raises ConfigError or Unavailable
    with one line."""
    if line not in LINES:
        raise ConfigError(f"RUNTIME={line}: there are {', '.join(LINES)}")
    own = program_version("containerd")
    if own is not None and is_of(line, own):
        return Found(None, "this guest's own")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache, say):
        link, stamp = cache / line, cache / f"apt-{line}" / "updated"
        if not link.exists() or not _fresh(stamp):
            try:
                _renew(line, cache, say)
                stamp.touch()
            except VkcriError as error:
                if not link.exists():
                    raise
                say(f"{error}; {link.resolve().name} of the cache serves")
        folder = link.resolve()
    return Found(folder / "usr" / "bin", f"{folder.name} of Debian's {LINES[line]}")


def program_version(program: str | Path) -> tuple[int, int] | None:
    """Major and minor of `PROGRAM --version`; None where there is none or it does not run. Raises
    Unavailable where it does not answer, which tells nothing of it."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{program} --version: no answer within {_VERSION_SECONDS:.0f} s") from error
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def is_of(line: str, version: tuple[int, int]) -> bool:
    """Whether 2.1 is of line 2, and 1.7 of line 1.7."""
    parts = tuple(int(part) for part in line.split("."))
    return version[: len(parts)] == parts


def _renew(line: str, cache: Path, say: Callable[[str], None]) -> None:
    """The line's link leads to the newest that its release has."""
    suite = LINES[line]
    apt = Apt(suite, cache / f"apt-{line}")
    say(f"asking Debian's {suite} for its containerd")
    apt.update()
    packages = {"containerd": apt.candidate("containerd")}
    name = packages["containerd"]
    if (program_version("runc") or (0, 0)) < NEEDS_RUNC.get(line, (0, 0)):
        packages |= {package: apt.candidate(package) for package in ("runc", "libc6", "libseccomp2")}
        name += f"_runc-{packages['runc']}"
    target = cache / name.replace(":", "%3a")  # an epoch's colon would end the folder's name in PATH
    if not target.exists():
        say(f"fetching {', '.join(f'{package} {version}' for package, version in packages.items())}")
        _fetch(apt, packages, target)
    _check(line, target)  # also one that an earlier fetch was killed before it could check
    beside = cache / f".{line}.new"
    beside.unlink(missing_ok=True)
    beside.symlink_to(target.name)
    beside.replace(cache / line)


def _fetch(apt: Apt, packages: dict[str, str], target: Path) -> None:
    """Unpack them beside the target and move them there."""
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as scratch:
        root, others = Path(scratch) / "root", Path(scratch) / "others"
        root.mkdir()
        for package, version in packages.items():
            apt.unpack(package, version, root if package == "containerd" else others)
        if "runc" in packages:
            _add_runc(others, root, target)
        root.chmod(0o755)
        root.rename(target)


def _add_runc(unpacked: Path, root: Path, target: Path) -> None:
    """runc with the libraries of its own release, which it will find in `target`."""
    program = root / "usr/bin/runc"
    shutil.copy2(_first(unpacked, "runc"), program)
    interpreter = Path(_patchelf("--print-interpreter", program)).name
    (root / "lib").mkdir()
    for name in (interpreter, *_patchelf("--print-needed", program).split()):
        shutil.copy2(_first(unpacked, name), root / "lib" / name)
    _patchelf("--set-interpreter", target / "lib" / interpreter, "--set-rpath", target / "lib", program)


def _first(unpacked: Path, name: str) -> Path:
    """The library of that name, or runc, which its completion in a shell is called, too. Raises Unavailable."""
    for path in unpacked.rglob(name):
        if path.is_file() and (name != "runc" or os.access(path, os.X_OK)):
            return path.resolve()
    raise Unavailable(f"Debian's packages of runc and its libraries have no {name}")


def _patchelf(*arguments: str | Path) -> str:
    try:
        done = subprocess.run(["patchelf", *arguments], capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError as error:
        raise ConfigError("patchelf is not installed: apt-get install patchelf") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"patchelf: {error.stderr.strip()}") from error
    return done.stdout.strip()


def _check(line: str, folder: Path) -> None:
    """What was unpacked runs here and is of the line; else it is removed, unless it only did not answer. Raises
    Unavailable."""
    for program in ("containerd", "runc"):
        path = folder / "usr/bin" / program
        version = program_version(path)
        if program == "runc" and not path.exists():
            continue
        if version is None or (program == "containerd" and not is_of(line, version)):
            shutil.rmtree(folder)
            what = "does not run on this guest" if version is None else f"is {version[0]}.{version[1]}, not {line}"
            raise Unavailable(f"{program} of {folder.name} {what}")


def _fresh(stamp: Path) -> bool:
    try:
        return 0 <= time.time() - stamp.stat().st_mtime < NEWS_SECONDS
    except FileNotFoundError:
        return False


@contextmanager
def _locked(cache: Path, say: Callable[[str], None]) -> Iterator[None]:
    with open(cache / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another fetch runs ({cache}): waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
