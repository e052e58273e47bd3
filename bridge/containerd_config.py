"""The configuration of our own containerd, from what this guest can do: detected, not assumed. And the one thing
that is read from another's: its sandbox image.

`detect` looks at the guest (programs, capabilities, file system), `render` is pure and writes the TOML, in version 2
for containerd 1.x and version 3 for 2.x. Only the launcher and the clean-up use it. A containerd that somebody else
started is never configured here.
"""

import logging
import re
import shutil
import socket
import struct
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from bridge.volumes import mounting
from vkcri.errors import ConfigError, Unavailable
from vkcri.instance import Instance

PAUSE_IMAGE = "localhost/vkcri/pause:latest"  # the sandbox image of our own containerd
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CNI_FOLDERS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
REGISTRIES_DIR = "/etc/containerd/certs.d"  # containerd's own convention for mirrors and private CAs
log = logging.getLogger(__name__)
_LOWEST_OOM_SCORE = "-998"  # what CRI gives to a pause container; the kernel lets only CAP_SYS_RESOURCE lower it


@dataclass(frozen=True)
class Conditions:
    """What the guest has. `version`: containerd's major and minor; `lowers_oom_score`: root may protect a process from
    the OOM killer, which a guest without CAP_SYS_RESOURCE may not; `overlay`: the root's file system takes it."""

    containerd: str
    version: tuple[int, int]
    cni_bin_dir: str
    lowers_oom_score: bool
    overlay: bool


def find_program(name: str, package: str) -> str:
    """The program's path. Raises ConfigError with the cure where it is missing."""
    found = shutil.which(name) or shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise ConfigError(f"{name} is not installed: apt-get install {package}")
    return found


def configured_sandbox_image(path: Path) -> str:
    """The sandbox image in the configuration of the containerd that listens there, defaults included: containerd 2 does
    not tell it in CRI's Status. "" where it is no containerd or does not say."""
    try:
        program, config = _listener(path)
        done = subprocess.run([program, *config, "config", "dump"], capture_output=True, timeout=30, check=True)
        plugins = tomllib.loads(done.stdout.decode()).get("plugins", {})
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info("the configuration of the runtime at %s cannot be read: %s", path, error)
        return ""
    images = plugins.get("io.containerd.cri.v1.images", {}).get("pinned_images", {})
    return str(images.get("sandbox") or plugins.get("io.containerd.grpc.v1.cri", {}).get("sandbox_image") or "")


def _listener(path: Path) -> tuple[str, list[str]]:
    """The program of the process that listens on a Unix socket, and its --config as arguments. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5.0)
        probe.connect(str(path))
        pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").rstrip("\0").split("\0")
    if Path(words[0]).name != "containerd":
        raise OSError(f"process {pid} is {words[0]}, not containerd")
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name in ("--config", "-c"):
            return f"/proc/{pid}/exe", ["--config", value if equals else following]
    return f"/proc/{pid}/exe", []


def detect(instance: Instance) -> Conditions:
    """Look at the guest. Raises ConfigError with the cure where something is missing that no pod can do without."""
    containerd = find_program("containerd", "containerd")
    find_program("runc", "runc")
    instance.containerd_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    return Conditions(
        containerd=containerd,
        version=_version(containerd),
        cni_bin_dir=_cni_bin_dir(),
        lowers_oom_score=_lowers_oom_score(Path("/proc/self/oom_score_adj")),
        overlay=_takes_overlay(instance.containerd_root),
    )


def render(
    instance: Instance, socket: Path, conditions: Conditions, handlers: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The configuration file's text. handlers: names beside runc -> the OCI runtime's path, "" for runc's own."""
    new = conditions.version >= (2, 0)
    text = (_version_3 if new else _version_2)(instance, socket, conditions)
    runtimes = f'plugins."io.containerd.{"cri.v1.runtime" if new else "grpc.v1.cri"}".containerd.runtimes'
    for name, program in {"runc": "", **handlers}.items():
        text += _handler(f"{runtimes}.{name}", instance, program)
    return text


def _version_2(instance: Instance, socket: Path, conditions: Conditions) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""# Written by vkcri for its own containerd; changes are lost at its next start.
version = 2
{_common(instance, socket)}
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {_toml(not conditions.lowers_oom_score)}
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[{cri}.cni]
  bin_dir = "{conditions.cni_bin_dir}"
  conf_dir = "{instance.containerd_cni_dir}"
[{cri}.registry]
  config_path = "{REGISTRIES_DIR}"
[{cri}.containerd]
  snapshotter = "{_snapshotter(conditions)}"
"""


def _version_3(instance: Instance, socket: Path, conditions: Conditions) -> str:
    """containerd 2 has NRI on, and takes its socket away from any other containerd that has the same."""
    runtime, images = 'plugins."io.containerd.cri.v1.runtime"', 'plugins."io.containerd.cri.v1.images"'
    bins = "bin_dirs" if conditions.version >= (2, 1) else "bin_dir"
    folder = f'"{conditions.cni_bin_dir}"'
    return f"""# Written by vkcri for its own containerd; changes are lost at its next start.
version = 3
{_common(instance, socket)}
[{images}]
  snapshotter = "{_snapshotter(conditions)}"
[{images}.pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[{images}.registry]
  config_path = "{REGISTRIES_DIR}"
[{runtime}]
  restrict_oom_score_adj = {_toml(not conditions.lowers_oom_score)}
  netns_mounts_under_state_dir = true
[{runtime}.cni]
  {bins} = {f"[{folder}]" if bins == "bin_dirs" else folder}
  conf_dir = "{instance.containerd_cni_dir}"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.nri.v1.nri"]
  socket_path = "{instance.containerd_state}/nri.sock"
"""


def _common(instance: Instance, socket: Path) -> str:
    """What both versions say alike. The ttrpc address follows the socket's. `opt` is where `ctr install` puts programs,
    and containerd makes that folder at its start."""
    return f"""root = "{instance.containerd_root}"
state = "{instance.containerd_state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{instance.containerd_root}/opt"
"""


def _handler(table: str, instance: Instance, program: str) -> str:
    """An OCI runtime (runc, or the program) with cgroupfs paths (the bridge makes the cgroups itself) and a root of our
    own, so that nothing of ours lies in a folder that another containerd uses."""
    binary = f'  BinaryName = "{program}"\n' if program else ""
    return f"""[{table}]
  runtime_type = "io.containerd.runc.v2"
[{table}.options]
  SystemdCgroup = false
  Root = "{instance.containerd_state}/runc"
{binary}"""


def _toml(value: bool) -> str:
    return "true" if value else "false"


def _snapshotter(conditions: Conditions) -> str:
    return "overlayfs" if conditions.overlay else "native"


def _version(containerd: str) -> tuple[int, int]:
    """From `containerd --version`: `containerd <package> <version> <revision>`, the version with or without a v."""
    try:
        done = subprocess.run([containerd, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{containerd} --version: {error}") from error
    found = re.search(r"\sv?(\d+)\.(\d+)", done.stdout)
    if found is None:
        raise ConfigError(f"{containerd} --version says {done.stdout.strip()!r}: vkcri knows containerd 1.6 and later")
    version = int(found[1]), int(found[2])
    if version < (1, 6):
        raise ConfigError(
            f"{containerd} is {version[0]}.{version[1]}: CRI v1 comes with 1.6; apt-get install containerd"
        )
    return version


def _cni_bin_dir() -> str:
    """The first folder that holds every plugin that the default network needs."""
    for folder in CNI_FOLDERS:
        if all((Path(folder) / plugin).exists() for plugin in CNI_PLUGINS):
            return folder
    raise ConfigError(
        f"no CNI plugins ({', '.join(CNI_PLUGINS)}) in {', '.join(CNI_FOLDERS)}: "
        "apt-get install containernetworking-plugins"
    )


def _lowers_oom_score(path: Path) -> bool:
    """Try it on this process and put it back: a capability may be held and still be refused, as in some containers."""
    before = path.read_text(encoding="ascii")
    try:
        path.write_text(_LOWEST_OOM_SCORE, encoding="ascii")
    except PermissionError:
        return False
    path.write_text(before, encoding="ascii")
    return True


def _takes_overlay(root: Path) -> bool:
    """Mount an overlay in the root: some file systems (overlayfs itself, NFS) do not take one as its upper layer."""
    with TemporaryDirectory(prefix="overlay-", dir=root) as scratch:
        folder = Path(scratch)
        for name in ("lower", "upper", "work", "merged"):
            (folder / name).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        try:
            mounting.mount("overlay", folder / "merged", "overlay", options=options)
        except Unavailable:
            return False
        try:
            (folder / "merged" / "file").write_bytes(b"")
        except OSError:
            return False
        finally:
            mounting.unmount(folder / "merged")
        return True
