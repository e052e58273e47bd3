"""What must be there before the first request: the server's files and its first objects.

Runs once at start, before any thread; idempotent, so that a crash anywhere in it is mended by the next start. What may
have changed since (addresses, the port, the CA) is brought up to date.
"""

from vkcri.apiserver import internal, pki
from vkcri.apiserver.admission.namespaces import SYSTEM_NAMESPACES
from vkcri.apiserver.controllers import kubernetes, rootca, serviceaccounts
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings


def ensure(settings: ApiServerSettings, store: Store) -> None:
    """Make or keep files and objects. Raises ConfigError for a file that cannot be read or written."""
    authority = pki.ensure(settings)
    ctx = internal.context(store, settings)
    for name in SYSTEM_NAMESPACES:
        internal.ensure(ctx, "/namespaces", {"metadata": {"name": name}})
        if serviceaccounts.live_namespace(ctx, name):
            serviceaccounts.ensure_default(ctx, name)
            rootca.ensure_root_ca(ctx, name, authority)
    kubernetes.ensure_service(ctx)
    kubernetes.ensure_endpoints(ctx)
