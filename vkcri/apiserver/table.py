"""Tables: what `kubectl get` shows. This module frames them; printers.py knows each kind's columns and cells.

Pure but for the clock that ages are counted by, which is passed in. Shapes: meta.k8s.io Table, PartialObjectMetadata
and its List.
"""

import time
from collections.abc import Sequence
from typing import Any

from vkcri.apiserver import printers
from vkcri.apiserver.cells import Printer
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


def table(
    resource: Resource,
    items: Sequence[Object],
    version: str,
    *,
    include: str = "Metadata",
    metadata: Object | None = None,
    columns: bool = True,
    now: float | None = None,
) -> Object:
    """The objects as a Table of meta.k8s.io/`version`. `include`: what stands in a row's object: None, Metadata or
    Object. `columns` False leaves their definitions out (a watch sends them once). Raises StatusError 400."""
    if include not in ("", "None", "Metadata", "Object"):
        raise StatusError.bad_request(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": must be '
            "'Metadata', 'Object', 'None', or empty"
        )
    printer = printers.of(resource.key)
    moment = time.time() if now is None else now
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata or {},
        "columnDefinitions": [column.as_definition() for column in printer.columns] if columns else None,
        "rows": [_row(resource, printer, item, include, version, moment) for item in items],
    }


def partial(obj: Object, version: str) -> Object:
    """An object's metadata alone, as PartialObjectMetadata."""
    metadata = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}"}
    return {**metadata, "metadata": obj.get("metadata", {})}


def partial_list(items: Sequence[Object], metadata: Object, version: str) -> Object:
    """The metadata of several objects, as PartialObjectMetadataList."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "items": [partial(item, version) for item in items],
    }


def _row(resource: Resource, printer: Printer, obj: Object, include: str, version: str, now: float) -> Object:
    row: Object = {"cells": printer.cells(obj, now)}
    conditions = printer.conditions(obj)
    if conditions:
        row["conditions"] = conditions
    if include == "Object":
        row["object"] = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
    else:
        row["object"] = None if include == "None" else partial(obj, version)
    return row
