"""Each kind's columns and cells, as `kubectl get` shows them for a real API server.

Pure; `now` (epoch seconds) is passed in. Columns, their order and the words in the cells are those of Kubernetes'
pkg/printers/internalversion, since people and scripts read them. Pods, which have most, are in printers_pod.py.
"""

from typing import Any, Final

from vkcri.api import selectors
from vkcri.apiserver import printers_pod
from vkcri.apiserver.cells import AGE, NAME, NONE, UNKNOWN, Column, Object, Printer, age, created, name_of

_ROLE: Final = "node-role.kubernetes.io/"
_OLD_ROLE: Final = "kubernetes.io/role"
_SERVICE_PORTS_SHOWN: Final = 3


def of(resource_key: str) -> Printer:
    """The printer of a kind; name and age for one without its own."""
    return _PRINTERS.get(resource_key, _PLAIN)


def _node(obj: Object, now: float) -> list[Any]:
    status, spec = obj.get("status") or {}, obj.get("spec") or {}
    info = status.get("nodeInfo") or {}
    ready = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), None)
    state = "Unknown" if ready is None else {"True": "Ready", "False": "NotReady"}.get(ready.get("status"), "NotReady")
    if spec.get("unschedulable"):
        state += ",SchedulingDisabled"
    addresses = {item.get("type"): item.get("address") for item in reversed(status.get("addresses") or [])}
    return [
        name_of(obj),
        state,
        ",".join(_roles(obj)) or NONE,
        created(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or UNKNOWN,
        (info.get("kernelVersion") or UNKNOWN) + (f" ({info['architecture']})" if info.get("architecture") else ""),
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(obj: Object) -> list[str]:
    found = set()
    for label, value in (obj["metadata"].get("labels") or {}).items():
        if label.startswith(_ROLE) and len(label) > len(_ROLE):
            found.add(label.removeprefix(_ROLE))
        elif label == _OLD_ROLE and value:
            found.add(value)
    return sorted(found)


def _service(obj: Object, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    selector = spec.get("selector")
    return [
        name_of(obj),
        spec.get("type", ""),
        ",".join(spec.get("clusterIPs") or []) or spec.get("clusterIP") or NONE,
        _external_address(obj),
        ",".join(_service_port(port) for port in spec.get("ports") or []) or NONE,
        created(obj, now),
        str(selectors.from_map(selector)) if selector else NONE,
    ]


def _external_address(obj: Object) -> str:
    spec = obj.get("spec") or {}
    external = list(spec.get("externalIPs") or [])
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") == "LoadBalancer":
        ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        external = [item.get("ip") or item.get("hostname") or "" for item in ingress] + external
        return ",".join(external) or "<pending>"
    return ",".join(external) or NONE


def _service_port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}"


def _event(obj: Object, now: float) -> list[Any]:
    series, source = obj.get("series") or {}, obj.get("source") or {}
    about = obj.get("involvedObject") or {}
    event_time = obj.get("eventTime")
    first = obj.get("firstTimestamp") or event_time
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    target = "/".join(part for part in (about.get("kind", "").lower(), about.get("name", "")) if part)
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    count = series.get("count") or obj.get("count") or 1
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        about.get("fieldPath", ""),
        ", ".join(part for part in (component, host) if part),
        str(obj.get("message", "")).strip(),
        age(first, now),
        count,
        name_of(obj),
    ]


def _endpoints(obj: Object, now: float) -> list[Any]:
    pairs = [
        f"{address.get('ip')}:{port.get('port')}"
        for subset in obj.get("subsets") or []
        for port in subset.get("ports") or []
        for address in subset.get("addresses") or []
    ]
    return [name_of(obj), _shortened(pairs), created(obj, now)]


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    ports = [str(port.get("port") or port.get("name") or "*") for port in obj.get("ports") or []]
    addresses = [address for item in obj.get("endpoints") or [] for address in item.get("addresses") or []]
    shown = _shortened(ports, "<unset>"), _shortened(addresses, "<unset>")
    return [name_of(obj), obj.get("addressType", ""), *shown, created(obj, now)]


def _shortened(items: list[str], none: str = NONE) -> str:
    """At most three, and how many more there are."""
    if not items:
        return none
    more = len(items) - _SERVICE_PORTS_SHOWN
    return ",".join(items[:_SERVICE_PORTS_SHOWN]) + (f" + {more} more..." if more > 0 else "")


def _namespace(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), (obj.get("status") or {}).get("phase", ""), created(obj, now)]


def _config_map(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), created(obj, now)]


def _secret(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or {}), created(obj, now)]


def _runtime_class(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("handler", ""), created(obj, now)]


def _lease(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), (obj.get("spec") or {}).get("holderIdentity", ""), created(obj, now)]


_PLAIN: Final = Printer((NAME, AGE), lambda obj, now: [name_of(obj), created(obj, now)])
_PRINTERS: Final[dict[str, Printer]] = {
    "/pods": printers_pod.PRINTER,
    "/configmaps": Printer((NAME, Column("Data", "how many keys it has"), AGE), _config_map),
    "/secrets": Printer(
        (NAME, Column("Type", "what the data is for"), Column("Data", "how many keys it has"), AGE),
        _secret,
    ),
    "/namespaces": Printer((NAME, Column("Status", "Active or Terminating"), AGE), _namespace),
    "/nodes": Printer(
        (
            NAME,
            Column("Status", "whether it is ready and takes pods"),
            Column("Roles", "the roles that its labels give it"),
            AGE,
            Column("Version", "its agent's version"),
            Column("Internal-IP", "its first internal address", 1),
            Column("External-IP", "its first external address", 1),
            Column("OS-Image", "its operating system", 1),
            Column("Kernel-Version", "its kernel", 1),
            Column("Container-Runtime", "its container runtime", 1),
        ),
        _node,
    ),
    "/services": Printer(
        (
            NAME,
            Column("Type", "how it is exposed"),
            Column("Cluster-IP", "its addresses inside the cluster"),
            Column("External-IP", "its addresses outside the cluster"),
            Column("Port(s)", "port, node port and protocol"),
            AGE,
            Column("Selector", "which pods it leads to", 1),
        ),
        _service,
    ),
    "/events": Printer(
        (
            Column("Last Seen", "when it happened last"),
            Column("Type", "Normal or Warning"),
            Column("Reason", "what happened, in one word"),
            Column("Object", "what it happened to"),
            Column("Subobject", "the part that it happened to", 1),
            Column("Source", "who saw it", 1),
            Column("Message", "what happened"),
            Column("First Seen", "when it happened first", 1),
            Column("Count", "how often it happened", 1),
            Column("Name", "the event's name", 1, format="name"),
        ),
        _event,
    ),
    "/endpoints": Printer((NAME, Column("Endpoints", "addresses and ports"), AGE), _endpoints),
    "discovery.k8s.io/endpointslices": Printer(
        (
            NAME,
            Column("AddressType", "IPv4, IPv6 or FQDN"),
            Column("Ports", "port numbers"),
            Column("Endpoints", "addresses"),
            AGE,
        ),
        _endpoint_slice,
    ),
    "coordination.k8s.io/leases": Printer((NAME, Column("Holder", "who holds it"), AGE), _lease),
    "node.k8s.io/runtimeclasses": Printer((NAME, Column("Handler", "the runtime's name for it"), AGE), _runtime_class),
}
