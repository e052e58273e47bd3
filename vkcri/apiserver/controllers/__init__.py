"""What the server does without being asked: namespaces emptied, pods bound, endpoints kept, what is over removed.

One thread, `controllers`, runs all of it, a key at a time, from one queue of dirty keys (loop.py); one feed thread a
watched kind marks keys. Reconciling is a few SQLite reads and writes, so that one thread is plenty for one guest.
Crash-only: each start looks at everything once; nothing is remembered that the store does not know.
"""

from vkcri.apiserver import internal, pki
from vkcri.apiserver.controllers.endpoints import EndpointsController
from vkcri.apiserver.controllers.events import EventExpiry
from vkcri.apiserver.controllers.evictions import TaintEviction
from vkcri.apiserver.controllers.kubernetes import KubernetesController
from vkcri.apiserver.controllers.loop import Controller, Loop
from vkcri.apiserver.controllers.namespaces import NamespaceController
from vkcri.apiserver.controllers.nodes import NodeController
from vkcri.apiserver.controllers.podgc import PodCollector
from vkcri.apiserver.controllers.rootca import RootCaController
from vkcri.apiserver.controllers.scheduler import Scheduler
from vkcri.apiserver.controllers.serviceaccounts import ServiceAccountController
from vkcri.apiserver.controllers.tokensecrets import TokenSecretController
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings
from vkcri.lifecycle import Process


def start_all(process: Process, store: Store, settings: ApiServerSettings) -> None:
    """Start every controller; bootstrap has run. Returns at once."""
    ctx = internal.context(store, settings)
    authority = pki.certificate(settings, pki.CA).read_text(encoding="ascii")
    controllers: list[Controller] = [
        NamespaceController(ctx),
        ServiceAccountController(ctx),
        RootCaController(ctx, authority),
        TokenSecretController(ctx, authority),
        KubernetesController(ctx),
        NodeController(ctx),
        Scheduler(ctx),
        TaintEviction(ctx),
        EndpointsController(ctx),
        PodCollector(ctx),
        EventExpiry(ctx),
    ]
    Loop(store, controllers).start(process)
