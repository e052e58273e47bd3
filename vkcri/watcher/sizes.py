"""What of a whole list the queue takes: one object that is too large must not keep all others from being published.

Called on the reflectors' threads. Pure but for the log.
"""

import logging
from collections.abc import Mapping

from vkcri.errors import Invalid
from vkcri.queue import Publisher

log = logging.getLogger(__name__)


def fitting(publisher: Publisher, topic: str, values: Mapping[str, bytes], *, source: str = "") -> dict[str, bytes]:
    """`values` without those that are too large, one error line each. What was published of such an object before
    stays: leaving it out would say that it is gone."""
    found: dict[str, bytes] = {}
    for key, value in values.items():
        try:
            publisher.check(topic, key, value, source=source)
        except Invalid as error:
            log.error("%s; the newest state of this object is left out", error)
            held = publisher.get(topic, key)
            if held is None:
                continue
            value = held
        found[key] = value
    return found
