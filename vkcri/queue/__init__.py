"""State between processes over Unix sockets: the contract that a provider speaks (ARCHITECTURE.md, "The queues").

framing    length and bytes, sans I/O            messages   protos/vkcri/queue.proto as frames, errors by name
topic      what owner and subscriber hold, pure  channel    a socket with a limit on every wait
publisher  the owner of a socket                 subscriber one topic, followed for ever
requests   one question, one answer              events     Kubernetes Events as a topic
notices    what a person should know         tail       a topic as JSON lines, for people
"""

from vkcri.queue.messages import Change
from vkcri.queue.publisher import Publisher
from vkcri.queue.requests import request, request_bytes
from vkcri.queue.subscriber import Subscription

__all__ = ["Change", "Publisher", "Subscription", "request", "request_bytes"]
