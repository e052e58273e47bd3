"""Who goes first, and what is said of it."""

from typing import Any

import pytest

from bridge.eviction.pressure import Observation
from bridge.eviction.ranking import message, rank
from bridge.eviction.thresholds import IMAGE_DISK, MEMORY, NODE_DISK, NODE_INODES, PID, thresholds
from bridge.stats.disk import Taken
from bridge.stats.summary import ContainerUse, PodUse, VolumeUse
from tests.unit.bridge.building import a_pod, spec
from tests.unit.bridge.eviction.test_local import DISK, MEBI, taken
from tests.unit.bridge.eviction.test_pressure import measured


def pod(name: str = "p", priority: int = 0, **requests: str) -> dict[str, Any]:
    found = a_pod(spec(resources={"requests": {key.replace("_", "-"): text for key, text in requests.items()}}))
    found["metadata"]["name"] = name
    found["spec"]["priority"] = priority
    return found


def use(
    memory: float = 0, processes: int = 1, layer: float = 0, logs: float = 0, volume: float = 0, files: int = 1
) -> PodUse:
    container = ContainerUse(
        "app", 1, measured(int(memory * MEBI), None), processes, DISK, Taken(1, int(layer * MEBI), files), taken(logs)
    )
    volumes = [VolumeUse("v", DISK, taken(volume), local=True), VolumeUse("s", DISK, taken(9000), local=False)]
    return PodUse("default", "p", "u", 1, [container], volumes=volumes)


def first(signal: str, *pairs: tuple[dict[str, Any], PodUse | None], images_apart: bool = False) -> list[str]:
    """The pods' names in the order in which they go."""
    order = sorted(pairs, key=lambda pair: rank(*pair, signal, images_apart=images_apart))
    return [found["metadata"]["name"] for found, _ in order]


def test_for_memory_by_excess_then_priority_then_how_much() -> None:
    assert first(
        MEMORY,
        (pod("within", memory="100Mi"), use(memory=90)),
        (pod("important", priority=5), use(memory=80)),
        (pod("over", memory="10Mi"), use(memory=20)),
        (pod("more", memory="10Mi"), use(memory=21)),
        (pod("unknown", priority=9), None),
        (pod("idle", memory="100Mi"), use(memory=1)),
    ) == ["unknown", "more", "over", "important", "within", "idle"]


def test_for_processes_by_priority_then_how_many() -> None:
    assert first(
        PID,
        (pod("few"), use(processes=2)),
        (pod("many"), use(processes=9)),
        (pod("high", priority=1), use(processes=99)),
    ) == ["many", "few", "high"]


def test_for_disk_by_layers_logs_and_volumes_on_one_device() -> None:
    pairs = (
        (pod("layer"), use(layer=5)),
        (pod("logs"), use(logs=3)),
        (pod("volume"), use(volume=4)),
        (pod("asked", ephemeral_storage="1Gi"), use(layer=9)),
    )
    assert first(NODE_DISK, *pairs) == first(IMAGE_DISK, *pairs) == ["layer", "volume", "logs", "asked"]


def test_for_disk_by_what_lies_on_the_device_in_question() -> None:
    pairs = ((pod("layer"), use(layer=5)), (pod("logs"), use(logs=3)), (pod("volume"), use(volume=4)))
    assert first(NODE_DISK, *pairs, images_apart=True) == ["volume", "logs", "layer"]
    assert first(IMAGE_DISK, *pairs, images_apart=True)[0] == "layer"


def test_for_inodes_by_files() -> None:
    assert first(NODE_INODES, (pod("few"), use(layer=9)), (pod("many"), use(files=100))) == ["many", "few"]


LOW = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "


def said(found: dict[str, Any], measured_use: PodUse | None, resource: str = "memory") -> tuple[str, dict[str, str]]:
    due = thresholds("memory.available<100Mi,nodefs.available<10%", "", "", "")
    seen = {MEMORY: Observation(50 * MEBI, 1, 1), NODE_DISK: Observation(MEBI, 100 * MEBI, 1)}
    return message(found, measured_use, resource, due, seen)


def test_the_message_names_the_threshold_and_containers_beyond_their_requests() -> None:
    text, notes = said(pod(memory="10240Ki"), use(memory=20))
    assert text == LOW + "Container app was using 20Mi, request is 10Mi, has larger consumption of memory. "
    assert notes == {
        "offending_containers": "app",
        "offending_containers_usage": "20Mi",
        "starved_resource": "memory",
    }
    assert said(pod(memory="1Gi"), use(memory=20))[0] == LOW
    assert said(pod(), None) == (LOW, {})


def test_the_message_names_a_pod_beyond_its_own_request() -> None:
    whole = pod(memory="1Gi")
    whole["spec"]["resources"] = {"requests": {"memory": "10Mi"}}
    text, notes = said(whole, use(memory=20))
    assert text == LOW + "Pod p was using 20Mi, request is 10Mi, has larger consumption of memory. "
    assert (notes["offending_pod"], notes["offending_pod_usage"]) == ("p", "20Mi")


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (
            "ephemeral-storage",
            "Container app was using 3Mi, request is 0, has larger consumption of ephemeral-storage. ",
        ),
        ("inodes", ""),
    ],
)
def test_the_message_of_a_disk(resource: str, words: str) -> None:
    text, _ = said(pod(), use(layer=2, logs=1), resource)
    threshold = "Threshold quantity: 10Mi, available: 1Mi. " if resource != "inodes" else ""
    assert text == f"The node was low on resource: {resource}. {threshold}{words}"
