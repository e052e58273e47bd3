"""The skeleton of every process: lock, signals, named threads, self-watch, the end; no word of what a program does.

What it stands on:
1. Any process may die at any point; the next one reads the truth again. So a thread's death ends the process at once.
2. One copy of a program runs at a time: an exclusive flock, held until the process is gone and inherited by no child.
3. No process outlives its supervisord: PR_SET_PDEATHSIG. It fires when the *thread* that started us ends, so
   whoever starts a program does it from a thread that lives on.
4. A configuration error waits for a person: one line, then exit 78 once supervisord counts the program as started.
5. A thread that overstays its own declared deadline by `margin` is stuck, and a process that does not run Python for
   as long is too: both end with all stacks on stderr. VKCRI_DEBUG=1 turns that off.
"""

import argparse
import ctypes
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TypeVar

from vkcri.config import Settings, load
from vkcri.errors import ConfigError, Refused, VkcriError
from vkcri.instance import Instance
from vkcri.selfwatch import Expectation, SelfWatch

EXIT_CONFIG = 78
EXIT_STAYS = 3  # --cleanup: something that others use stays, on purpose
OUTLIVE_STARTSECS = 1.5  # supervisor.conf has startsecs=1; an exit before that would count as a failed start
LOCK_POLL = 0.2
DRAIN_SECONDS = 15.0  # supervisor.conf has stopwaitsecs=20, and then supervisord kills
_PR_SET_PDEATHSIG = 1
_S = TypeVar("_S", bound=Settings)
log = logging.getLogger(__name__)


class Process:
    """What a program's main function gets. A test may build one itself; only `run` locks, catches signals and exits."""

    def __init__(
        self,
        program: str,
        instance: Instance,
        *,
        watch: SelfWatch | None = None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self.program = program
        self.instance = instance
        self.started = datetime.now(UTC)
        self.stopping = threading.Event()
        self._watch = watch or SelfWatch()
        self._end = end
        self._callbacks: list[Callable[[], None]] = []
        self._callbacks_lock = threading.Lock()

    def start_thread(self, name: str, target: Callable[[], None], *, may_end: bool = False) -> threading.Thread:
        """Start a daemon thread. An uncaught exception in it ends the process with status 1, and so does its return
        while the process is not stopping, unless it `may_end` by itself."""

        def body() -> None:
            try:
                target()
            except BaseException:
                log.critical("thread %s died; the process ends", name, exc_info=True)
                self._die()
            else:
                if not may_end and not self.stopping.is_set():
                    log.critical("thread %s returned while the process runs; the process ends", name)
                    self._die()

        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread

    def wait(self, seconds: float) -> bool:
        """Sleep, unless the process is stopping. Returns whether it is."""
        return self.stopping.wait(max(0.0, seconds))

    def expect(self, what: str, seconds: float) -> Expectation:
        """`with process.expect("a pull of IMAGE", 600): ...`: this thread says what it waits for and for how long. A
        nested expectation stops the outer one's clock meanwhile. The value has refresh(seconds=None)."""
        return self._watch.expect(what, seconds)

    def stop(self) -> None:
        """End the process as SIGTERM does: `stopping` is set, main returns, the callbacks run."""
        self.stopping.set()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Run this at the end, the last registered one first; an exception in it is logged and stops no other."""
        with self._callbacks_lock:
            self._callbacks.append(callback)

    def drain(self) -> None:
        """Run the callbacks once; `run` does it after main has returned."""
        self.stopping.set()
        while True:
            with self._callbacks_lock:
                if not self._callbacks:
                    return
                callback = self._callbacks.pop()
            with self.expect(f"the end of {callback!r}", DRAIN_SECONDS):
                try:
                    callback()
                except Exception:
                    log.exception("%r failed while stopping", callback)

    def _die(self) -> None:
        _flush()
        self._end(1)


def run(
    program: str,
    settings: Settings,
    main: Callable[[Process], None],
    *,
    watch: SelfWatch | None = None,
) -> NoReturn:
    """Be that program. Exits 0 after SIGTERM, SIGINT or main's return, 1 on an uncaught exception (main's or a
    thread's), 78 on a ConfigError. main blocks, usually in process.stopping.wait()."""
    configure_logging(program, settings.log_level)
    follow_parent()
    watch = watch or SelfWatch()
    process = Process(program, settings.instance, watch=watch)
    try:
        make_folders(settings.instance)
        _catch_signals(process)
        lock = _take_lock(process, settings.instance.locks_dir / f"{program}.lock")
        if lock is None:
            raise SystemExit(0)
        watch.start()
        log.info("started, pid %d, instance %s", os.getpid(), settings.instance.name)
        main(process)
        status = 0
    except ConfigError as error:
        _exit_config(program, error)
    except Exception:
        log.critical("the main thread died; the process ends", exc_info=True)
        status = 1
    if status == 0:
        process.drain()
        log.info("stopped")
    _flush()
    sys.exit(status)


@contextmanager
def held(lock: threading.Lock, progress: Callable[[], object]) -> Iterator[None]:
    """The lock, with progress() called each second until it is free: who has it meanwhile is watched as well."""
    while not lock.acquire(timeout=1.0):
        progress()
    try:
        yield
    finally:
        lock.release()


def program_main(
    program: str,
    kind: type[_S],
    main: Callable[[Process, _S], None],
    *,
    check: Callable[[_S], str | None] | None = None,
    cleanup: Callable[[_S], None] | None = None,
) -> Callable[[], None]:
    """A console script's entry. No argument: run. --check: load the settings, let `check` look further (it returns more
    to say, or raises ConfigError), print one line, exit 0 or 78. --cleanup: `cleanup` takes from the guest what the
    program left there; it is idempotent and needs no lock, since make stop calls it once the program is gone."""

    def entry() -> None:
        parser = argparse.ArgumentParser(prog=f"vkcri-{program}", description=main.__doc__)
        verbs = parser.add_mutually_exclusive_group()
        verbs.add_argument("--check", action="store_true", help="check the configuration, print one line")
        verbs.add_argument("--cleanup", action="store_true", help="remove what this program left on the guest")
        arguments = parser.parse_args()
        if arguments.check:
            _check(program, kind, check)
        elif arguments.cleanup:
            _cleanup(program, kind, cleanup)
        else:
            try:
                settings = load(kind)
            except ConfigError as error:
                follow_parent()
                _exit_config(program, error)
            run(program, settings, lambda process: main(process, settings))

    return entry


def configure_logging(program: str, level: str) -> None:
    """One line a record on stderr, which supervisord collects: time, level, program, thread, message."""
    line = f"%(asctime)s.%(msecs)03dZ %(levelname)s {program} %(threadName)s %(message)s"
    formatter = logging.Formatter(line, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[stream], force=True)
    logging.captureWarnings(True)


def follow_parent() -> None:
    """Ask for SIGTERM when the parent dies, and exit now if it already has."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    orphan = os.getppid() != parent or (parent == 1 and "SUPERVISOR_ENABLED" in os.environ and not _init_supervises())
    if orphan:
        log.warning("the parent process is gone; so is this one")
        _flush()
        os._exit(0)


def make_folders(instance: Instance) -> None:
    """Create the instance's folders. Raises ConfigError where they cannot be."""
    modes = {
        instance.run_dir: 0o755,
        instance.state_dir: 0o711,  # user namespaces walk through it; what is private in it is 0600
        instance.log_dir: 0o755,
        instance.pod_logs_dir: 0o755,
        instance.queues_dir: 0o700,
        instance.locks_dir: 0o700,
    }
    for folder, mode in modes.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.stat().st_mode & 0o777 != mode:
                folder.chmod(mode)
        except OSError as error:
            raise ConfigError(
                f"{folder}: {error.strerror}; vkcri runs as root on a writable {folder.parent}"
            ) from error


def _init_supervises() -> bool:
    """Whether process 1 is the supervisord that started us; else a parent of 1 means that ours is dead."""
    try:
        return b"supervisord" in Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return True


def _catch_signals(process: Process) -> None:
    """SIGTERM and SIGINT stop the process. The C handler writes to a pipe and a thread sets the event: a Python handler
    that did so would deadlock when it interrupts the main thread inside that event's own lock."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def read() -> None:
        while True:
            for number in os.read(reader, 16):
                if number in (signal.SIGTERM, signal.SIGINT) and not process.stopping.is_set():
                    log.info("%s: stopping", signal.Signals(number).name)
                    process.stop()

    process.start_thread("signals", read)


def _take_lock(process: Process, path: Path) -> int | None:
    """The exclusive lock's descriptor, never closed; waits while another copy holds it. None when told to stop."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    waiting = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not waiting:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                log.warning(
                    "another copy of %s runs (pid %s holds %s); waiting for its end", process.program, owner, path
                )
                waiting = True
            if process.wait(LOCK_POLL):
                return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _check(program: str, kind: type[_S], check: Callable[[_S], str | None] | None) -> None:
    try:
        settings = load(kind)
        more = check(settings) if check else None
    except ConfigError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    print(f"{program}: configuration of instance {settings.instance.name} is good" + (f"; {more}" if more else ""))


def _cleanup(program: str, kind: type[_S], cleanup: Callable[[_S], None] | None) -> None:
    if cleanup is None:
        print(f"{program}: leaves nothing to clean up")
        return
    try:
        settings = load(kind)
        configure_logging(program, settings.log_level)
        cleanup(settings)
    except ConfigError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except VkcriError as error:
        print(f"{program}: cleanup: {error}", file=sys.stderr)
        sys.exit(EXIT_STAYS if isinstance(error, Refused) else 1)


def _exit_config(program: str, error: ConfigError) -> NoReturn:
    """Say it in one line, outlive startsecs so that supervisord takes exit 78 for an expected end, and end. Signals
    end it at once."""
    print(f"{program}: {error}", file=sys.stderr, flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(OUTLIVE_STARTSECS)
    _flush()
    sys.exit(EXIT_CONFIG)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the collector of our output is gone; there is nobody left to tell
