"""What an absent field means: the defaults that Kubernetes 1.37 writes into objects of the served kinds.

Pure; changes the object in place, which the caller has copied. Defaults come before admission and validation, on create
and on update alike. What needs the store (ClusterIPs, the service account's volume) is admission's. Source:
pkg/apis/core/v1/defaults.go and its siblings.
"""

from collections.abc import Callable
from typing import Any, Final

from vkcri.api import pods, quantities, resources
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.validation import services

Object = dict[str, Any]
_TERMINATION_PATH: Final = "/dev/termination-log"
_VOLUME_SOURCES_WITH_MODE: Final = ("configMap", "secret", "downwardAPI", "projected")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def apply(resource: Resource, obj: Object) -> None:
    """Fill in the defaults of one object."""
    rule = _RULES.get(resource.key)
    if rule is not None:
        rule(obj)


def pod(obj: Object) -> None:
    """A Pod: its spec, containers and volumes."""
    spec = obj.setdefault("spec", {})
    _pod_spec(spec)
    for kind, container in pods.all_containers(obj):
        _container(container, host_network=bool(spec.get("hostNetwork")), ephemeral=kind == "ephemeral")
    for volume in spec.get("volumes") or []:
        _volume(volume)
    if spec.get("resources"):
        _pod_level(spec)
    _round_up(spec.get("overhead"))
    _addresses(obj.get("status") or {})


def _addresses(status: Object) -> None:
    """The older field of one address wins over the list's first, as Kubernetes' conversion has it."""
    listed = status.get("podIPs") or []
    if status.get("podIP") and (not listed or listed[0].get("ip") != status["podIP"]):
        status["podIPs"] = [{"ip": status["podIP"]}]
    elif listed:
        status["podIP"] = listed[0].get("ip", "")


def _pod_spec(spec: Object) -> None:
    defaults: Object = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "securityContext": {},
    }
    _fill(spec, defaults)
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:  # the deprecated field follows the other, and stands in for it
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1


def _container(container: Object, *, host_network: bool, ephemeral: bool) -> None:
    container.setdefault("resources", {})
    _fill(container, {"terminationMessagePath": _TERMINATION_PATH, "terminationMessagePolicy": "File"})
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    for port in container.get("ports") or []:
        _fill(port, {"protocol": "TCP"})
        if host_network and not port.get("hostPort") and port.get("containerPort"):
            port["hostPort"] = port["containerPort"]
    if not ephemeral:
        _requests_from_limits(container["resources"])
    for entry in container.get("env") or []:
        source = entry.get("valueFrom") or {}
        _field_ref(source)
        if source.get("fileKeyRef") is not None:
            source["fileKeyRef"].setdefault("optional", False)
    for name in _PROBES:
        if container.get(name) is not None:
            _probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http_get(hook)


def pull_policy(image: str) -> str:
    """Always for the tag latest, given or implied, else IfNotPresent."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not tag and not digest:
        tag = "latest"
    return "Always" if tag == "latest" else "IfNotPresent"


def _round_up(amounts: Object | None) -> None:
    """No amount is finer than a thousandth."""
    for name, amount in (amounts or {}).items():
        amounts[name] = quantities.rounded_up(amount)  # type: ignore[index]


def _requests_from_limits(holder: Object) -> None:
    """An absent request is its limit."""
    for amounts in (holder.get("limits"), holder.get("requests")):
        _round_up(amounts)
    for name, amount in (holder.get("limits") or {}).items():
        holder.setdefault("requests", {}).setdefault(name, amount)


def _pod_level(spec: Object) -> None:
    """What a pod's own resources leave out: the containers' sum of what may be overcommitted, then the limit; a limit
    where every container has one. Source: DefaultPodLevelResources."""
    own = spec["resources"]
    for amounts in (own.get("limits"), own.get("requests")):
        _round_up(amounts)
    if not own.get("requests") and not own.get("limits"):
        return
    containers = {"spec": {key: spec.get(key) for key in ("containers", "initContainers")}}
    limits = resources.pod_limits(containers, overhead=False)
    requests, held = own.setdefault("requests", {}), own.setdefault("limits", {})
    for name, amount in limits.items():
        if name.startswith("hugepages-") and name not in requests:
            held.setdefault(name, quantities.format(amount, binary=True))
    for name, amount in resources.pod_requests(containers, overhead=False).items():
        if name in ("cpu", "memory"):
            requests.setdefault(name, quantities.format(amount, binary=name == "memory"))
    for name, amount in held.items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            requests.setdefault(name, amount)
    listed = [item for field in ("containers", "initContainers") for item in spec.get(field) or []]
    for name in set(requests) - set(held):
        if name in limits and all(name in ((item.get("resources") or {}).get("limits") or {}) for item in listed):
            most = max(limits[name], quantities.parse(requests[name]))
            held[name] = quantities.format(most, binary=name != "cpu")
    for part in ("requests", "limits"):
        if not own[part]:
            del own[part]


def _probe(probe: Object) -> None:
    _fill(probe, {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    _http_get(probe)
    if probe.get("grpc") is not None and probe["grpc"].get("service") is None:
        probe["grpc"]["service"] = ""


def _http_get(holder: Object) -> None:
    action = holder.get("httpGet")
    if action is not None:
        _fill(action, {"path": "/", "scheme": "HTTP"})


def _field_ref(holder: Object) -> None:
    if holder.get("fieldRef") is not None:
        _fill(holder["fieldRef"], {"apiVersion": "v1"})
    if holder.get("resourceFieldRef") is not None:
        _fill(holder["resourceFieldRef"], {"divisor": "0"})


def _volume(volume: Object) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for source in _VOLUME_SOURCES_WITH_MODE:
        if volume.get(source) is not None:
            volume[source].setdefault("defaultMode", 0o644)
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        _field_ref(item)
    for projection in (volume.get("projected") or {}).get("sources") or []:
        if projection.get("serviceAccountToken") is not None:
            projection["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        for item in (projection.get("downwardAPI") or {}).get("items") or []:
            _field_ref(item)
    if volume.get("hostPath") is not None:
        volume["hostPath"].setdefault("type", "")
    if volume.get("ephemeral") is not None:
        _fill((volume["ephemeral"].get("volumeClaimTemplate") or {}).get("spec") or {}, {"volumeMode": "Filesystem"})
    if volume.get("image") is not None and not volume["image"].get("pullPolicy"):
        volume["image"]["pullPolicy"] = pull_policy(volume["image"].get("reference") or "")
    _other_volume_sources(volume)


def _other_volume_sources(volume: Object) -> None:
    """The sources of other storage: stored as given, told by the bridge that it cannot mount them."""
    rules: tuple[tuple[str, Object], ...] = (
        ("iscsi", {"iscsiInterface": "default"}),
        ("rbd", {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}),
        ("azureDisk", {"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"}),
        ("scaleIO", {"storageMode": "ThinProvisioned", "fsType": "xfs"}),
    )
    for source, defaults in rules:
        if volume.get(source) is not None:
            _fill(volume[source], defaults)


def service(obj: Object) -> None:
    """A Service, save for its addresses."""
    spec = obj.setdefault("spec", {})
    _fill(spec, {"sessionAffinity": "None", "type": "ClusterIP"})
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    else:
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or []:
        _fill(port, {"protocol": "TCP"})
        if port.get("targetPort") in (None, 0, "") and port.get("port") is not None:
            port["targetPort"] = port["port"]
    if services.externally_accessible(spec):
        _fill(spec, {"externalTrafficPolicy": "Cluster"})
    if spec["type"] in ("ClusterIP", "NodePort", "LoadBalancer"):
        _fill(spec, {"internalTrafficPolicy": "Cluster"})
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def secret(obj: Object) -> None:
    _fill(obj, {"type": "Opaque"})


def namespace(obj: Object) -> None:
    """The label that selectors match a namespace by."""
    name = obj["metadata"].get("name")
    if name:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


def node(obj: Object) -> None:
    """A Node's allocatable follows its capacity where absent."""
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    if spec.get("podCIDR") and (spec.get("podCIDRs") or [None])[0] != spec["podCIDR"]:
        spec["podCIDRs"] = [spec["podCIDR"]]  # the older field wins, as Kubernetes' conversion has it
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    for amounts in (status.get("capacity"), status.get("allocatable")):
        _round_up(amounts)
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or []:
            _fill(port, {"protocol": "TCP"})


def endpoint_slice(obj: Object) -> None:
    for port in obj.get("ports") or []:
        port.setdefault("name", "")
        _fill(port, {"protocol": "TCP"})


def _fill(holder: Object, values: Object) -> None:
    """Set what is absent or empty text."""
    for key, value in values.items():
        if holder.get(key) in (None, ""):
            holder[key] = value


_RULES: Final[dict[str, Callable[[Object], None]]] = {
    "/pods": pod,
    "/services": service,
    "/secrets": secret,
    "/namespaces": namespace,
    "/nodes": node,
    "/endpoints": endpoints,
    "discovery.k8s.io/endpointslices": endpoint_slice,
}
