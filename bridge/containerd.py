"""The launcher of our own containerd: it becomes containerd, or says why that is not needed and exits 0.

Needed unless CRI answers at the configured endpoint. Someone else's containerd is used as it is and never reconfigured.
Ours has its own root, state and CNI folder and a configuration written here from what the guest can do. It is exec'ed
without our lock (close-on-exec), which its shims would inherit; PR_SET_PDEATHSIG stays across exec, so that it never
outlives its supervisord, while shims and containers do. Its bolt database in our root is its lock.
"""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from bridge.images_local import PAUSE_IMAGE
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Refused, Unavailable, VkcriError
from vkcri.lifecycle import OUTLIVE_STARTSECS, Process, program_main

log = logging.getLogger(__name__)

CNI_FOLDERS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
_CAP_SYS_RESOURCE = 24
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.2
_CONFIG = """\
# Written by vkcri at each start; a change here is lost.
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{socket}"

[ttrpc]
  address = "{socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = {restrict_oom_score_adj}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def launch(process: Process, settings: RuntimeSettings) -> None:
    """Run our own containerd where no CRI runtime answers at the endpoint."""
    while pid := our_pid(settings):
        log.warning("our containerd of before still runs (pid %d); waiting for its end", pid)
        if process.wait(_POLL_SECONDS * 5):
            return
    version = answering(settings)
    if version is not None:
        log.info(
            "%s answers at %s and is used as it is: our own is not needed. Should it go away for good: "
            "supervisorctl start containerd",
            version,
            settings.runtime_endpoint,
        )
        process.wait(OUTLIVE_STARTSECS)
        return
    config = write_config(settings)
    settings.runtime_socket.parent.mkdir(parents=True, exist_ok=True)
    program = require("containerd")
    log.info("no CRI runtime answers at %s: starting our own with %s", settings.runtime_endpoint, config)
    os.execv(program, [program, "--config", str(config), "--log-level", "warn"])


def answering(settings: RuntimeSettings) -> str | None:
    """Name and version of the CRI runtime at the endpoint; None where nothing listens. Raises ConfigError where
    something listens that does not speak CRI v1, Unavailable where it does not answer in time."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_ANSWER_SECONDS)
            probe.connect(str(settings.runtime_socket))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise Unavailable(f"{settings.runtime_socket}: {error.strerror or error}") from error
    runtime = Runtime(settings.runtime_endpoint)
    try:
        version = runtime.version(cri.VersionRequest(), seconds=_ANSWER_SECONDS)
        runtime.status(cri.StatusRequest(), seconds=_ANSWER_SECONDS)
    except Refused as error:
        raise ConfigError(
            f"what listens at {settings.runtime_endpoint} does not speak CRI v1 ({error}): remove 'cri' from "
            "disabled_plugins in its config.toml, or set CONTAINER_RUNTIME_ENDPOINT to another socket"
        ) from error
    finally:
        runtime.close()
    return f"{version.runtime_name} {version.runtime_version}"


def config_path(settings: RuntimeSettings) -> Path:
    """Our containerd's configuration; its path on a command line is how our containerd is known."""
    return settings.instance.containerd_root / "config.toml"


def our_pid(settings: RuntimeSettings) -> int | None:
    """The pid of the containerd that this instance started, found by its --config; None where it does not run."""
    wanted = str(config_path(settings)).encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        if wanted in words and words[0].endswith(b"containerd"):
            return int(folder.name)
    return None


def write_config(settings: RuntimeSettings) -> Path:
    """Write the configuration from what the guest can do. Raises ConfigError with the cure."""
    instance = settings.instance
    require("runc")
    path = config_path(settings)
    for folder in (path.parent, instance.containerd_state, instance.containerd_cni_dir):
        folder.mkdir(parents=True, exist_ok=True)
    text = _CONFIG.format(
        root=instance.containerd_root,
        state=instance.containerd_state,
        socket=settings.runtime_socket,
        pause=PAUSE_IMAGE,
        restrict_oom_score_adj=str(not may_lower_oom_score()).lower(),
        cni_bin=cni_folder(),
        cni_conf=instance.containerd_cni_dir,
        snapshotter="overlayfs" if overlay_works(instance.containerd_root) else "native",
    )
    path.write_text(text, encoding="utf-8")
    return path


def require(program: str) -> str:
    """The program's path. Raises ConfigError with the package that has it."""
    found = shutil.which(program)
    if found is None:
        raise ConfigError(
            f"{program} is not installed: apt-get install {program}, or set CONTAINER_RUNTIME_ENDPOINT to a runtime"
        )
    return found


def cni_folder() -> Path:
    """The folder that has every CNI plugin of the default network. Raises ConfigError where none has."""
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    raise ConfigError(
        f"no folder of {', '.join(map(str, CNI_FOLDERS))} has the CNI plugins {', '.join(CNI_PLUGINS)}: "
        "apt-get install containernetworking-plugins"
    )


def may_lower_oom_score() -> bool:
    """Whether oom_score_adj may go below its present value: without CAP_SYS_RESOURCE runc fails when it tries."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def overlay_works(folder: Path) -> bool:
    """Whether overlayfs can be mounted with its upper folder on this file system, tried in a namespace of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (Path(scratch) / name).mkdir()
        options = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work"
        command = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, f"{scratch}/merged"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("overlayfs could not be tried (%s): using the native snapshotter", error)
            return False
        return done.returncode == 0


def check(settings: RuntimeSettings) -> str:
    """For `vkcri doctor`: what is there or what is missing. Raises ConfigError."""
    try:
        version = answering(settings)
    except ConfigError:
        raise
    except VkcriError as error:
        raise ConfigError(f"{settings.runtime_endpoint}: {error}") from error
    if version is not None:
        return f"{version} answers at {settings.runtime_endpoint}"
    return f"{require('containerd')}, {require('runc')} and CNI plugins in {cni_folder()} are there for our own"


main = program_main("containerd", RuntimeSettings, launch, check=check)
