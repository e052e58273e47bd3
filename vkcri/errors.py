"""The error tree, sorted by what the caller does about it.

Every module that talks to an outside system maps that system's failures to one of these six, `raise ... from exc`.
They travel over the queue by class name (vkcri.queue), so a requester sees the class that the owner raised.
"""


class VkcriError(Exception):
    """Base of all errors that vkcri raises on purpose; the message is written for a person."""


class NotFound(VkcriError):
    """What was asked for does not exist. The caller treats it as absent."""


class Invalid(VkcriError):
    """The input is wrong and will stay wrong. The caller reports it and does not retry."""


class Unavailable(VkcriError):
    """A peer is away, too slow or overloaded. The caller retries with back-off."""


class Conflict(VkcriError):
    """Somebody else changed it first, or it already exists. The caller reads again and decides anew."""


class Refused(VkcriError):
    """The peer understood and said no (forbidden, unauthenticated, unsupported). The caller reports it."""


class ConfigError(VkcriError):
    """The configuration is wrong. The program prints one line with the cure and exits 78 (EX_CONFIG)."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # a YAML parser's words have several lines
