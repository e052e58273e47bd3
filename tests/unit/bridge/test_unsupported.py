"""No field of a pod is ignored without a word: each is implemented, refused, or has a reason why it means nothing here.

The schema is the kubernetes package's: a field that a new version of it brings fails the test until it is sorted.
"""

from typing import Any

import pytest

from bridge.unsupported import NO_EFFECT, REFUSED, unsupported
from tests.unit.bridge.building import a_pod, spec
from vkcri.apiserver import schema

_CONTAINER = """args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe
    resources restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath
    terminationMessagePolicy tty volumeMounts workingDir"""
IMPLEMENTED = {
    "PodSpec": """activeDeadlineSeconds affinity containers dnsConfig dnsPolicy enableServiceLinks ephemeralContainers
        hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets initContainers
        nodeSelector os overhead readinessGates resources restartPolicy runtimeClassName securityContext serviceAccount
        serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds volumes""",
    "Affinity": "nodeAffinity",
    "NodeAffinity": "requiredDuringSchedulingIgnoredDuringExecution",
    "NodeSelector": "nodeSelectorTerms",
    "NodeSelectorTerm": "matchExpressions matchFields",
    "NodeSelectorRequirement": "key operator values",
    "Container": _CONTAINER,
    "EphemeralContainer": f"{_CONTAINER} targetContainerName",
    "EnvVar": "name value valueFrom",
    "EnvVarSource": "configMapKeyRef fieldRef resourceFieldRef secretKeyRef",
    "ConfigMapKeySelector": "key name optional",
    "SecretKeySelector": "key name optional",
    "ObjectFieldSelector": "fieldPath",
    "ResourceFieldSelector": "containerName divisor resource",
    "EnvFromSource": "configMapRef prefix secretRef",
    "ConfigMapEnvSource": "name optional",
    "SecretEnvSource": "name optional",
    "Lifecycle": "postStart preStop stopSignal",
    "LifecycleHandler": "exec httpGet sleep",
    "ExecAction": "command",
    "HTTPGetAction": "host httpHeaders path port protocol scheme",
    "HTTPHeader": "name value",
    "SleepAction": "seconds",
    "Probe": """exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold tcpSocket
        terminationGracePeriodSeconds timeoutSeconds""",
    "TCPSocketAction": "host port",
    "GRPCAction": "mode port service",
    "ContainerPort": "containerPort hostIP hostPort name protocol",
    "ResourceRequirements": "limits requests",
    "ContainerRestartRule": "action exitCodes",
    "ContainerRestartRuleOnExitCodes": "operator values",
    "SecurityContext": """allowPrivilegeEscalation appArmorProfile capabilities privileged procMount
        readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seLinuxOptions seccompProfile""",
    "AppArmorProfile": "localhostProfile type",
    "Capabilities": "add drop",
    "SELinuxOptions": "level role type user",
    "SeccompProfile": "localhostProfile type",
    "VolumeMount": "mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr",
    "PodDNSConfig": "nameservers options searches",
    "PodDNSConfigOption": "name value",
    "HostAlias": "hostnames ip",
    "LocalObjectReference": "name",
    "PodOS": "name",
    "PodReadinessGate": "conditionType",
    "PodSecurityContext": """appArmorProfile fsGroup runAsGroup runAsNonRoot runAsUser seLinuxOptions seccompProfile
        supplementalGroups supplementalGroupsPolicy sysctls""",
    "Sysctl": "name value",
    "Volume": "configMap downwardAPI emptyDir hostPath name projected secret",
    "ConfigMapVolumeSource": "defaultMode items name optional",
    "SecretVolumeSource": "defaultMode items optional secretName",
    "KeyToPath": "key mode path",
    "DownwardAPIVolumeSource": "defaultMode items",
    "DownwardAPIVolumeFile": "fieldRef mode path resourceFieldRef",
    "EmptyDirVolumeSource": "medium sizeLimit",
    "HostPathVolumeSource": "path type",
    "ProjectedVolumeSource": "defaultMode sources",
    "VolumeProjection": "configMap downwardAPI secret serviceAccountToken",
    "ConfigMapProjection": "items name optional",
    "SecretProjection": "items name optional",
    "DownwardAPIProjection": "items",
    "ServiceAccountTokenProjection": "audience expirationSeconds path",
}
# Refused when a container, its configuration or a volume is made: bridge.spec, bridge.volumes, bridge.hooks.
REFUSED_LATER = {
    "EnvVarSource": "fileKeyRef",
    "LifecycleHandler": "tcpSocket",
    "Volume": """awsElasticBlockStore azureDisk azureFile cephfs cinder csi ephemeral fc flexVolume flocker
        gcePersistentDisk gitRepo glusterfs image iscsi nfs persistentVolumeClaim photonPersistentDisk portworxVolume
        quobyte rbd scaleIO storageos vsphereVolume""",
    "VolumeProjection": "clusterTrustBundle podCertificate",
}


def tables(kind: str) -> dict[str, set[str]]:
    """Each table's fields of that definition."""
    refused = REFUSED["Container"] if kind == "EphemeralContainer" else REFUSED.get(kind, ())
    idle = "Container" if kind == "EphemeralContainer" else kind
    return {
        "implemented": set(IMPLEMENTED.get(kind, "").split()),
        "refused": {*refused, *REFUSED_LATER.get(kind, "").split()},
        "no effect": {path.partition(".")[2] for path in NO_EFFECT if path.partition(".")[0] == idle},
    }


def reached() -> list[str]:
    """The definitions below PodSpec, through fields that are implemented."""
    found: list[str] = []
    todo = ["PodSpec"]
    while todo:
        kind = todo.pop(0)
        if kind not in found:
            found.append(kind)
            fields = schema.fields(kind)
            todo += [fields[name].type for name in tables(kind)["implemented"] & set(fields) if fields[name].nested]
    return found


def test_every_field_of_a_pod_stands_in_one_table() -> None:
    wrong = []
    for kind in reached():
        sorted_in = tables(kind)
        for field in schema.fields(kind):
            where = [name for name, fields in sorted_in.items() if field in fields]
            if len(where) != 1:
                wrong.append(f"{kind}.{field}: {' and '.join(where) or 'in no table'}")
    assert wrong == []


def test_the_tables_name_nothing_that_kubernetes_does_not_have() -> None:
    later = {"Container.devices"}  # refused already; the package does not have it yet
    kinds = {*IMPLEMENTED, *REFUSED, *REFUSED_LATER, *(path.partition(".")[0] for path in NO_EFFECT)}
    named = {f"{kind}.{field}" for kind in kinds for fields in tables(kind).values() for field in fields}
    had = {f"{kind}.{field}" for kind in kinds for field in schema.fields(kind)}
    assert named - had - later - {"EphemeralContainer.devices"} == set()
    assert set(IMPLEMENTED) - set(reached()) == set()


def test_a_field_that_has_no_effect_says_why() -> None:
    assert [path for path, reason in NO_EFFECT.items() if len(reason) < 10] == []


def volume(**source: Any) -> dict[str, Any]:
    return a_pod(volumes=[{"name": "v", **source}])


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        (a_pod(spec(volumeMounts=[{"bindMountOptions": ["x"]}])), "containers[0].volumeMounts[0].bindMountOptions"),
        (a_pod(spec(securityContext={"windowsOptions": {"a": 1}})), "containers[0].securityContext.windowsOptions"),
        (a_pod(securityContext={"windowsOptions": {"a": 1}}), "securityContext.windowsOptions"),
        (a_pod(securityContext={"seLinuxChangePolicy": "Recursive"}), "securityContext.seLinuxChangePolicy"),
        (a_pod(securityContext={"seLinuxChangePolicy": "MountOption"}), ""),
        (a_pod(securityContext={"fsGroupChangePolicy": "OnRootMismatch", "fsGroup": 1}), ""),
        (a_pod(resources={"claims": [{"name": "x"}]}), "resources.claims"),
        (
            a_pod(initContainers=[spec(lifecycle={"preStop": {"httpGet": {"port": 1, "protocol": "HTTP2"}}})]),
            "initContainers[0].lifecycle.preStop.httpGet.protocol",
        ),
        (volume(configMap={"name": "c", "defaultUser": 0}), "volumes[0].configMap.defaultUser"),
        (volume(secret={"defaultUser": 7}), "volumes[0].secret.defaultUser"),
        (volume(secret={"items": [{"key": "k", "path": "p", "user": 7}]}), "volumes[0].secret.items[0].user"),
        (volume(downwardAPI={"items": [{"path": "p", "user": 7}]}), "volumes[0].downwardAPI.items[0].user"),
        (volume(projected={"defaultUser": 7}), "volumes[0].projected.defaultUser"),
        (
            volume(projected={"sources": [{"secret": {"items": [{"user": 7}]}}]}),
            "volumes[0].projected.sources[0].secret.items[0].user",
        ),
        (
            volume(projected={"sources": [{"configMap": {}}, {"serviceAccountToken": {"path": "t", "user": 7}}]}),
            "volumes[0].projected.sources[1].serviceAccountToken.user",
        ),
        (volume(emptyDir={"mode": 448}), "volumes[0].emptyDir.mode"),
        (volume(emptyDir={"medium": "Memory"}, configMap=None), ""),
    ],
)
def test_a_field_that_would_be_ignored_is_refused_by_its_path(pod: dict[str, Any], path: str) -> None:
    assert unsupported(pod) == ([f"spec.{path}"] if path else [])
