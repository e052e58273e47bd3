"""What one request brings along: who asks, of which store, when, how strictly. Made by rest.py, read by strategy.

No thread of its own; one instance a request, so `warnings` needs no lock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from vkcri.apiserver.authn import User
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings


@dataclass(frozen=True)
class RequestContext:
    """`now()` is the time as RFC 3339 in seconds; `field_validation` Strict, Warn or Ignore; `warnings` collects the
    texts of Warning headers."""

    store: Store
    user: User
    now: Callable[[], str]
    settings: ApiServerSettings
    dry_run: bool = False
    field_validation: str = "Strict"
    warnings: list[str] = field(default_factory=list)

    @property
    def node(self) -> str | None:
        """The node's name where a node asks."""
        return self.user.node
