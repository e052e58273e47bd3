"""Thresholds from the kubelet's notation."""

from fractions import Fraction

import pytest

from bridge.eviction.thresholds import (
    ALLOCATABLE_MEMORY,
    MEMORY,
    NODE_DISK,
    NODE_INODES,
    PID,
    Amount,
    Threshold,
    reserved,
    settings_thresholds,
    thresholds,
)
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Invalid

GIBI = 1 << 30


def test_the_defaults_are_the_kubelets() -> None:
    found = {item.signal: item for item in settings_thresholds(RuntimeSettings())}
    assert {signal: item.least.printed(1000) for signal, item in found.items()} == {
        "memory.available": "100Mi",
        "allocatableMemory.available": "100Mi",
        "nodefs.available": "100",
        "nodefs.inodesFree": "50",
        "imagefs.available": "150",
        "imagefs.inodesFree": "50",
    }
    assert all(item.hard and item.reclaim == Amount() for item in found.values())


def test_hard_and_soft_ones_with_grace_and_reclaim() -> None:
    found = thresholds(
        "nodefs.available<10%",
        "memory.available<1Gi, pid.available<500",
        "memory.available=1h2m3.5s,pid.available=5s",
        "nodefs.available=1Gi,memory.available=5%",
    )
    assert found == (
        Threshold(NODE_DISK, Amount(share=Fraction(1, 10)), 0.0, Amount(units=GIBI, text="1Gi")),
        Threshold(MEMORY, Amount(units=GIBI, text="1Gi"), 3723.5, Amount(share=Fraction(1, 20))),
        Threshold(PID, Amount(units=500, text="500"), 5.0),
    )
    assert [item.hard for item in found] == [True, False, False]


def test_hard_memory_holds_below_kubepods_too() -> None:
    found = thresholds("memory.available<1Gi", "", "", "memory.available=1Mi")
    assert [(item.signal, item.least, item.reclaim) for item in found] == [
        (MEMORY, Amount(units=GIBI, text="1Gi"), Amount(units=1 << 20, text="1Mi")),
        (ALLOCATABLE_MEMORY, Amount(units=GIBI, text="1Gi"), Amount(units=1 << 20, text="1Mi")),
    ]


def test_none_at_all() -> None:
    assert thresholds("", "", "", "") == ()
    assert thresholds("nodefs.available<0%,imagefs.available<100%", "", "", "") == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("memory<1Gi", "", "", ""), "unsupported eviction signal memory: one of memory.available, "),
        (("containerfs.available<1Gi", "", "", ""), "unsupported eviction signal containerfs.available"),
        (("allocatableMemory.available<1Gi", "", "", ""), "unsupported eviction signal"),
        (("memory.available", "", "", ""), "'memory.available': SIGNAL<VALUE"),
        (("memory.available<-1", "", "", ""), "must be positive: -1"),
        (("memory.available<0", "", "", ""), "must be positive: 0"),
        (("memory.available<120%", "", "", ""), "must be between 0% and 100%: 120%"),
        (("memory.available<lots", "", "", ""), "quantities must match"),
        (("memory.available<1,memory.available<2", "", "", ""), "stands there twice"),
        (("", "memory.available<1Gi", "", ""), "grace period must be specified for the soft eviction threshold memory"),
        (("", "memory.available<1Gi", "memory.available=soon", ""), "'soon' is no duration such as 1m30s"),
        (("", "memory.available<1Gi", "memory.available=", ""), "SIGNAL=VALUE"),
        (("", "", "", "memory.available=-1"), "must be positive"),
    ],
)
def test_what_is_not_understood_is_said(settings: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        thresholds(*settings)
    assert message in str(caught.value)


def test_a_bad_setting_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"eviction_hard, eviction_soft .*: 'x': SIGNAL<VALUE"):
        settings_thresholds(RuntimeSettings(eviction_hard="x"))


def test_what_hard_thresholds_keep_is_reserved() -> None:
    found = thresholds(
        "memory.available<1Gi,nodefs.available<10%,nodefs.inodesFree<5%",
        "nodefs.available<50%",
        "nodefs.available=1m",
        "",
    )
    assert NODE_INODES in {item.signal for item in found}
    assert reserved(found, {"memory": "4Gi", "ephemeral-storage": "1000Ki"}) == {
        "memory": GIBI,
        "ephemeral-storage": 102400,
    }
