"""Volumes of other storage: the values that Kubernetes looks at before a driver ever does. Pure.

What a source cannot do without is volumes.py's. Source: core/validation's rules for iscsi, nfs, fc, azureDisk, csi.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_QUALIFIED: Final = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([a-z0-9-.]+)(:([^,;*&$|\s]+))$", re.IGNORECASE),
    "eui": re.compile(r"eui\.[a-z0-9]{16}$", re.IGNORECASE),
    "naa": re.compile(r"naa\.[a-z0-9]{32}$", re.IGNORECASE),
}
_MOST_LUN: Final = 255
_CACHING: Final = ("None", "ReadOnly", "ReadWrite")
_DISKS: Final = ("Dedicated", "Managed", "Shared")
_MANAGED: Final = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB: Final = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
_DRIVER: Final = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9.]{0,61}[a-zA-Z0-9])?")


def _iscsi(path: str, source: Mapping[str, Any]) -> Errors:
    if source.get("iqn"):
        yield from _initiator(f"{path}.iqn", source["iqn"])
    yield from _lun(f"{path}.lun", source.get("lun") or 0)
    chap = source.get("chapAuthDiscovery") or source.get("chapAuthSession")
    if chap and source.get("secretRef") is None:
        yield fields.required(f"{path}.secretRef")
    if source.get("initiatorName") is not None:
        yield from _initiator(f"{path}.initiatorname", source["initiatorName"])


def _initiator(path: str, value: str) -> Errors:
    pattern = _QUALIFIED.get(value[:3])
    if pattern is None:
        yield fields.invalid(path, value, "must be valid format starting with iqn, eui, or naa")
    elif not pattern.match(value):
        yield fields.invalid(path, value, "must be valid format")


def _lun(path: str, value: int) -> Errors:
    if not 0 <= value <= _MOST_LUN:
        yield fields.invalid(path, value, f"must be between 0 and {_MOST_LUN}, inclusive")


def _nfs(path: str, source: Mapping[str, Any]) -> Errors:
    if not (source.get("path") or "").startswith("/"):
        yield fields.invalid(f"{path}.path", source.get("path") or "", "must be an absolute path")


def _fc(path: str, source: Mapping[str, Any]) -> Errors:
    names, ids = source.get("targetWWNs") or [], source.get("wwids") or []
    if not names and not ids:
        yield fields.required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both")
    if names and ids:
        text = "targetWWNs and wwids can not be specified simultaneously"
        yield fields.invalid(f"{path}.targetWWNs", names, text)
    if names and source.get("lun") is None:
        yield fields.required(f"{path}.lun", "lun is required if targetWWNs is specified")
    elif names:
        yield from _lun(f"{path}.lun", source["lun"])


def _azure_disk(path: str, source: Mapping[str, Any]) -> Errors:
    kind, uri = source.get("kind"), source.get("diskURI") or ""
    yield from fields.one_of(f"{path}.cachingMode", source.get("cachingMode"), _CACHING, optional=True)
    yield from fields.one_of(f"{path}.kind", kind, _DISKS, optional=True)
    if kind is not None and not uri.startswith("/subscriptions/" if kind == "Managed" else "https://"):
        yield from fields.one_of(f"{path}.diskURI", uri or " ", (_MANAGED if kind == "Managed" else _BLOB,))


def _csi(path: str, source: Mapping[str, Any]) -> Errors:
    driver = source.get("driver") or ""
    if len(driver) > 63:
        yield fields.too_long(f"{path}.driver", 63)
    if driver and not _DRIVER.fullmatch(driver):
        yield fields.invalid(f"{path}.driver", driver, "must be a DNS subdomain")
    secret = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        yield fields.required(f"{path}.nodePublishSecretRef.name")
    elif secret is not None:
        yield from fields.dns_subdomain(f"{path}.name", secret["name"])


RULES: Final[dict[str, Callable[[str, Mapping[str, Any]], Errors]]] = {
    "azureDisk": _azure_disk,
    "csi": _csi,
    "fc": _fc,
    "iscsi": _iscsi,
    "nfs": _nfs,
}
