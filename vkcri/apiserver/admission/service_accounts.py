"""ServiceAccount admission: every pod runs as an account of its namespace and gets that account's token as a volume.

Reads the store. The volume is the one of Kubernetes 1.37's plugin, so that a pod from here and one from a real cluster
look the same to the bridge: token of 3607 s, the CA from kube-root-ca.crt, the namespace.
"""

import copy
import secrets
from collections.abc import Iterator
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.status import StatusError

MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX: Final = "kube-api-access-"
ROOT_CA: Final = "kube-root-ca.crt"
_TOKEN_SECONDS: Final = 60 * 60 + 7
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"


def admit(pod: dict[str, Any], ctx: RequestContext) -> None:
    """Set the account, its pull secrets and its token's volume. Raises StatusError 403 for an account that is not
    there, and for a mirror pod that wants one."""
    spec, name = pod["spec"], str(pod["metadata"].get("name") or "")
    if pods.is_mirror(pod):
        _check_mirror(spec, name)
        return
    account_name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account_name
    namespace = pods.namespace(pod)
    account = ctx.store.get("/serviceaccounts", namespace, account_name)
    if account is None:
        text = f"error looking up service account {namespace}/{account_name}: "
        raise StatusError.forbidden("pods", name, f'{text}serviceaccount "{account_name}" not found')
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = copy.deepcopy(account["imagePullSecrets"])
    if _automount(spec, account):
        _mount_token(spec)


def _check_mirror(spec: dict[str, Any], name: str) -> None:
    if spec.get("serviceAccountName"):
        raise StatusError.forbidden("pods", name, "a mirror pod may not reference service accounts")
    for volume in spec.get("volumes") or []:
        if volume.get("secret") is not None:
            raise StatusError.forbidden("pods", name, "a mirror pod may not reference secrets")
        for source in (volume.get("projected") or {}).get("sources") or []:
            if source.get("serviceAccountToken") is not None:
                text = "a mirror pod may not use ServiceAccountToken volume projections"
                raise StatusError.forbidden("pods", name, text)


def _automount(spec: dict[str, Any], account: dict[str, Any]) -> bool:
    """The pod's own word counts first, then the account's; the default is to mount."""
    for holder in (spec, account):
        if holder.get("automountServiceAccountToken") is not None:
            return bool(holder["automountServiceAccountToken"])
    return True


def _mount_token(spec: dict[str, Any]) -> None:
    volumes = spec.get("volumes") or []
    present = [volume["name"] for volume in volumes if str(volume.get("name") or "").startswith(VOLUME_PREFIX)]
    volume_name = present[0] if present else _new_name({volume.get("name") for volume in volumes})
    needed = False
    for container in _mounting(spec):
        mount = {"name": volume_name, "readOnly": True, "mountPath": MOUNT_PATH}
        container.setdefault("volumeMounts", []).append(mount)
        needed = True
    if needed and not present:
        spec.setdefault("volumes", []).append({"name": volume_name, "projected": token_projection()})


def _mounting(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The containers that have nothing at the mount path yet."""
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or []:
            if all(mount.get("mountPath") != MOUNT_PATH for mount in container.get("volumeMounts") or []):
                yield container


def token_projection() -> dict[str, Any]:
    """The projected volume source of kube-api-access-*."""
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }


def _new_name(taken: set[Any]) -> str:
    while True:
        name = VOLUME_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(5))
        if name not in taken:
            return name
