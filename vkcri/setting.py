"""What one setting is, and where its value comes from; which ones there are, vkcri.config says.

First match wins: the environment (the documented names), the TOML file, the default. A variable that is set and empty
counts as unset, unless empty is a value of its own (`empty_is_value`). A relative path starts at the process' current
folder, or at the TOML file's where it stands in one. An unknown TOML key is an error, since a misspelt setting that is
ignored costs an afternoon.
"""

import dataclasses
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from vkcri.errors import ConfigError


def setting(
    default: Any,
    doc: str,
    *,
    env: tuple[str, ...] = (),
    empty_is_value: bool = False,
    is_path: bool = False,
    instead: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with its documentation and the environment variables that set it, first one set wins.

    empty_is_value: a variable that is set to nothing wins over the TOML file too. is_path: one path, or several joined
    by ':'; `given` makes them absolute. instead: variables of another setting which, set to whatever, win over this
    one's value in the TOML file, since the two say one thing."""
    metadata = {"doc": doc, "env": env, "empty_is_value": empty_is_value, "is_path": is_path, "instead": instead}
    return dataclasses.field(default=default, metadata=metadata)


def settings_of(kind: type[Any]) -> list["dataclasses.Field[Any]"]:
    """The fields of a dataclass that are settings."""
    return [item for item in dataclasses.fields(kind) if "doc" in item.metadata]


def given(kind: type[Any], environ: Mapping[str, str], path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass that the environment or the TOML file sets, by name. path: the file that the table is
    of. Raises ConfigError naming the variable, or file and key, whose value is of the wrong type."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for item in settings_of(kind):
        folder = None
        variable = _variable(item, environ)
        if variable is not None:
            value = _parse(environ[variable], hints[item.name], variable)
        elif item.name in table and not any(name in environ for name in item.metadata["instead"]):
            value, folder = table[item.name], path.parent
            if type(value) is not hints[item.name]:
                raise ConfigError(f"{path}: {item.name} wants {hints[item.name].__name__}, not {value!r}")
        else:
            continue
        values[item.name] = absolute(value, folder) if item.metadata["is_path"] else value
    return values


def read_toml(path: Path, known: Collection[str], *, explicit: bool) -> dict[str, Any]:
    """The file's table; empty where it does not exist and nobody named it (`explicit`). Raises ConfigError with its
    path, also for a key that is not known."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if explicit:
            raise ConfigError(f"{path}: no such file (VKCRI_CONFIG)") from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ConfigError(f"{path}: unknown setting {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return table


def absolute(paths: str, folder: Path | None = None) -> str:
    """A path, or several joined by ':' as in KUBECONFIG, each from `folder` (default: the current one) where it is
    relative. Symbolic links stay, since what they point to may be replaced."""
    parts = [Path(os.path.expanduser(part)) for part in paths.split(os.pathsep) if part]
    return (
        os.pathsep.join(str(part if part.is_absolute() else (folder or Path.cwd()) / part) for part in parts) or paths
    )


def _variable(item: "dataclasses.Field[Any]", environ: Mapping[str, str]) -> str | None:
    """The variable that sets this field, None where none does."""
    empty_is_value = item.metadata["empty_is_value"]
    return next(
        (name for name in item.metadata["env"] if environ.get(name) or (empty_is_value and name in environ)), None
    )


def _parse(text: str, wanted: type, variable: str) -> Any:
    """An environment variable's text as the setting's type."""
    if wanted is bool:
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        raise ConfigError(f"{variable}={text!r}: true or false")
    if wanted is int:
        try:
            return int(text)
        except ValueError as error:
            raise ConfigError(f"{variable}={text!r}: a number") from error
    return text
