"""Which of two copies of one object is newer. Pure.

A resourceVersion is a decimal number that grows (KEP-5504 makes that a promise; etcd, kine and the embedded API server
have always kept it). Where a server's are no numbers, the copy that came last is taken.
"""

from collections.abc import Mapping
from typing import Any


def version(item: Mapping[str, Any]) -> str:
    return str((item.get("metadata") or {}).get("resourceVersion") or "")


def is_newer(left: str, right: str) -> bool:
    """Whether the version left is newer than right."""
    if left.isdecimal() and right.isdecimal():
        return int(left) > int(right)
    return left != right
