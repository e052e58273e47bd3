"""A Secret's stringData is a way to write data: it is folded in and never stored. Pure."""

import base64
from typing import Any


def merge(secret: dict[str, Any]) -> None:
    """Move stringData into data, as base64; its keys win."""
    plain = secret.pop("stringData", None)
    if plain:
        data = secret.setdefault("data", {})
        data.update({key: base64.b64encode(text.encode()).decode("ascii") for key, text in plain.items()})
