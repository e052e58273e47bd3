"""Pod -> CRI configuration: pure functions over the pod and a PodContext, by the kubelet's rules.

`sandbox_config` and `container_config` give what CRI gets; the `*_findings` give the events that go with them. Host
files (volumes, hosts, termination message, subPaths) are made by bridge.volumes before and come in through the context.
"""

from bridge.spec.container import container_config
from bridge.spec.container import findings as container_findings
from bridge.spec.context import (
    CgroupFacts,
    ContainerFiles,
    Features,
    Finding,
    ImageRef,
    PodContext,
    Prepared,
    ResolvConf,
    find_object,
)
from bridge.spec.sandbox import findings as sandbox_findings
from bridge.spec.sandbox import sandbox_config

__all__ = [
    "CgroupFacts",
    "ContainerFiles",
    "Features",
    "Finding",
    "ImageRef",
    "PodContext",
    "Prepared",
    "ResolvConf",
    "container_config",
    "container_findings",
    "find_object",
    "sandbox_config",
    "sandbox_findings",
]
