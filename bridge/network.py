"""The default pod network: one CNI file, written only where the runtime has no network of the user's.

The file sorts last, so that any configuration that a user adds later wins without us. Called by the bridge's main
thread at its start, when the node's pod range changes and while the runtime reports no network; the clean-up removes
file and bridge. It must not touch any other file in that folder, which may be a user's.
"""

import fcntl
import json
import logging
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from bridge.containerd_config import SEARCH_PATH
from bridge.images_local import status_info
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, Unavailable
from vkcri.instance import Instance

_SUFFIXES = (".conf", ".conflist", ".json")  # what CNI reads
DEFAULT_CNI_DIR = "/etc/cni/net.d"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCBRDELBR, _IFF_UP = 0x8913, 0x8914, 0x89A1, 1
_PORTS_SECONDS = 3.0
_FORGET_SECONDS = 3.0
"""How long the runtime is given to notice that it has no network any more."""
log = logging.getLogger(__name__)


def ensure_network(
    runtime: Runtime,
    settings: RuntimeSettings,
    subnet: IPv4Network,
    *,
    making: Callable[[], bool] = lambda: False,
    hold: Callable[[], object] = lambda: None,
) -> bool:
    """Install the default network where the runtime has none. Whether pods get their addresses as they should: of this
    range, or by a user's configuration; False while pods still use another range, which is kept for them. making():
    whether a sandbox is being made, which may be one of these; hold(): no other is begun from then on. Raises Refused
    with the cure where this guest cannot have one, Unavailable where the folder cannot be written or the runtime is
    away."""
    folder = cni_dir(runtime)
    foreign = foreign_files(folder, settings.instance)
    if foreign:
        log.debug("the CNI configuration %s in %s serves", foreign[0], folder)
        return True
    try:
        path, text = file_in(folder, settings.instance), _text(settings.instance, subnet)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before == text:
            return True
        if before and not _let_go(runtime, path, settings.instance, making, hold):
            return False
        _install(path, settings.instance, text)
        log.info("no CNI configuration in %s: installed the default network %s as %s", folder, subnet, path.name)
        return True
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror or error}") from error


def wait_ready(runtime: Runtime, wait: Callable[[float], bool], seconds: float = 15.0) -> None:
    """Wait until the runtime has a network; `wait` is Process.wait. Raises Refused after `seconds`, with the runtime's
    own words and the files that it has to choose from."""
    deadline = time.monotonic() + seconds
    while (reason := not_ready(runtime)) is not None:
        if time.monotonic() > deadline:
            folder = cni_dir(runtime)
            raise Refused(f"no pod network: {reason} (files in {folder}: {', '.join(_names(folder)) or 'none'})")
        if wait(0.05):
            return


def not_ready(runtime: Runtime) -> str | None:
    """Why the runtime's condition NetworkReady is not true, in its words; None when it is true."""
    for condition in runtime.status(cri.StatusRequest(), seconds=10.0).status.conditions:
        if condition.type == "NetworkReady":
            return None if condition.status else condition.message or condition.reason or "NetworkReady is false"
    return "the runtime reports no condition NetworkReady"


def cni_dir(runtime: Runtime) -> Path:
    """Where this runtime reads CNI configurations, as its Status says."""
    info = status_info(runtime)
    configured = info.get("config", {}).get("cni") or {}
    return Path(info.get("cniconfig", {}).get("PluginConfDir") or configured.get("confDir") or DEFAULT_CNI_DIR)


def file_in(folder: Path, instance: Instance) -> Path:
    """Where our configuration lies in a CNI folder."""
    return folder / f"{instance.cni_name}.conflist"


def foreign_files(folder: Path, instance: Instance) -> list[str]:
    """The names of the configurations in the folder that are not this instance's."""
    return [name for name in _names(folder) if name != file_in(folder, instance).name]


def conflist(instance: Instance, subnet: IPv4Network, *, firewall: bool) -> dict[str, Any]:
    """The CNI configuration list: a bridge with masquerading, one address of `subnet` a pod, host ports."""
    bridge = {
        "type": "bridge",
        "bridge": instance.bridge_name,
        "isDefaultGateway": True,
        "ipMasq": True,
        "hairpinMode": True,  # a pod reaches itself through its own Service
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(subnet)}]],
            # In /run, so that addresses of pods that a reboot ended are free again.
            "dataDir": str(instance.run_dir / "cni"),
        },
    }
    plugins: list[dict[str, Any]] = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}]
    if firewall:
        plugins.append({"type": "firewall"})
    return {"cniVersion": "0.4.0", "name": instance.cni_name, "plugins": plugins}


def remove_network(instance: Instance, folders: Iterable[Path]) -> None:
    """Remove our file from these folders, what is left of our sandboxes' rules, the addresses that were given out and
    our bridge. Idempotent. Raises Unavailable where the kernel keeps rules or bridge, Refused (and then all of it
    stays) where sandboxes of others are on that bridge."""
    deadline = time.monotonic() + _PORTS_SECONDS
    while ports := _ports(instance.bridge_name):  # those of sandboxes that just ended go with their network namespace
        if time.monotonic() > deadline:
            raise Refused(f"others use the bridge {instance.bridge_name}: {', '.join(ports)}")
        time.sleep(0.05)
    for folder in folders:
        file_in(folder, instance).unlink(missing_ok=True)
    shutil.rmtree(instance.run_dir / "cni", ignore_errors=True)
    if delete_bridge(instance.bridge_name):
        _remove_rules(instance.cni_name)


def delete_bridge(name: str) -> bool:
    """Delete a Linux bridge; whether it existed. Raises Unavailable where the kernel refuses."""
    if not Path(f"/sys/class/net/{name}/bridge").is_dir():
        return False
    request = struct.pack("16sH14x", name.encode(), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            flags = struct.unpack_from("16sH", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags & ~_IFF_UP))
            fcntl.ioctl(control, _SIOCBRDELBR, name.encode().ljust(16, b"\0"))
        except OSError as error:
            raise Unavailable(f"the bridge {name} cannot be deleted: {error.strerror}") from error
    return True


def _text(instance: Instance, subnet: IPv4Network) -> str:
    return json.dumps(conflist(instance, subnet, firewall=_forward_drops()), indent=2) + "\n"


def _let_go(
    runtime: Runtime, path: Path, instance: Instance, making: Callable[[], bool], hold: Callable[[], object]
) -> bool:
    """Take the old network away, once the runtime uses it for nobody: a sandbox that it made by the old file would
    bring the old gateway back, beside which none of the new range starts. False where pods have it."""
    for step in (lambda: None, hold):
        step()
        if making() or _ports(instance.bridge_name):
            return False
    path.unlink()
    deadline = time.monotonic() + _FORGET_SECONDS
    while not_ready(runtime) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return True


def _install(path: Path, instance: Instance, text: str) -> None:
    delete_bridge(instance.bridge_name)  # it may carry another range's gateway address
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")  # a suffix that CNI does not read
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def _forward_drops() -> bool:
    """Whether this guest drops forwarded packets by default, as Docker makes it: the firewall plugin lets pods' pass.
    Raises Refused without iptables, with which the bridge plugin masquerades: no sandbox would start."""
    return "-P FORWARD DROP" in _run("iptables", "-S", "FORWARD")


def _remove_rules(network: str) -> None:
    """The masquerading and host-port rules of sandboxes that ended without their CNI plugins being asked."""
    mark = f'name: \\"{network}\\"'
    rules = [line for line in _run("iptables-save", "-t", "nat").splitlines() if mark in line and line[:3] == "-A "]
    if not rules:
        return
    # A chain of one sandbox is jumped to by one rule and named by hash; the CNI-HOSTPORT chains are shared by all.
    jumps = (line.rpartition(" -j ")[2].split()[0] for line in rules)
    chains = sorted({name for name in jumps if name.startswith("CNI-") and not name.startswith("CNI-HOSTPORT-")})
    text = ["*nat", *(f"-D {line[3:]}" for line in rules)]
    text += [f"{verb} {chain}" for verb in ("-F", "-X") for chain in chains]
    _run("iptables-restore", "--noflush", text="\n".join([*text, "COMMIT", ""]))


def _run(program: str, *arguments: str, text: str = "") -> str:
    """The output of one of iptables' programs. Raises Refused where it is missing, Unavailable where it fails."""
    found = shutil.which(program) or shutil.which(program, path=SEARCH_PATH)
    if found is None:
        raise Refused(f"{program} is not installed, which the pod network needs: apt-get install iptables")
    try:
        done = subprocess.run([found, *arguments], input=text, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program}: {error}") from error
    if done.returncode != 0:
        raise Unavailable(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _ports(bridge: str) -> list[str]:
    """The interfaces attached to a bridge."""
    try:
        return sorted(os.listdir(f"/sys/class/net/{bridge}/brif"))
    except FileNotFoundError:
        return []


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)
    except FileNotFoundError:
        return []
