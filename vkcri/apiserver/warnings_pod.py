"""What to tell who creates a pod: old labels, volumes that no longer work, names given twice, odd amounts. Pure.

Source: pkg/api/pod/warnings.go, in its order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.api import pods, quantities

Object = Mapping[str, Any]
Texts = Iterator[str]
OLD_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": ('deprecated since v1.17; use "topology.kubernetes.io/region" instead'),
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_OLD_ANNOTATIONS: Final = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
_OLD_VOLUMES: Final = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SHOWN_AS: Final = {"storageos": "storageOS"}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_NO_SELECTOR: Final = "a null labelSelector results in matching no pod"


def texts(pod: Object) -> Texts:
    """All that there is to say, in Kubernetes' words."""
    spec = pods.spec(pod)
    containers = list(_containers(spec))
    yield from _labels(spec)
    yield from _spread(spec)
    for key, text in _OLD_ANNOTATIONS.items():
        if key in pods.annotations(pod):
            yield f"metadata.annotations[{key}]: {text}"
    yield from _volumes(spec)
    yield from _repeated(spec)
    yield from _fractions("spec.overhead", spec.get("overhead") or {})
    yield from _seccomp(pod, containers)
    for path, container in containers:
        for part in ("limits", "requests"):
            amounts = (container.get("resources") or {}).get(part) or {}
            yield from _fractions(f"{path}.resources.{part}", amounts)
        yield from _hidden_variables(path, container)
    yield from _ports(containers)
    yield from _port_names(containers)
    yield from _pod_affinity(spec)


def _containers(spec: Object) -> Iterator[tuple[str, Object]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or []):
            yield f"spec.{field}[{index}]", container


def _labels(spec: Object) -> Texts:
    for key in spec.get("nodeSelector") or {}:
        if key in OLD_LABELS:
            yield f"spec.nodeSelector[{key}]: {OLD_LABELS[key]}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    for index, term in enumerate((affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []):
        yield from _term(f"{path}[{index}]", term)
    for index, preferred in enumerate(affinity.get(_PREFERRED) or []):
        yield from _term(f"spec.affinity.nodeAffinity.{_PREFERRED}[{index}].preference", preferred["preference"])


def _term(path: str, term: Object) -> Texts:
    for index, expression in enumerate(term.get("matchExpressions") or []):
        key = expression.get("key") or ""
        if key in OLD_LABELS:
            yield f"{path}.matchExpressions[{index}].key: {key} is {OLD_LABELS[key]}"


def _spread(spec: Object) -> Texts:
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or []):
        path, key = f"spec.topologySpreadConstraints[{index}]", constraint.get("topologyKey") or ""
        if key in OLD_LABELS:
            yield f"{path}.topologyKey: {key} is {OLD_LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{path}.labelSelector: {_NO_SELECTOR}"


def _volumes(spec: Object) -> Texts:
    for index, volume in enumerate(spec.get("volumes") or []):
        for name, text in _OLD_VOLUMES.items():
            if volume.get(name) is not None:
                yield f"spec.volumes[{index}].{_SHOWN_AS.get(name, name)}: {text}"
        for source, name in (("configMap", "name"), ("secret", "secretName"), ("downwardAPI", "")):
            items = (volume.get(source) or {}).get("items") or []
            kind = f'{source[:1].upper()}{source[1:]} "{volume[source].get(name)}"' if name and items else "DownwardAPI"
            for text in _overlaps([(item.get("path") or "", "") for item in items]):
                yield f'volume "{volume.get("name")}" ({kind}): overlapping paths: {text}'
        sources = (volume.get("projected") or {}).get("sources") or []
        for text in _overlaps([place for source in sources for place in _places(source)]):
            yield f'volume "{volume.get("name")}" (Projected): overlapping paths: {text}'


def _places(source: Object) -> Iterator[tuple[str, str]]:
    """(path, what brings it) of one projection."""
    for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        given = source.get(field)
        for item in (given or {}).get("items") or []:
            named = f' "{given.get("name") or ""}"' if given is not None and kind != "DownwardAPI" else ""
            yield item.get("path") or "", f"{kind}{named}"
    if source.get("serviceAccountToken") is not None:
        yield source["serviceAccountToken"].get("path") or "", "ServiceAccountToken"
    bundle = source.get("clusterTrustBundle")
    if bundle is not None:
        yield bundle.get("path") or "", f'ClusterTrustBundle "{bundle.get("name") or bundle.get("signerName") or ""}"'


def _overlaps(places: Sequence[tuple[str, str]]) -> Texts:
    """Each path that is another one before it, or lies in it, or holds it."""
    before: list[tuple[str, str]] = []
    for path, source in places:
        plain = path.rstrip("/")
        for other, theirs in before:
            if plain and other and (f"{plain}/".startswith(f"{other}/") or f"{other}/".startswith(f"{plain}/")):
                yield f"{_shown(plain, source)} with {_shown(other, theirs)}"
        before.append((plain, source))


def _shown(path: str, source: str) -> str:
    return f'"{path}" ({source})' if source else f'"{path}"'


def _repeated(spec: Object) -> Texts:
    for field, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        seen: set[str] = set()
        for index, item in enumerate(spec.get(field) or []):
            value = item.get(key) or ""
            if value in seen:
                yield f'spec.{field}[{index}].{key}: duplicate {key} "{value}"'
            seen.add(value)
    for index, item in enumerate(spec.get("imagePullSecrets") or []):
        if not item.get("name"):
            yield f'spec.imagePullSecrets[{index}].name: invalid empty name ""'


def _fractions(path: str, amounts: Mapping[str, str]) -> Texts:
    """Bytes in thousandths."""
    for name in ("memory", "ephemeral-storage"):
        if name in amounts and not quantities.is_whole(amounts[name]):
            yield f'{path}[{name}]: fractional byte value "{amounts[name]}" is invalid, must be an integer'


def _seccomp(pod: Object, containers: Sequence[tuple[str, Object]]) -> Texts:
    text = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    annotations = pods.annotations(pod)
    if _SECCOMP in annotations and (pods.spec(pod).get("securityContext") or {}).get("seccompProfile") is None:
        yield f"metadata.annotations[{_SECCOMP}]: {text}"
    for _, container in containers:
        key = f"{_SECCOMP_CONTAINER}{container.get('name')}"
        if key in annotations and (container.get("securityContext") or {}).get("seccompProfile") is None:
            yield f"metadata.annotations[{key}]: {text}"


def _hidden_variables(path: str, container: Object) -> Texts:
    seen: set[str] = set()
    for index, entry in enumerate(container.get("env") or []):
        name, value = entry.get("name") or "", entry.get("value") or ""
        itself = f"$({name})"
        if name in seen and (entry.get("valueFrom") is not None or value == itself or itself not in value):
            yield f'{path}.env[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(containers: Sequence[tuple[str, Object]]) -> Texts:
    seen: list[tuple[str, Object]] = []
    for path, container in containers:
        for index, port in enumerate(container.get("ports") or []):
            where = f"{path}.ports[{index}]"
            same = ("containerPort", "protocol")
            for other, theirs in seen:
                if all(port.get(field) == theirs.get(field) for field in same):
                    kind = _conflict(port, theirs)
                    if kind:
                        yield f"{where}: {kind} port definition with {other}"
            seen.append((where, port))


def _conflict(port: Object, other: Object) -> str:
    mine, theirs = port.get("hostPort") or 0, other.get("hostPort") or 0
    here, there = port.get("hostIP") or "", other.get("hostIP") or ""
    if (mine, here) == (theirs, there):
        return "duplicate"
    if not mine or not theirs:
        return "overlapping"
    return "dangerously ambiguous" if mine == theirs and bool(here) != bool(there) else ""


def _port_names(containers: Sequence[tuple[str, Object]]) -> Texts:
    seen: dict[str, str] = {}
    for path, container in containers:
        for index, port in enumerate(container.get("ports") or []):
            name, where = port.get("name") or "", f"{path}.ports[{index}]"
            if name and name in seen:
                first = seen[name]
                text = f"services and probes that select ports by name will use {first}"
                yield f'{where}: duplicate port name "{name}" with {first}, {text}'
            seen.setdefault(name, where)


def _pod_affinity(spec: Object) -> Texts:
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = (spec.get("affinity") or {}).get(kind) or {}
        for index, term in enumerate(affinity.get(_REQUIRED) or []):
            if term.get("labelSelector") is None:
                yield f"spec.affinity.{kind}.{_REQUIRED}[{index}].labelSelector: {_NO_SELECTOR}"
        for index, preferred in enumerate(affinity.get(_PREFERRED) or []):
            if (preferred.get("podAffinityTerm") or {}).get("labelSelector") is None:
                path = f"spec.affinity.{kind}.{_PREFERRED}[{index}].podAffinityTerm.labelSelector"
                yield f"{path}: {_NO_SELECTOR}"
