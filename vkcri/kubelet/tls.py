"""The kubelet API's serving pair and client CA: made, found, and swapped live.

The pair is the configured one; else the one that the cluster has issued to this node (serving), as long as it lasts
and no other cluster is joined; else a self-signed one. One thread, `certificates`, looks at the files and asks
api-watcher for the client CA. A new pair or CA makes a new context, which the server uses for handshakes from then on;
what cannot be used is reported and the old one stays.
"""

import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from vkcri import certs
from vkcri.backoff import Backoff
from vkcri.config import KubeletSettings
from vkcri.errors import ConfigError, Invalid, VkcriError
from vkcri.httpd import tls_context
from vkcri.kubelet.serving import cluster_note
from vkcri.lifecycle import Process
from vkcri.signing import Certificate, Pair, Subject

LOOK_SECONDS = 2.0  # at the pair's files
FIRST = Backoff(first=0.2, factor=1.2, most=LOOK_SECONDS)  # until the watcher answers: no certificate lets in before
CA_SECONDS = 60.0  # between two questions once it has, whatever it said
TURN_SECONDS = 60.0
LOG = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int, int], ...]
_NO_STAMP: _Stamp = ((0, 0, 0),)


class ServingTls:
    """The context of the moment, and the thread that replaces it."""

    def __init__(
        self,
        settings: KubeletSettings,
        ask_client_ca: Callable[[], str],
        issued: Pair | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`issued`: where the cluster's certificate is, or will be. Raises ConfigError where the configured pair cannot
        be used."""
        self._ask_client_ca = ask_client_ca
        self._issued = issued
        self._now = now
        self._wanted = Subject.of_node(settings.node_name)
        self._held: tuple[_Stamp, Certificate | None, str] = (_NO_STAMP, None, "")
        self._proven = b""
        self._said = ""
        self.client_ca = ""
        self.client_ca_known = False
        self._own = _configured(settings) or _self_signed(settings)
        self._pair = self._best()
        self._stamp = _look(self._pair)
        try:
            self.context = self._load("")
        except OSError as error:
            raise ConfigError(f"{self._pair[0]}, {self._pair[1]}: {error}") from error

    def start(self, process: Process, use: Callable[[ssl.SSLContext], None]) -> None:
        """Keep it current; `use` is called with each new context."""

        def watch() -> None:
            unanswered, due = 0, 0.0
            while not process.stopping.is_set():
                with process.expect("a look at the serving certificate and the client CA", TURN_SECONDS):
                    if self.look() | (due <= 0 and self.ask()):
                        use(self.context)
                if self.client_ca_known:
                    due = due - LOOK_SECONDS if due > 0 else CA_SECONDS
                    process.wait(LOOK_SECONDS)
                else:
                    process.wait(FIRST.delay(unanswered))
                    unanswered += 1

        process.start_thread("certificates", watch)

    def look(self) -> bool:
        """Load the pair again where its files changed; whether the context is new."""
        pair = self._best()
        stamp = _look(pair)
        if stamp == self._stamp:
            return False
        why = f"{pair[0]} changed" if pair == self._pair else f"{pair[0]} in the place of {self._pair[0]}"
        self._pair, self._stamp = pair, stamp
        return self._replace(self.client_ca, why)

    def ask(self) -> bool:
        """Ask for the client CA; whether the context is new. Without a watcher the last known CA holds."""
        try:
            client_ca = self._ask_client_ca()
        except VkcriError as error:
            LOG.debug("no client CA from api-watcher: %s", error)
            return False
        self.client_ca_known = True
        if client_ca == self.client_ca:
            return False
        return self._replace(client_ca, "the client CA changed")

    def _replace(self, client_ca: str, why: str) -> bool:
        try:
            self.context = self._load(client_ca)
        except OSError as error:
            complaint = f"{why}, but cannot be used, the old one stays: {error}"
            if complaint != self._said:
                LOG.error("%s", complaint)
            self._said = complaint
            return False
        self.client_ca, self._said = client_ca, ""
        LOG.info("%s: in use for new connections", why)
        return True

    def _load(self, client_ca: str) -> ssl.SSLContext:
        context = tls_context(str(self._pair[0]), str(self._pair[1]), client_ca=client_ca)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a cluster's CA may be an intermediate one
        return context

    def _best(self) -> tuple[Path, Path]:
        """The issued pair while it lasts and is this node's and, once that is known, this cluster's; else our own. A
        cluster that changes its client CA meanwhile is the same one: what was its certificate stays so."""
        if self._issued is None:
            return self._own
        pair = (self._issued.current, self._issued.current)
        stamp = _look(pair)
        if stamp != self._held[0]:
            self._held = (stamp, self._issued.issued(), self._issued.note())
        _, held, note = self._held
        if held is None or self._now() >= held.not_after or not held.satisfies(self._wanted):
            return self._own
        if self.client_ca_known and note == cluster_note(self.client_ca):
            self._proven = held.fingerprint
        return pair if not self.client_ca_known or held.fingerprint == self._proven else self._own


def _look(pair: tuple[Path, Path]) -> _Stamp:
    """What changes when another pair is taken, or a file is replaced or written."""
    stats = [path.stat() for path in dict.fromkeys(pair) if path.exists()]
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def _configured(settings: KubeletSettings) -> tuple[Path, Path] | None:
    """APISERVER_CERT_LOCATION and APISERVER_KEY_LOCATION, where set."""
    if not settings.cert_file:
        return None
    pair = Path(settings.cert_file), Path(settings.key_file)
    try:
        if not certs.serves(pair[0].read_bytes()):
            LOG.warning("%s has no serverAuth usage: served all the same, and many clients will refuse it", pair[0])
    except (OSError, Invalid) as error:
        raise ConfigError(f"{pair[0]} (APISERVER_CERT_LOCATION): {error}") from error
    return pair


def _self_signed(settings: KubeletSettings) -> tuple[Path, Path]:
    """The kept self-signed pair, made anew where it names another node or address, or ends soon."""
    folder = settings.instance.certificates_dir
    pair = folder / "kubelet.crt", folder / "kubelet.key"
    names = list(dict.fromkeys((settings.node_name, socket.gethostname().lower(), "localhost")))
    addresses = ["127.0.0.1", "::1"]
    try:
        addresses.append(str(ipaddress.ip_address(settings.address)))
    except ConfigError as error:
        LOG.warning("the serving certificate names no address but loopback's: %s", error)
    try:
        if pair[1].is_file() and certs.covers(pair[0].read_bytes(), names, addresses, datetime.now(UTC)):
            return pair
    except (OSError, Invalid) as error:
        LOG.info("%s: %s: made anew", pair[0], error)
    certificate, key = certs.self_signed(settings.node_name, names, addresses)
    certs.write_private(pair[1], key)
    certs.write_private(pair[0], certificate)
    return pair
