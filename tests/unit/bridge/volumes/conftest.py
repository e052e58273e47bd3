"""Volumes of an instance of their own, taken away after each test."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.volumes import Volumes, mounting
from tests.instances import own
from tests.unit.bridge.volumes.make import World
from vkcri.config import RuntimeSettings


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose instance no other worker of this run uses; nothing of it is left afterwards."""
    settings = RuntimeSettings(instance=own("specvol"), node_name="node-1")
    made = World(settings)
    yield made
    mounting.unmount_below(settings.instance.volumes_dir)
    for folder in (settings.instance.state_dir, settings.instance.run_dir):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def volumes(world: World) -> Volumes:
    return world.volumes()


@pytest.fixture
def prepared(world: World, volumes: Volumes) -> Callable[..., Any]:
    """prepared(volume source by kind, ...) -> the host path of the one volume `v`."""

    def prepare(source: dict[str, Any], **spec: Any) -> Any:
        return volumes.prepare(world.pod({"name": "v", **source}, **spec))["v"]

    return prepare
