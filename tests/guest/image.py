"""A true Debian 12 guest's disk, made here: debootstrap, then README's own set-up inside a chroot.

The chroot starts with what README assumes (git and make) and systemd, so `make install` there is the proof that a fresh
machine gets all it needs. The guest itself has no network; what its `make run` would fetch is in the image by then.
Kept in a cache folder outside the tree, by what it was made from; only the project's files and the kernel's modules are
laid anew each time. `python -m tests.guest.image` makes what is kept, and boots nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.programs import cache

PROJECT = Path(__file__).resolve().parents[2]
CACHE = cache() / "guest"
INCLUDE = "systemd,systemd-sysv,dbus,udev,kmod,ca-certificates,git,make"
DISK_SIZE = "6G"
SETUP = ("pyproject.toml", "setup.py", "install/packages.sh", "Makefile", "tests/guest/image.py", "protos")
# What the host's own clients need to reach their registries, passed on to the chroot's.
PASSED = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")


def disk(work: Path) -> Path:
    """An ext4 image whose root is a Debian 12 with the project installed at /root/vkcri and the session as a unit."""
    root = installed_root()
    lay_project(root)
    lay_modules(root)
    lay_units(root)
    image = work / "disk.img"
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(image), DISK_SIZE)
    return image


def kernel() -> tuple[Path, Path]:
    """(vmlinuz, initrd) of Debian's cloud kernel, the newest that is installed here."""
    found = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RuntimeError("no kernel for the guest: apt-get install linux-image-cloud-amd64")
    return found[-1], found[-1].with_name(found[-1].name.replace("vmlinuz", "initrd.img"))


def installed_root() -> Path:
    """The folder of a Debian 12 on which `make install` has run; made once for each state of the set-up's files."""
    root = CACHE / hashlib.sha256(b"".join(map(Path.read_bytes, setup_files()))).hexdigest()[:16]
    if (root / "complete").exists():
        return root / "root"
    shutil.rmtree(CACHE, ignore_errors=True)
    (root / "root").mkdir(parents=True, exist_ok=True)
    say("debootstrap")
    # in a mount namespace of its own: what it mounts goes with it, however it ends
    run(
        "unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={INCLUDE}", "bookworm", str(root / "root")
    )
    say("make install, in a chroot of that Debian")
    lay_project(root / "root")
    in_chroot(root / "root", "make", "-C", "/root/vkcri", "install")
    if not (root / "root/usr/bin/kubectl").exists():  # make install goes on without it, the session cannot
        raise RuntimeError("make install in the chroot has not brought kubectl: try again")
    (root / "complete").touch()
    return root / "root"


def setup_files() -> list[Path]:
    """What `make install` reads, and this module."""
    paths = (PROJECT / name for name in SETUP)
    found = (file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*"))))
    return [file for file in found if file.suffix != ".pyc" and file.is_file()]


def in_chroot(root: Path, *command: str) -> None:
    """Run a command in the chroot, in a mount namespace of its own, so that its /proc goes with it."""
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if certificates.exists():
        shutil.copy(certificates, root / "etc/ssl/certs/ca-certificates.crt")
    # No service may start in a chroot; the guest starts them as systemd does.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    try:
        run("unshare", "--mount", "--pid", "--kill-child", "sh", "-c", script, str(root), *command, env=environment)
    finally:
        policy.unlink()


def lay_project(root: Path) -> None:
    """The project's files as git knows them (committed or not), at /root/vkcri; its .venv and built code stay."""
    target = root / "root/vkcri"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, copy = PROJECT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    installed = target / ".venv/.installed"
    if installed.exists():  # by these very files, though a clone's are younger: the guest could fetch nothing
        installed.touch()
    # What the installation built from other files than those: as this tree has it.
    for built in ("vkcri/pb", "bridge/pb", "vkcri/apiserver/schema.json"):
        source = PROJECT / built
        if source.is_dir():
            shutil.copytree(source, target / built, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy2(source, target / built)


def lay_modules(root: Path) -> None:
    """The kernel's modules: the guest boots the host's cloud kernel."""
    version = kernel()[0].name.removeprefix("vmlinuz-")
    modules = Path("/lib/modules") / version
    laid = root / "lib/modules" / version
    shutil.rmtree(laid, ignore_errors=True)  # an earlier disk's: copytree lays no link over a link
    shutil.copytree(modules, laid, symlinks=True)


def lay_units(root: Path) -> None:
    """The session as a oneshot unit on the serial console, a network card with a default route, a noexec /run."""
    units = root / "etc/systemd/system"
    here = Path(__file__).resolve().parent
    shutil.copy(here / "vkcri-session.service", units)
    shutil.copy(here / "session.sh", root / "root/session.sh")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    link(wants / "vkcri-session.service", "/etc/systemd/system/vkcri-session.service")
    link(units / "serial-getty@ttyS0.service", "/dev/null")
    (root / "etc/hostname").write_text("guest\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost guest\n")
    (root / "etc/fstab").write_text("LABEL=root / ext4 defaults 0 1\n")
    limits = root / "etc/systemd/system.conf.d"
    limits.mkdir(exist_ok=True)
    # a container whose first process heeds no TERM would hold up the reboot for systemd's 90 s
    (limits / "stop.conf").write_text("[Manager]\nDefaultTimeoutStopSec=20s\n")
    (root / "root/phase").unlink(missing_ok=True)
    shutil.rmtree(root / "var/lib/vk-cri", ignore_errors=True)


def link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def run(*command: str, env: dict[str, str] | None = None, seconds: float = 900.0) -> None:
    """Run to the end; RuntimeError with the last lines of its output on a failure."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, env=env, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}")


def say(words: Sequence[str] | str) -> None:
    """Progress, on the terminal even under pytest's capture."""
    print(f"guest: {words}", file=sys.__stderr__, flush=True)


if __name__ == "__main__":
    try:
        installed_root()
    except RuntimeError as error:
        sys.exit(f"guest: {error}")
