"""Instance numbers for the flow tests: each belongs to one fixture of one run on this guest at a time.

The lock is an abstract socket, as `claim` of tests/conftest.py has it: it leaves no file, no child inherits it, and it
is free again however the run ends. A number that anything else on the guest uses, a person's own node or what a killed
run left under another name, is passed over.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vkcri.config import Instance

NUMBERS = range(71, 100)


@contextmanager
def claimed(name: str) -> Iterator[Instance]:
    """An instance NAME-N whose ports, ranges and folders nobody else on this guest has, until the end."""
    for number in NUMBERS:
        instance = Instance(f"{name}-{number}")
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0vkcri-test-{number}")
            except OSError:
                continue  # another run or worker has it
            if _others(instance):
                continue
            yield instance
            return
    raise AssertionError(f"every instance number of {NUMBERS} is in use on this guest")


def _others(instance: Instance) -> list[Path]:
    """Folders and sockets of another instance with the same number."""
    return [
        path
        for parent in (instance.run_dir.parent, instance.state_dir.parent)
        for path in parent.glob(f"vk-cri-*-{instance.index}*")
        if (folder := path.name.partition(".")[0]) != instance.folder and folder.endswith(f"-{instance.index}")
    ]
