"""What the API server keeps this node from, as notices: a right that is missing (403), each under a key of its own, and
credentials that it does not know (401), once for all who meet that.

Called on the reflectors' threads and the thread `identity`. A right has a cure that an administrator types; unknown
credentials have not, and a role bound to them would change nothing: so the two are never told as one.
"""

import logging
import threading

from vkcri.errors import Refused, VkcriError
from vkcri.kube.failures import Unauthenticated
from vkcri.queue.notices import Notices

NOTICE = "credentials"
log = logging.getLogger(__name__)


class Access:
    """kubeconfig: the file whose credentials these are."""

    def __init__(self, notices: Notices, kubeconfig: str) -> None:
        self._notices = notices
        self._kubeconfig = kubeconfig
        self._lock = threading.Lock()
        self._unknown: set[str] = set()

    def failed(self, key: str, error: VkcriError, message: str = "", command: str = "") -> None:
        """What `key` asked for was not given; `message` and `command`: the notice where a right is missing, none for
        what has no message."""
        if isinstance(error, Unauthenticated):
            with self._lock:
                self._unknown.add(key)
                self._notices.put(
                    NOTICE,
                    f"the API server does not know the credentials of {self._kubeconfig}: they have ended, were "
                    "revoked, or are another cluster's; the file is read again when it changes",
                )
        elif isinstance(error, Refused):
            log.debug("%s", error)
            if message:
                self._notices.put(key, message, command)

    def given(self, key: str) -> None:
        """It was given. Harmless where it was before."""
        self._notices.clear(key)
        with self._lock:
            self._unknown.discard(key)
            if not self._unknown:
                self._notices.clear(NOTICE)
