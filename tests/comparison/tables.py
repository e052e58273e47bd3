"""A Table as it is compared: without the columns' descriptions, which are words for people, and without ages. Pure."""

import re
from typing import Any

_AGE = re.compile(r"(\d+[smhd]){1,2}|<invalid>")


def comparable(table: Any) -> Any:
    """The table with those replaced; anything else as it is."""
    if not isinstance(table, dict) or table.get("kind") != "Table":
        return table
    columns = [
        {key: value for key, value in column.items() if key != "description"}
        for column in table.get("columnDefinitions") or ()
    ]
    rows = [{**row, "cells": [_cell(cell) for cell in row["cells"]]} for row in table["rows"]]
    return {**table, "columnDefinitions": columns, "rows": rows}


def _cell(cell: Any) -> Any:
    return "<age>" if isinstance(cell, str) and _AGE.fullmatch(cell) else cell
