"""The node's own client certificate: got by TLS bootstrap, renewed in its time, got anew where it has ended.

    none, ended, another name's, another cluster's ── bootstrap kubeconfig ──▶ request ── approved ──▶ issued
    issued, 70 to 90 % of its life over ── the certificate itself ──▶ request ── approved ──▶ issued

The main thread brings the first one about (`establish`); the thread `client-certificate` keeps it so. Files, all 0600:
kubelet-client-current.pem and, while a request is out, kubelet-client-pending.pem in the instance's certificates_dir,
and the kubeconfig that names the first. Client reads them again by itself when they change. What is in the way is a
notice, and is tried again. A kubeconfig that was given to us is never written. Sources: the kubelet's
pkg/kubelet/certificate/bootstrap, client-go's util/certificate.
"""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from vkcri import certs
from vkcri.backoff import Backoff
from vkcri.config import WatcherSettings
from vkcri.errors import ConfigError, Conflict, Invalid, NotFound, Refused, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.failures import Unauthenticated
from vkcri.kube.kubeconfig import Kubeconfig, Session, text
from vkcri.lifecycle import Process
from vkcri.queue.notices import Notices
from vkcri.signing import Certificate, Pair, Patience, Run, Subject, approval, here
from vkcri.watcher import certificates
from vkcri.watcher.certificates import CLIENT, Progress

NOTICE = "client-certificate"
PATIENT_LOOKS = 2  # a request that its approver takes at once is no news
LOOK = Backoff(first=0.5, factor=1.5, most=5.0)  # between two looks at a request that is out
RETRY = Backoff(first=1.0, factor=2.0, most=30.0, jitter=0.1)
CHECK_SECONDS = 600.0  # between two looks at the clock and the file
BOOTSTRAPPERS = (
    "kubectl create clusterrolebinding vkcri-bootstrap --clusterrole=system:node-bootstrapper "
    "--group=system:bootstrappers"
)
log = logging.getLogger(__name__)


class Credentials:
    """For an instance that `settings.bootstraps`. `now`: Unix seconds; `run`: where `cryptography` is used."""

    def __init__(
        self,
        process: Process,
        settings: WatcherSettings,
        notices: Notices,
        agent: str,
        *,
        now: Callable[[], float] = time.time,
        patience: Patience | None = None,
        run: Run = here,
    ) -> None:
        instance = settings.instance
        self._process = process
        self._settings = settings
        self._notices = notices
        self._now = now
        self._subject = Subject.of_node(settings.node_name)
        self._pair = Pair(instance.certificates_dir, "kubelet-client", run)
        self._own = Kubeconfig(instance.kubelet_kubeconfig, agent)
        self._bootstrap = Kubeconfig(settings.bootstrap_kubeconfig, agent, variable="BOOTSTRAP_KUBECONFIG")
        self._patience = patience or Patience()
        self._bootstrapper: Client | None = None

    @property
    def not_after(self) -> float:
        """When the certificate that is there ends, in Unix seconds; 0 for none."""
        held = self._pair.issued()
        return held.not_after if held is not None else 0.0

    @property
    def seconds_left(self) -> float:
        """Of that certificate, negative once it has ended; infinity without one."""
        return math.trunc(self.not_after - self._now()) if self.not_after else math.inf

    def establish(self) -> bool:
        """Return once our kubeconfig can be used; False when the process stops. Raises ConfigError where neither it nor
        the bootstrap kubeconfig can be."""
        if self._usable():
            log.info("this node has a certificate of %s until %s", self._subject.common_name, _moment(self.not_after))
            return True
        if not self._settings.bootstrap_kubeconfig:
            raise ConfigError(f"{self._own.path} can no longer be used: BOOTSTRAP_KUBECONFIG=FILE makes a new one")
        self._bootstrap.load()  # a mistyped path waits for a person
        self._settings.instance.kubelet_kubeconfig.unlink(missing_ok=True)  # another cluster's, perhaps
        self._pair.current.unlink(missing_ok=True)  # and so is this: the next kubeconfig must not find it
        return self._obtain(None)

    def start(self, client: Client) -> None:
        """Renew from now on, by this client, which has our kubeconfig."""

        def keep() -> None:
            while not self._process.stopping.is_set():
                held = self._pair.issued()
                due = held.renewal if held is not None and self._is_ours(held) else 0.0
                if self._now() >= due:
                    self._obtain(client)
                self._process.wait(min(max(due - self._now(), 1.0), CHECK_SECONDS))

        self._process.start_thread("client-certificate", keep)

    def _usable(self) -> bool:
        """Whether our kubeconfig is there, with a certificate of this node that lasts, for the cluster to be joined."""
        try:
            own = self._own.load()
        except VkcriError as error:
            if self._own.exists():
                log.warning("%s; TLS bootstrap anew", error)
            return False
        held = self._pair.issued()
        if held is None or not self._is_ours(held) or held.not_after <= self._now():
            log.info("%s: its certificate has ended or is not this node's; TLS bootstrap anew", self._own.path)
            return False
        return self._is_of_the_same_cluster(own)

    def _is_ours(self, held: Certificate) -> bool:
        return held.satisfies(self._subject)

    def _is_of_the_same_cluster(self, own: Session) -> bool:
        """Whether the bootstrap kubeconfig, where it is still there, names the same server and CA."""
        try:
            named = self._bootstrap.load()
        except VkcriError:
            return True  # nobody needs it now
        if (named.server, named.ca) == (own.server, own.ca):
            return True
        log.info("%s names another cluster than %s: TLS bootstrap anew", self._bootstrap.path, self._own.path)
        return False

    def _obtain(self, client: Client | None) -> bool:
        """Return once a certificate is issued and in its place; False when the process stops. `client`: of the one that
        is there, which asks for the next as long as it lasts."""
        looks = failures = 0
        while not self._process.stopping.is_set():
            try:
                with self._process.expect("a look at the request for the client certificate", 60):
                    found = self._look(client)
                    if self._take(found, looks):
                        return True
                delay = LOOK.delay(looks)
                looks, failures = looks + 1, 0
            except (VkcriError, OSError) as error:
                self._bootstrapper = None  # its kubeconfig is read again
                self._notices.put(NOTICE, *self._cure(error, client))
                delay = RETRY.delay(failures)
                failures += 1
            self._process.wait(delay)
        return False

    def _look(self, client: Client | None) -> Progress:
        held = self._pair.issued()
        lasts = held is not None and self._is_ours(held) and self._now() < held.not_after
        request = self._pair.request(self._subject)
        return certificates.look(client if client is not None and lasts else self._by_token(), CLIENT, request)

    def _by_token(self) -> Client:
        if self._bootstrapper is None:
            self._bootstrapper = Client(self._bootstrap, wait=self._process.wait)
            log.info(
                "TLS bootstrap: asking %s for a certificate of %s (%s)",
                self._bootstrapper.server,
                self._subject.common_name,
                self._settings.joined_by,
            )
        return self._bootstrapper

    def _take(self, found: Progress, looks: int) -> bool:
        """Act on what became of the request; whether the certificate is in its place. The kubeconfig is written first:
        where that fails the request is still out, and the next look finds it as it is."""
        if found.state == "issued":
            self._write_kubeconfig()
            try:
                made = self._pair.accept(found.certificate.encode("ascii"), self._now())
            except Invalid as error:
                found = Progress(found.name, "failed", message=str(error))
            else:
                self._patience.reset()
                self._notices.clear(NOTICE)
                log.info("a certificate of %s until %s is in use", self._subject.common_name, _moment(made.not_after))
                return True
        if found.state in ("denied", "failed"):
            self._refused(found)
        elif looks >= PATIENT_LOOKS:
            self._waiting(found)
        return False

    def _refused(self, found: Progress) -> None:
        left = self._patience.left(found.name, self._now())
        if left <= 0:
            log.info("asking anew, with a new key, after %s was %s", found.name, found.state)
            self._pair.forget()
            return
        message = (
            f"the request for this node's client certificate was {found.state} ({found.message}); asked anew with a "
            "new key after a while, or at once when it is gone"
        )
        self._notices.put(NOTICE, message, f"kubectl delete csr {found.name}", level=logging.ERROR)

    def _waiting(self, found: Progress) -> None:
        if found.state == "approved":
            self._notices.put(NOTICE, f"{found.name} is approved; its signer has not signed it yet")
        else:
            message = "this node's client certificate waits for an administrator's approval"
            self._notices.put(NOTICE, message, approval(found.name))

    def _write_kubeconfig(self) -> None:
        """For the bootstrap kubeconfig's cluster; the one that is there stays, since it names the same files."""
        if not self._own.exists():
            cluster = self._bootstrap.load().cluster
            certs.write_private(self._settings.instance.kubelet_kubeconfig, text(cluster, self._pair.current))

    def _cure(self, error: VkcriError | OSError, client: Client | None) -> tuple[str, str]:
        """What is in the way, in words for a person, and what to type where that is one line."""
        path = self._settings.bootstrap_kubeconfig
        held = self._pair.issued()
        if client is not None and held is not None and self._now() < held.not_after:
            return f"the client certificate was not renewed, it ends {_moment(held.not_after)}: {error}", ""
        if isinstance(error, Unauthenticated):
            return (
                f"the API server does not know the token of {path}: it has expired or was deleted (a bootstrap token "
                f"lasts a day by default); put a new one into that file, which is read again ({error})"
            ), ""
        if isinstance(error, Refused):
            return f"{path} may not ask for a node's certificate ({error}); what lets bootstrap tokens", BOOTSTRAPPERS
        if isinstance(error, NotFound):
            return f"the API server of {path} has no certificate signing requests: {error}", ""
        if isinstance(error, ConfigError | Conflict) and not path:
            return "this node's certificate has ended: BOOTSTRAP_KUBECONFIG=FILE makes a new one", ""
        return f"no client certificate yet: {error}", ""


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
