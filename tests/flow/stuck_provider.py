"""A provider that holds a lock on purpose and waits for it on another thread; started as VKCRI_PROVIDER by a test.

Its self-watch is the programs' own with a margin of one second in the place of thirty.
"""

import threading

from vkcri.config import RuntimeSettings, load
from vkcri.lifecycle import Process, run
from vkcri.selfwatch import SelfWatch


def main() -> None:
    settings = load(RuntimeSettings)
    lock = threading.Lock()

    def wait_for_the_lock(process: Process) -> None:
        with process.expect("the pods' lock", 1.0):
            lock.acquire()

    def serve(process: Process) -> None:
        lock.acquire()
        process.start_thread("pod-worker", lambda: wait_for_the_lock(process))
        process.stopping.wait()

    run("cri-bridge", settings, serve, watch=SelfWatch(1.0, period=0.2))
