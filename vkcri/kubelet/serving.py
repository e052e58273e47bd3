"""The serving certificate that the cluster signs: asked for, waited for, renewed, asked for anew when addresses change.

One thread, `serving-certificate`. The key never leaves this process' files; api-watcher carries the request to the API
server (request `certificate-signing`) and tells what became of it. Until it is issued tls.py serves the self-signed
pair, and while the next one is out the one that is there. What a person has to do about it is a notice. Source: the
kubelet's pkg/kubelet/certificate/kubelet.go, client-go's util/certificate.
"""

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from vkcri.backoff import Backoff
from vkcri.config import KubeletSettings
from vkcri.errors import Invalid, NotFound, Refused, Unavailable, VkcriError
from vkcri.lifecycle import Process
from vkcri.queue import Change, Subscription
from vkcri.queue.notices import Notices
from vkcri.signing import Certificate, Pair, Patience, Subject, approval

NOTICE = "serving-certificate"
ASK_SECONDS = 10.0
LOOK = Backoff(first=1.0, factor=1.5, most=10.0)  # between two looks at a request that is out
CHECK_SECONDS = 60.0  # between two looks at the clock and at what the certificate must say
AWAY_SECONDS = 2.0  # until api-watcher, or the API server behind it, is asked again
REFUSED_SECONDS = 600.0  # where asking again at once is of no use
LOG = logging.getLogger(__name__)
Ask = Callable[[str, dict[str, Any], float], Any]  # request name, body, timeout -> the watcher's answer


def pair_of(settings: KubeletSettings) -> Pair | None:
    """Where the issued certificate lies; None where none is asked for: a pair is configured, or the API server is the
    embedded one, which signs none."""
    if settings.cert_file or settings.embedded:
        return None
    return Pair(settings.instance.certificates_dir, "kubelet-server")


def seconds_left(pair: Pair, now: float) -> float:
    """Of the issued certificate, negative once it has ended; infinity without one. For
    kubelet_certificate_manager_server_ttl_seconds."""
    held = pair.issued()
    return math.inf if held is None else math.trunc(held.not_after - now)


def cluster_note(client_ca: str) -> str:
    """What an issued certificate remembers of its cluster: the client CA (PEM), which tells one from another."""
    return f"client CA {hashlib.sha256(client_ca.encode()).hexdigest()}"


class ServingCertificate:
    """Keeps `pair` at what the Node is called; `now`: Unix seconds. client_ca: PEM of the cluster's, None while it is
    not known: a certificate of another cluster is of no use here, and this is what tells one from the other."""

    def __init__(
        self,
        settings: KubeletSettings,
        pair: Pair,
        ask: Ask,
        notices: Notices,
        client_ca: Callable[[], str | None],
        *,
        now: Callable[[], float] = time.time,
        patience: Patience | None = None,
    ) -> None:
        self._node_name = settings.node_name
        self._pair = pair
        self._ask = ask
        self._notices = notices
        self._client_ca = client_ca
        self._now = now
        self._patience = patience or Patience()
        self._changed = threading.Event()
        self._looks = 0
        self._told = False
        self._node = Subscription(settings.instance.queue_socket("watcher"), "node", self._noted)

    def start(self, process: Process) -> None:
        def keep() -> None:
            while not process.stopping.is_set():
                self._changed.clear()
                with process.expect("a look at the serving certificate's request", 60):
                    delay = self.turn()
                self._changed.wait(delay)

        process.on_stop(self._changed.set)
        self._node.start(process)
        process.start_thread(NOTICE, keep)

    def turn(self) -> float:
        """One look at everything; the seconds until the next one."""
        wanted, client_ca = self._wanted(), self._client_ca()
        if not wanted.addresses or client_ca is None:
            return AWAY_SECONDS  # the Node is not registered yet, or nobody has said which cluster this is
        cluster = cluster_note(client_ca)
        held = self._pair.issued()
        if held is not None and self._good(held, wanted, cluster):
            self._looks = 0
            self._notices.clear(NOTICE)
            self._notices.known()
            return min(CHECK_SECONDS, max(1.0, held.renewal - self._now()))
        try:
            request = self._pair.request(wanted)
            return self._take(
                self._ask("certificate-signing", {"request": request.decode("ascii")}, ASK_SECONDS), cluster
            )
        except (VkcriError, OSError) as error:
            return self._failed(error)

    def _noted(self, _change: Change) -> None:
        self._changed.set()

    def _wanted(self) -> Subject:
        raw = self._node.get(self._node_name)
        status = (json.loads(raw).get("status") or {}) if raw is not None else {}
        return Subject.of_node(self._node_name, status.get("addresses") or ())

    def _good(self, held: Certificate, wanted: Subject, cluster: str) -> bool:
        """Whether it says what it must, for this cluster, and its time has not come."""
        return held.satisfies(wanted) and self._pair.note() == cluster and self._now() < held.renewal

    def _take(self, found: dict[str, Any], cluster: str) -> float:
        """Act on what became of the request; the seconds until the next look."""
        name, state, message = str(found["name"]), str(found["state"]), str(found.get("message") or "")
        if state == "issued":
            try:
                made = self._pair.accept(str(found["certificate"]).encode("ascii"), self._now(), cluster)
            except Invalid as error:
                state, message = "failed", str(error)
            else:
                LOG.info("%s is issued: a serving certificate until %s", name, time.ctime(made.not_after))
                self._patience.reset()
                return 0.0
        if state in ("denied", "failed"):
            self._refused(name, state, message)
        elif state == "approved":
            self._notices.put(NOTICE, f"{name} is approved; its signer has not signed it yet")
        else:
            text = "the kubelet API's serving certificate waits for an administrator's approval"
            self._notices.put(NOTICE, text, approval(name))
        self._looks += 1
        return LOOK.delay(self._looks - 1)

    def _refused(self, name: str, state: str, message: str) -> None:
        if self._patience.left(name, self._now()) <= 0:
            LOG.info("asking anew, with a new key, after %s was %s", name, state)
            self._pair.forget()
            return
        text = (
            f"the request for the kubelet API's serving certificate was {state} ({message}); asked anew with a new key "
            "after a while, or at once when it is gone"
        )
        self._notices.put(NOTICE, text, f"kubectl delete csr {name}")

    def _failed(self, error: VkcriError | OSError) -> float:
        if isinstance(error, Unavailable):
            LOG.debug("the serving certificate's request: %s", error)
            return AWAY_SECONDS
        if isinstance(error, NotFound):
            if not self._told:
                LOG.info("this API server signs no certificates, the kubelet API keeps the self-signed one: %s", error)
            self._told = True
            self._notices.known()
        elif isinstance(error, Refused):
            self._notices.put(NOTICE, f"no serving certificate is asked for, the self-signed one stays: {error}")
        else:
            self._notices.put(NOTICE, f"no serving certificate, the self-signed one stays: {error}")
        return REFUSED_SECONDS
