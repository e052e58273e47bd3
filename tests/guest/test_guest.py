"""README's session in a Debian 12 guest: systemd, cgroup v2, containerd as apt started it, noexec /run, a reboot."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import image

pytestmark = [pytest.mark.guest, pytest.mark.timeout(2400)]

STEPS_A_SESSION = 18
BOOT_SECONDS = 1800


def boot(disk: Path) -> Iterator[str]:
    """Boot the guest in emulation and give its console's lines until it powers off."""
    vmlinuz, initrd = image.kernel()
    command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]  # it ends with its starter
    command += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "4096"]
    command += ["-nographic", "-monitor", "none", "-kernel", str(vmlinuz), "-initrd", str(initrd)]
    command += ["-append", "root=LABEL=root rw console=ttyS0 quiet loglevel=1"]  # no kernel line amid a step's
    command += ["-drive", f"file={disk},if=virtio,format=raw", "-nic", "user,restrict=on,model=virtio-net-pci"]
    guest = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + BOOT_SECONDS
    try:
        assert guest.stdout is not None
        for line in guest.stdout:
            assert time.monotonic() < deadline, "the guest did not power off in time"
            yield re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.decode(errors="replace")).strip()
    finally:
        guest.kill()
        guest.communicate()


def test_the_session_works_in_a_debian_12_guest(tmp_path: Path) -> None:
    lines: list[str] = []
    for line in boot(image.disk(tmp_path)):
        lines.append(line)
        print(line, file=sys.__stderr__, flush=True)
    console = "\n".join(lines)
    failed = [line for line in lines if line.startswith("not ok ")]
    passed = [line for line in lines if line.startswith("ok ")]
    assert failed == [], console
    assert lines.count("session: end") == 1, console
    assert len(passed) == 2 * STEPS_A_SESSION + 4 + 7, passed
    assert "cgroup2fs" in console
