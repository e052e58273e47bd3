"""What this server serves, as clients ask for it: /api, /apis and below, plain and aggregated, and /version.

Pure, derived from resources.RESOURCES. Shapes: APIVersions, APIGroupList, APIGroup, APIResourceList, and
apidiscovery.k8s.io/v2 APIGroupDiscoveryList, which spares kubectl a request a group.
"""

import platform
import sys
from typing import Any

from vkcri.apiserver.resources import RESOURCES, Resource, Subresource
from vkcri.apiserver.routing import group_versions

KUBERNETES_VERSION = ("1", "37")  # whose API for the served kinds this is


def version() -> dict[str, Any]:
    """version.Info; gitVersion says that this is not Kubernetes' own server."""
    major, minor = KUBERNETES_VERSION
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+vkcri",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": "cpython",
        "platform": f"linux/{machine}",
    }


def api_versions(address: str) -> dict[str, Any]:
    """/api; `address` is host:port as clients reach it."""
    return {
        "kind": "APIVersions",
        "versions": [version for group, version in group_versions() if not group],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def paths() -> dict[str, Any]:
    """/: where to look further."""
    found = ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
    for name, version in group_versions():
        found += [f"/apis/{name}", f"/apis/{name}/{version}"] if name else [f"/api/{version}"]
    return {"paths": sorted(found)}


def group_list() -> dict[str, Any]:
    """/apis."""
    groups = [_group(group) for group in sorted({group for group, _ in group_versions() if group})]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(name: str) -> dict[str, Any] | None:
    """/apis/NAME, or None where the group is not served."""
    if name not in {group for group, _ in group_versions() if group}:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)}


def resource_list(group: str, version: str) -> dict[str, Any] | None:
    """/api/v1 or /apis/GROUP/VERSION, or None where it is not served."""
    if (group, version) not in group_versions():
        return None
    rows: list[dict[str, Any]] = []
    for resource in _resources(group, version):
        rows.append(_resource_row(resource))
        rows.extend(_subresource_row(resource, item) for item in resource.subresources)
    named = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": rows}


def aggregated(*, core: bool) -> dict[str, Any]:
    """/api (core) or /apis as one APIGroupDiscoveryList."""
    items = []
    for name in sorted({group for group, _ in group_versions() if bool(group) != core}):
        versions = [
            {
                "version": version,
                "resources": [_discovered(resource) for resource in _resources(name, version)],
                "freshness": "Current",
            }
            for group, version in group_versions()
            if group == name
        ]
        items.append({"metadata": {"name": name, "creationTimestamp": None}, "versions": versions})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _resources(group: str, version: str) -> list[Resource]:
    return [item for item in RESOURCES if (item.group, item.version) == (group, version)]


def _group(name: str) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for group, version in group_versions()
        if group == name
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resource_row(resource: Resource) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    return row


def _subresource_row(resource: Resource, item: Subresource) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": f"{resource.plural}/{item.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": item.kind,
        "verbs": list(item.verbs),
    }
    if item.version:
        row |= {"group": item.group, "version": item.version}
    return row


def _discovered(resource: Resource) -> dict[str, Any]:
    """One APIResourceDiscovery."""
    row: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    subresources = [
        {
            "subresource": item.name,
            "responseKind": {
                "group": item.group or resource.group,
                "version": item.version or resource.version,
                "kind": item.kind,
            },
            "verbs": list(item.verbs),
        }
        for item in resource.subresources
    ]
    if subresources:
        row["subresources"] = subresources
    return row
