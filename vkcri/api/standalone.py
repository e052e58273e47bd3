"""Whether a pod does without the API: what a static pod's manifest, and its mirror pod, may not name. Pure.

Source: podutil.HasAPIObjectReference, which the kubelet asks of each manifest and NodeRestriction of each mirror pod.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.errors import Invalid

_VOLUMES: Final = {
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_PROJECTIONS: Final = {
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}
_FREE_PROJECTIONS: Final = ("configMap", "secret", "downwardAPI")  # of the first two the names count, found before


def api_reference(pod: pods.Pod) -> str:
    """What of the API the pod names first, in Kubernetes' words; "" for nothing. Raises Invalid for a projected source
    of no kind that is known, which nobody can vouch for."""
    spec = pods.spec(pod)
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    kinds = {key.partition("/")[0] for key in pods.references(pod)}
    for kind in ("secrets", "configmaps"):
        if kind in kinds:
            return kind
    if spec.get("resourceClaims"):
        return "resourceclaims"
    return next((words for volume in spec.get("volumes") or [] for words in _of_volume(volume)), "")


def _of_volume(volume: Mapping[str, Any]) -> Iterator[str]:
    yield from (words for field, words in _VOLUMES.items() if volume.get(field) is not None)
    for source in (volume.get("projected") or {}).get("sources") or []:
        yield from (words for field, words in _PROJECTIONS.items() if source.get(field) is not None)
        if all(source.get(field) is None for field in (*_PROJECTIONS, *_FREE_PROJECTIONS)):
            raise Invalid(f'unknown source for projected volume "{volume.get("name") or ""}"')
