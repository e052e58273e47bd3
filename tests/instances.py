"""Instance numbers for tests and benchmarks: each belongs to one process of one run on this guest at a time, so that
two checkouts can be tested at once.

The lock is an abstract socket: it leaves no file, no child inherits it, and it is free again however the run ends. A
number that anything else on the guest uses, a person's own node or what a killed run left under another name, is passed
over.
"""

import contextlib
import functools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vkcri.instance import Instance

NUMBERS = range(10, 61)
RIVAL_NUMBERS = range(61, 70)  # each by the number of its cluster, which outlives the command that started it
FLOW_NUMBERS = range(71, 100)
_held = contextlib.ExitStack()  # until the process ends


def own(name: str) -> Instance:
    """NAME-N with a number that this process keeps until its end. Its tests run one after the other and clean up after
    themselves, so they share it: a test that wants two numbers, or keeps one beyond its module, claims the other."""
    return Instance(f"{name}-{_own_number()}")


@functools.cache
def _own_number() -> int:
    return _held.enter_context(claimed("own")).index


@contextmanager
def claimed(name: str, numbers: range = NUMBERS) -> Iterator[Instance]:
    """An instance NAME-N whose ports, ranges and folders nobody else on this guest has, until the end."""
    for number in numbers:
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
    raise AssertionError(f"every instance number of {numbers} is in use on this guest")


def _others(instance: Instance) -> list[Path]:
    """Folders and sockets of another instance with the same number."""
    return [
        path
        for parent in (instance.run_dir.parent, instance.state_dir.parent)
        for path in parent.glob(f"vk-cri-*-{instance.index}*")
        if (folder := path.name.partition(".")[0]) != instance.folder and folder.endswith(f"-{instance.index}")
    ]
