"""The kernel's side of kube-proxy: nft, conntrack, modprobe and sysctls. The only module here that runs programs.

`Kernel` remembers which rules stand, so that a change costs a difference. It rebuilds the whole table at start, after
an error and hourly (with jitter), in one transaction each: a batch with one bad line leaves nothing behind. Used by one
thread. Nothing is removed at the end: rules outlive the program until `--cleanup`.
"""

import logging
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from vkcri.errors import Unavailable
from vkcri.proxy import rules
from vkcri.proxy.model import ServicePort
from vkcri.proxy.rules import Ruleset

NFT_SECONDS = 60.0
CONNTRACK_SECONDS = 10.0
REBUILD_SECONDS = 3600.0
_SYSCTL = Path("/proc/sys")
_BRIDGE_CALLS = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
log = logging.getLogger(__name__)


class Kernel:
    """What stands in the kernel for one table name, in both families."""

    def __init__(
        self,
        table: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.table = table
        self.applied = {"whole": 0, "difference": 0, "error": 0}
        self._clock = clock
        self._jitter = jitter
        self._standing: dict[str, Ruleset] = {}
        self._rebuild_at = 0.0
        self._ports: dict[str, ServicePort] = {}

    @property
    def seconds_to_rebuild(self) -> float:
        return max(0.0, self._rebuild_at - self._clock())

    def sync(self, ports: tuple[ServicePort, ...], subnets: tuple[str, ...], *, masquerade_all: bool) -> None:
        """Make the kernel hold exactly this. Raises Unavailable, and then starts over at the next call."""
        due = not self._standing or self.seconds_to_rebuild == 0
        wanted = {
            family: rules.ruleset(family, self.table, ports, subnets, masquerade_all=masquerade_all)
            for family in ("ip", "ip6")
        }
        if not wanted["ip6"].elements["cluster-ips"] and "ip6" not in self._standing:
            del wanted["ip6"]
        elif "ip6" not in self._standing:
            _switch_on("net/ipv6/conf/all/forwarding", needed=False)
        anew = {family for family, new in wanted.items() if due or self._has_other_base(new)}
        text = "".join(
            rules.whole(new, self._standing.get(family))
            if family in anew
            else rules.difference(self._standing[family], new)
            for family, new in wanted.items()
        )
        if text:
            self._load(text, "whole" if anew else "difference")
        self._standing = wanted
        if due:
            self._rebuild_at = self._clock() + REBUILD_SECONDS * (1 + 0.1 * self._jitter())
        self._forget_udp(ports)

    def _has_other_base(self, new: Ruleset) -> bool:
        """Whether what stands cannot become the new one by a difference."""
        old = self._standing.get(new.family)
        return old is None or old.base != new.base

    def _load(self, text: str, kind: str) -> None:
        try:
            load(text)
        except Unavailable:
            self._standing = {}
            self._rebuild_at = 0.0
            self.applied["error"] += 1
            raise
        self.applied[kind] += 1

    def _forget_udp(self, ports: tuple[ServicePort, ...]) -> None:
        """UDP has no end of a connection: a client that keeps its port would keep an endpoint that is gone, or a
        service's address that was not rewritten when it began."""
        new = {f"{port.identity} {port.cluster_ips}": port for port in ports if port.protocol == "udp"}
        for identity, old in self._ports.items():
            now = new.get(identity)
            kept = set(now.everywhere.endpoints) if now else set()
            for address, _ in sorted(set(old.everywhere.endpoints) - kept):
                for service in (*old.cluster_ips, *old.external_ips):
                    forget_connections("--orig-dst", service, "--orig-port-dst", str(old.port), "--dst-nat", address)
                if old.node_port:
                    forget_connections("--orig-port-dst", str(old.node_port), "--dst-nat", address)
        for identity, port in new.items():
            before = self._ports.get(identity)
            if port.internal.endpoints and not (before and before.internal.endpoints):
                for service in port.cluster_ips:
                    forget_connections("--orig-dst", service, "--orig-port-dst", str(port.port))
        self._ports = new


def load(text: str) -> None:
    """One nft transaction. Raises Unavailable with nft's own words."""
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=NFT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise Unavailable("nft is not installed: apt-get install nftables") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"nft: {error}") from error
    if done.returncode != 0:
        raise Unavailable(f"nft: {done.stderr.strip()[:2000] or f'exit status {done.returncode}'}")


def remove(table: str) -> None:
    """Both families' tables gone; no-op without them. Raises Unavailable."""
    load(rules.removal(table))


def forget_connections(*match: str) -> None:
    """Delete UDP conntrack entries. Best effort: without the program old clients keep their endpoint for 30-120 s."""
    if shutil.which("conntrack") is None:
        return
    try:
        done = subprocess.run(
            ["conntrack", "-D", "-p", "udp", *match],
            capture_output=True,
            text=True,
            timeout=CONNTRACK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("conntrack: %s", error)
        return
    if done.returncode != 0 and "0 flow entries" not in done.stderr:
        log.warning("conntrack: %s", done.stderr.strip()[:500])


def prepare() -> bool:
    """Make the guest forward, and its bridges show their frames to the rules. Returns whether they do: if not, all
    traffic to a ClusterIP has to be masqueraded. Says what it changed. Raises Unavailable where forwarding cannot be
    had. route_localnet is not needed: node ports are not served on loopback addresses."""
    _switch_on("net/ipv4/ip_forward", needed=True)
    if not (_SYSCTL / _BRIDGE_CALLS[0]).exists() and not _load_bridge_module():
        return False
    shown = [_switch_on(name, needed=False) for name in _BRIDGE_CALLS]
    return shown[0]


def _load_bridge_module() -> bool:
    """Returns whether it is loaded now."""
    try:
        done = subprocess.run(
            ["modprobe", "br_netfilter"], capture_output=True, text=True, timeout=CONNTRACK_SECONDS, check=False
        )
        problem = done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if (_SYSCTL / _BRIDGE_CALLS[0]).exists():
        log.info("loaded the kernel module br_netfilter, so that pods on one bridge reach each other by ClusterIP")
        return True
    log.warning("no br_netfilter (%s): behind a ClusterIP pods see the node's address, not the client's", problem[:300])
    return False


def _switch_on(name: str, *, needed: bool) -> bool:
    """Write 1 to the sysctl unless it stands there. Returns whether it does now."""
    path = _SYSCTL / name
    try:
        if path.read_text().strip() not in ("0", ""):
            return True
        path.write_text("1\n")
    except OSError as error:
        if needed:
            raise Unavailable(f"{name.replace('/', '.')}=1: {error.strerror}") from error
        log.warning("%s=1: %s", name.replace("/", "."), error.strerror)
        return False
    log.info("set %s=1", name.replace("/", "."))
    return True
