"""The launcher of our own containerd: supervisord's program `containerd`.

It decides once, in its main thread: another provider runs in the place of cri-bridge, or another containerd serves CRI
at the endpoint (say so, exit 0), something without CRI is there (exit 78), or ours is needed (write its configuration
and become it by exec). The exec keeps the pid and PR_SET_PDEATHSIG, and closes the program's lock, which shims would
otherwise hold after its end: from then on the lock is containerd's own database. A containerd that somebody else
started is used as it is.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from bridge.containerd_config import SEARCH_PATH, detect, render
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Invalid, NotFound, Refused, Unavailable
from vkcri.lifecycle import OUTLIVE_STARTSECS, Process, program_main

_CALL_SECONDS = 5.0
_ANSWER_SECONDS = 30.0  # how long something that listens may take to answer CRI, a containerd that starts included
_LOG_LEVELS = {"DEBUG": "debug", "INFO": "info", "WARNING": "warn", "ERROR": "error"}
log = logging.getLogger(__name__)


def launch(process: Process, settings: RuntimeSettings) -> None:
    """containerd, where none serves CRI at the endpoint."""
    if settings.provider:
        log.info("not needed: %s; a provider that wants one starts it itself", _other_provider(settings))
        process.wait(OUTLIVE_STARTSECS)
        return
    _wait_for_predecessor(process, settings)
    if process.stopping.is_set():
        return
    identity = _serving(process, settings)
    if identity is not None:
        log.info(
            "not needed: %s answers CRI at %s and is used as it is; should it go away, start it again (for example "
            "systemctl start containerd), or let vkcri run its own: supervisorctl start containerd",
            identity,
            settings.runtime_endpoint,
        )
        process.wait(OUTLIVE_STARTSECS)
        return
    if not process.stopping.is_set():
        become(settings)


def check(settings: RuntimeSettings) -> str:
    """What would be done here, for --check. Raises ConfigError with the cure."""
    if settings.provider:
        return f"not needed: {_other_provider(settings)}"
    if our_pid(settings) is not None:
        return "vkcri's own containerd runs"
    identity = answering(settings)
    if identity is not None:
        return f"{identity} serves CRI at {settings.runtime_endpoint}"
    conditions = detect(settings.instance)
    return f"would run {conditions.containerd} {conditions.version[0]}.{conditions.version[1]} as vkcri's own"


def config_path(settings: RuntimeSettings) -> Path:
    """Our containerd's configuration; its path on a command line is how our containerd is known."""
    return settings.instance.state_dir / "containerd.toml"


def write_config(settings: RuntimeSettings) -> tuple[str, Path]:
    """Detect the guest's conditions and write our configuration; gives containerd's path and the file's."""
    instance = settings.instance
    conditions = detect(instance)
    if not conditions.lowers_oom_score:
        log.info("this guest does not let root lower an oom_score_adj: pods run with containerd's own")
    if not conditions.overlay:
        log.warning("%s does not take overlayfs: the native snapshotter copies every layer", instance.containerd_root)
    path = config_path(settings)
    for folder in (instance.containerd_cni_dir, settings.runtime_socket.parent):
        folder.mkdir(parents=True, exist_ok=True)
    text = render(instance, settings.runtime_socket, conditions, settings.handlers())
    scratch = path.with_suffix(".new")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
    return conditions.containerd, path


def command(settings: RuntimeSettings, containerd: str, config: Path) -> list[str]:
    """Our containerd's command line; its configuration's path is what `our_pid` knows it by."""
    return [containerd, "--config", os.fspath(config), "--log-level", _LOG_LEVELS[settings.log_level]]


def environment() -> dict[str, str]:
    """containerd calls runc, shims and CNI plugins by name, and those call iptables."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SEARCH_PATH}".lstrip(":")}


def become(settings: RuntimeSettings) -> None:
    """Replace this process by containerd. Raises ConfigError where it cannot run here."""
    containerd, config = write_config(settings)
    log.info("nothing serves CRI at %s: starting vkcri's own containerd, %s", settings.runtime_endpoint, config)
    reset_signals()
    os.chdir("/")
    try:
        os.execve(containerd, command(settings, containerd, config), environment())
    except OSError as error:
        raise ConfigError(f"{containerd}: {error.strerror}") from error


def reset_signals() -> None:
    """Python ignores these two, and an ignored signal is inherited through exec, by containerd and all containers."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def answering(settings: RuntimeSettings) -> str | None:
    """Who serves CRI at the endpoint, None where nobody listens. Raises ConfigError where a listener does not speak
    CRI v1, Unavailable where it does not answer in time."""
    if not _listens(settings.runtime_socket):
        return None
    runtime = Runtime(settings.runtime_endpoint)
    try:
        version = runtime.version(cri.VersionRequest(version="v1"), seconds=_CALL_SECONDS)
        runtime.status(cri.StatusRequest(), seconds=_CALL_SECONDS)
    except (Refused, Invalid, NotFound) as error:
        raise ConfigError(
            f'{settings.runtime_endpoint} answers, but not CRI v1 ({error}): take "cri" out of disabled_plugins in its '
            "configuration (/etc/containerd/config.toml) and restart it, or name another socket with "
            "CONTAINER_RUNTIME_ENDPOINT"
        ) from error
    finally:
        runtime.close()
    return f"{version.runtime_name} {version.runtime_version}"


def our_pid(settings: RuntimeSettings) -> int | None:
    """The process id of our own containerd: the one that was started with our configuration file."""
    mark = os.fsencode(config_path(settings))
    for pid, words in processes():
        if mark in words and words[0].rpartition(b"/")[2] == b"containerd":
            return pid
    return None


def processes() -> Iterator[tuple[int, list[bytes]]]:
    """Every process with its command line's words; kernel threads and those that just ended have none."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it ended while we looked
            if text:
                yield int(folder.name), text.rstrip(b"\0").split(b"\0")


def _other_provider(settings: RuntimeSettings) -> str:
    return f"provider {settings.provider} runs the pods, not cri-bridge (VKCRI_PROVIDER)"


def _wait_for_predecessor(process: Process, settings: RuntimeSettings) -> None:
    """Our own containerd may still be ending after its supervisord was killed, or be another supervisord's. The first
    is hurried up, the second waited for."""
    told = 0
    while (pid := our_pid(settings)) is not None:
        orphan = _parent(pid) in (None, 1)
        if told != pid:
            log.warning("vkcri's own containerd runs already, pid %d; waiting for its end", pid)
            told = pid
            if orphan:
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue
        if process.wait(0.2):
            return


def _serving(process: Process, settings: RuntimeSettings) -> str | None:
    """`answering`, with patience for a containerd that is just starting. Raises Unavailable when that is used up."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        try:
            return answering(settings)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{settings.runtime_endpoint} is listened on but answers no CRI call: {error}"
                ) from error
            if process.wait(0.5):
                return None


def _listens(path: Path) -> bool:
    """Whether a process accepts connections there; a socket file without one is a leftover."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CALL_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; CONTAINER_RUNTIME_ENDPOINT names CRI's socket") from error
    return True


def _parent(pid: int) -> int | None:
    """The parent's process id; None where the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


main = program_main("containerd", RuntimeSettings, launch, check=check)
