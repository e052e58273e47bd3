"""The programs, built once for each version into a cache folder outside the tree, one at a time, with progress.

    <cache>/kubernetes/v1.37.2/{go.mod,go.sum,bin/}    <cache>/coredns/v1.15.0/...    <cache>/.lock

A program is built beside its place and moved there when it is whole, so that what is in bin/ can be run. A lock keeps
two builds apart; it is free again however a build ends, and a build that outlives its starter holds it on. go.mod is
taken as ready only if `go mod tidy` has succeeded on this very text (`module.ready`).
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import golang, module, versions
from vkcri.errors import ConfigError

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_PROGRESS_SECONDS = 30
_E2E = 'package e2e\n\nimport _ "k8s.io/kubernetes/test/e2e"\n'  # so that tidy sees what e2e.test needs


def cache() -> Path:
    """Where programs are kept: ${XDG_CACHE_HOME:-~/.cache}/vkcri."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vkcri"


def resolve(wanted: str) -> str:
    """The release that KUBERNETES=`wanted` means, as `v1.37.2`; a minor's newest patch is asked of the proxy."""
    minor, patch = versions.parse(wanted)
    if patch is not None:
        return f"v1.{minor}.{patch}"
    golang.present()
    return versions.newest(minor, golang.listed_versions(module.KUBERNETES))


def binary(version: str, name: str) -> Path:
    """Where a program of a release (or CoreDNS) is once it is built."""
    return _folder(version, name) / "bin" / name


def ensure(version: str, names: Iterable[str]) -> dict[str, Path]:
    """Each program's path, built where it is missing. Raises ConfigError or Unavailable with one line."""
    names = list(names)
    unknown = sorted(set(names) - set(module.PROGRAMS))
    if unknown:
        raise ConfigError(f"no program {unknown[0]!r}; there are: {', '.join(module.PROGRAMS)}")
    if any(not binary(version, name).exists() for name in names):
        present = golang.present()
        with _locked() as held:
            missing = [name for name in names if not binary(version, name).exists()]
            for number, name in enumerate(missing, 1):
                _ensure_module(version, name, present)
                _build(version, name, f"{name} {number}/{len(missing)}", held)
    return {name: binary(version, name) for name in names}


def ensure_module(version: str) -> Path:
    """The folder of a release's tool module, made where it is missing."""
    with _locked():
        _ensure_module(version, CONTROL_PLANE[0], golang.present())
    return _folder(version, CONTROL_PLANE[0])


def _folder(version: str, name: str) -> Path:
    if module.PROGRAMS[name].package == module.COREDNS:
        return cache() / "coredns" / module.COREDNS_VERSION
    return cache() / "kubernetes" / version


def _ensure_module(version: str, name: str, present: str) -> None:
    """go.mod and go.sum of the module that a program is built in."""
    folder, ready = _folder(version, name), _folder(version, name) / "module.ready"
    if module.PROGRAMS[name].package == module.COREDNS:
        text = module.coredns(golang.upstream_module(module.COREDNS, module.COREDNS_VERSION))
    else:
        text = module.kubernetes(version, golang.upstream_module(module.KUBERNETES, version))
    module.require_go(f"{folder.parent.name} {folder.name}", present, module.language(text))
    if ready.exists() and ready.read_text() == text:
        return
    began = time.monotonic()
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    ready.unlink(missing_ok=True)
    (folder / "go.sum").unlink(missing_ok=True)
    (folder / "go.mod").write_text(text)
    if module.PROGRAMS[name].package != module.COREDNS:
        (folder / "e2e").mkdir(exist_ok=True)
        (folder / "e2e" / "e2e.go").write_text(_E2E)
    _say(f"go mod tidy for {folder.parent.name} {folder.name}")
    golang.tidy(folder)
    ready.write_text(text)
    _say(f"go mod tidy: {time.monotonic() - began:.0f} s")


def _build(version: str, name: str, title: str, held: int) -> None:
    target = binary(version, name)
    unfinished = target.with_name(f".{name}.unfinished")
    began = said = time.monotonic()
    _say(f"building {title} (some {module.PROGRAMS[name].seconds} s where nothing of it is built yet)")

    def progress() -> None:
        nonlocal said
        if time.monotonic() - said >= _PROGRESS_SECONDS:
            said = time.monotonic()
            _say(f"building {title}: {said - began:.0f} s")

    log = target.parent.parent / f"{name}.log"
    golang.build(module.build_command(name, version, str(unfinished)), target.parent.parent, log, held, progress)
    unfinished.replace(target)
    _say(f"built {name}: {time.monotonic() - began:.0f} s, {target.stat().st_size / 1e6:.0f} MB")


@contextmanager
def _locked() -> Iterator[int]:
    """The cache's lock, as a descriptor. Another build is waited for, and that is said."""
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another build runs ({cache()}): waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _say(line: str) -> None:
    print(f"cluster: {line}", flush=True)
