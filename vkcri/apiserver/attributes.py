"""What an authorizer is asked about: one request's verb and object. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attributes:
    """A resource (`resource` set) or a plain path.

    name: the one object that this is about, for a list or watch the one that its field selector names ("" for many).
    field_selector: required values by field, as fields.Requirements with "="."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    version: str = "v1"
    field_selector: Mapping[str, str] = field(default_factory=dict)
