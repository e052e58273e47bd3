"""The default pod network: a CNI bridge, written only where the runtime has no CNI configuration at all.

The file's name sorts last, so any configuration that a user adds wins from then on. Addresses and the CNI folder come
from the instance and from the runtime's own Status. Runs in cri-bridge; the runtime notices the file by itself.
"""

import json
import logging
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from vkcri.config import Instance, RuntimeSettings
from vkcri.errors import Unavailable

log = logging.getLogger(__name__)

_SUFFIXES = (".conf", ".conflist", ".json")
_COMMAND_SECONDS = 10.0
_DEFAULT_CNI_DIR = Path("/etc/cni/net.d")


def ensure_network(runtime: Runtime, settings: RuntimeSettings, subnet: IPv4Network) -> Path | None:
    """Install the default network where the runtime has none; the file, or None where a user's configuration serves.
    Raises Unavailable where the folder cannot be written or the runtime is away."""
    folder = cni_dir(runtime)
    ours = file_in(folder, settings.instance)
    users = [path for path in _configurations(folder) if path != ours]
    if users:
        log.debug("the CNI configuration %s serves", users[0])
        return None
    text = json.dumps(conflist(settings.instance, subnet, firewall=_forward_drops()), indent=2) + "\n"
    try:
        if not ours.exists() or ours.read_text(encoding="utf-8") != text:
            folder.mkdir(parents=True, exist_ok=True)
            scratch = ours.with_suffix(".new")
            scratch.write_text(text, encoding="utf-8")
            scratch.replace(ours)
            log.info("no CNI configuration in %s: installed the default network %s in %s", folder, subnet, ours)
    except OSError as error:
        raise Unavailable(f"{ours}: {error.strerror}") from error
    return ours


def conflist(instance: Instance, subnet: IPv4Network, *, firewall: bool) -> dict[str, Any]:
    """The CNI configuration list: a bridge with masquerading, host-local addresses, host ports."""
    bridge = {
        "type": "bridge",
        "bridge": instance.bridge_name,
        "isDefaultGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(subnet)}]],
            # In /run, so that addresses of pods that a reboot ended are free again.
            "dataDir": str(instance.run_dir / "cni"),
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    if firewall:
        plugins.append({"type": "firewall"})
    return {"cniVersion": "0.4.0", "name": instance.cni_name, "plugins": plugins}


def cni_dir(runtime: Runtime) -> Path:
    """The folder that the runtime reads CNI configurations from, as its Status says."""
    info = runtime.status(cri.StatusRequest(verbose=True)).info
    config = json.loads(info.get("config") or "{}")
    found = (config.get("cni") or {}).get("confDir")
    if not found:
        found = json.loads(info.get("cniconfig") or "{}").get("PluginConfDir")
    return Path(found) if found else _DEFAULT_CNI_DIR


def file_in(folder: Path, instance: Instance) -> Path:
    """Where our configuration lies in a CNI folder."""
    return folder / f"{instance.cni_name}.conflist"


def remove_network(instance: Instance, folders: list[Path]) -> None:
    """Remove our file from these folders, our bridge and the addresses that it gave out. Idempotent."""
    for folder in folders:
        file_in(folder, instance).unlink(missing_ok=True)
    if Path(f"/sys/class/net/{instance.bridge_name}").exists():
        _command("ip", "link", "delete", instance.bridge_name)


def _configurations(folder: Path) -> list[Path]:
    """The CNI configurations there, as the runtime sorts them."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)


def _forward_drops() -> bool:
    """Whether forwarded packets are dropped by default (Docker does that): the firewall plugin lets pods' through."""
    try:
        return "-P FORWARD DROP" in _command("iptables", "-S", "FORWARD")
    except Unavailable as error:
        log.warning("%s: assuming that forwarded packets pass", error)
        return False


def _command(*command: str) -> str:
    """A network tool's output. Raises Unavailable with its words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
