"""Which empty values stand in an object and which are left out: what Kubernetes 1.37's Go types say about each field.

Pure tables for schema.py. A server whose objects are Go structs cannot tell an empty text, 0 or false from an absent
field, unless the field is a pointer (POINTERS); and a field that Go writes in any case is there in every answer, empty
or not (`is_written`). Clients meet both: `hostPort: 0` and `hostname: ""` are as good as not given, so that defaults
apply to them, and a condition has `lastProbeTime: null`. Source: the json tags in k8s.io/api.
"""

from typing import Any, Final

_POINTERS: Final = {
    "AppArmorProfile": "localhostProfile",
    "AzureDiskVolumeSource": "cachingMode fsType kind readOnly",
    "CSIVolumeSource": "fsType readOnly",
    "ClientIPConfig": "timeoutSeconds",
    "ClusterTrustBundleProjection": "name optional signerName user",
    "ConfigMap": "immutable",
    "ConfigMapEnvSource": "optional",
    "ConfigMapKeySelector": "optional",
    "ConfigMapProjection": "optional",
    "ConfigMapVolumeSource": "defaultMode defaultUser optional",
    "Container": "restartPolicy",
    "ContainerStatus": "started stopSignal",
    "CoreV1EndpointPort": "appProtocol",
    "DeleteOptions": "gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents"
    " propagationPolicy",
    "DiscoveryV1EndpointPort": "appProtocol name port protocol",
    "DownwardAPIVolumeFile": "mode user",
    "DownwardAPIVolumeSource": "defaultMode defaultUser",
    "EmptyDirVolumeSource": "mode sizeLimit",
    "Endpoint": "hostname nodeName zone",
    "EndpointAddress": "nodeName",
    "EndpointConditions": "ready serving terminating",
    "EphemeralContainer": "restartPolicy",
    "EvictionResponder": "priority",
    "FCVolumeSource": "lun",
    "FileKeySelector": "optional",
    "GRPCAction": "mode service",
    "HTTPGetAction": "protocol",
    "HostPathVolumeSource": "type",
    "ISCSIVolumeSource": "initiatorName",
    "KeyToPath": "mode user",
    "LeaseSpec": "holderIdentity leaseDurationSeconds leaseTransitions preferredHolder strategy",
    "Lifecycle": "stopSignal",
    "LoadBalancerIngress": "ipMode",
    "NodeAllocatableMappedResources": "quantity",
    "NodeAllocatableOverheadResources": "perContainer perPod",
    "NodeFeatures": "supplementalGroupsPolicy",
    "NodeRuntimeHandlerFeatures": "recursiveReadOnlyMounts userNamespaces",
    "NodeSwapStatus": "capacity",
    "NodeSystemInfo": "runningInUserNamespace",
    "ObjectMeta": "deletionGracePeriodSeconds",
    "OwnerReference": "blockOwnerDeletion controller",
    "PersistentVolumeClaimSpec": "storageClassName volumeAttributesClassName volumeMode",
    "PodCertificateProjection": "maxExpirationSeconds user",
    "PodDNSConfigOption": "value",
    "PodResourceClaim": "resourceClaimName resourceClaimTemplateName",
    "PodResourceClaimStatus": "resourceClaimName",
    "PodSchedulingGroup": "podGroupName",
    "PodSecurityContext": "fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy"
    " supplementalGroupsPolicy",
    "PodSpec": "activeDeadlineSeconds automountServiceAccountToken enableServiceLinks hostUsers hostnameOverride"
    " preemptionPolicy priority runtimeClassName setHostnameAsFQDN shareProcessNamespace terminationGracePeriodSeconds",
    "PortStatus": "error",
    "Preconditions": "resourceVersion uid",
    "Probe": "terminationGracePeriodSeconds",
    "ProjectedVolumeSource": "defaultMode defaultUser",
    "ResourceHealth": "message",
    "SeccompProfile": "localhostProfile",
    "Secret": "immutable",
    "SecretEnvSource": "optional",
    "SecretKeySelector": "optional",
    "SecretProjection": "optional",
    "SecretVolumeSource": "defaultMode defaultUser optional",
    "SecurityContext": "allowPrivilegeEscalation privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot"
    " runAsUser",
    "ServiceAccount": "automountServiceAccountToken",
    "ServiceAccountTokenProjection": "expirationSeconds user",
    "ServicePort": "appProtocol",
    "ServiceSpec": "allocateLoadBalancerNodePorts internalTrafficPolicy ipFamilyPolicy loadBalancerClass"
    " trafficDistribution",
    "TokenRequestSpec": "expirationSeconds",
    "Toleration": "tolerationSeconds",
    "TopologySpreadConstraint": "minDomains nodeAffinityPolicy nodeTaintsPolicy",
    "TypedLocalObjectReference": "apiGroup",
    "TypedObjectReference": "apiGroup namespace",
    "VolumeMount": "mountPropagation recursiveReadOnly",
    "VolumeMountStatus": "recursiveReadOnly",
    "WindowsSecurityContextOptions": "gmsaCredentialSpec gmsaCredentialSpecName hostProcess runAsUserName",
}
POINTERS: Final = frozenset((kind, name) for kind, names in _POINTERS.items() for name in names.split())
# Written in any case, though an object need not have them: structs, which omitempty does not leave out, and a few more.
_WRITTEN: Final = {
    "Container": "resources",
    "ContainerImage": "names",
    "ContainerStateRunning": "startedAt",
    "ContainerStateTerminated": "finishedAt startedAt",
    "ContainerStatus": "lastState state",
    "CoreV1EventSeries": "lastObservedTime",
    "Endpoint": "conditions",
    "EndpointSlice": "endpoints ports",
    "EphemeralContainer": "resources",
    "Event": "eventTime firstTimestamp lastTimestamp reportingComponent reportingInstance source",
    "GRPCAction": "service",
    "Lease": "spec",
    "LocalSubjectAccessReview": "status",
    "Namespace": "spec status",
    "NamespaceCondition": "lastTransitionTime",
    "Node": "spec status",
    "NodeCondition": "lastHeartbeatTime lastTransitionTime",
    "NodeDaemonEndpoints": "kubeletEndpoint",
    "NodeRuntimeHandler": "name",
    "NodeStatus": "daemonEndpoints nodeInfo",
    "PersistentVolumeClaimSpec": "resources",
    "Pod": "spec status",
    "PodCondition": "lastProbeTime lastTransitionTime",
    "PodVolumeHealth": "lastTransitionTime",
    "ProjectedVolumeSource": "sources",
    "ResourceFieldSelector": "divisor",
    "SelfSubjectAccessReview": "status",
    "SelfSubjectReview": "status",
    "SelfSubjectReviewStatus": "userInfo",
    "SelfSubjectRulesReview": "status",
    "Service": "spec status",
    "ServicePort": "targetPort",
    "ServiceStatus": "loadBalancer",
    "SubjectAccessReview": "status",
    "TokenRequest": "spec status",
    "TokenRequestSpec": "audiences boundObjectRef expirationSeconds",
    "TokenRequestStatus": "expirationTimestamp token",
    "TokenReview": "status",
    "TokenReviewStatus": "user",
    "TypedLocalObjectReference": "apiGroup",
    "TypedObjectReference": "apiGroup",
}
WRITTEN: Final = frozenset((kind, name) for kind, names in _WRITTEN.items() for name in names.split())
# Required, but left out while empty.
_LEFT_OUT: Final = frozenset(
    {
        ("ContainerRestartRule", "action"),
        ("ContainerRestartRuleOnExitCodes", "operator"),
        ("ImageVolumeStatus", "imageRef"),
        ("PodCertificateProjection", "keyType"),
        ("PodCertificateProjection", "signerName"),
        ("TokenReviewSpec", "token"),
    }
)
# Pointers that are written as null.
_NULLS: Final = frozenset({("ScaleIOVolumeSource", "secretRef"), ("TokenRequestSpec", "boundObjectRef")})
_SCALARS: Final[dict[str, Any]] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "int-or-string": 0,
    "quantity": "0",
}


def is_written(kind: str, name: str, *, required: bool) -> bool:
    """Whether an answer has the field even while it is empty. `required`: whether an object must have it."""
    return (required and (kind, name) not in _LEFT_OUT) or (kind, name) in WRITTEN


def scalar(kind: str, name: str, type_: str) -> Any:
    """The empty value of a field that is no list, map or definition; None is JSON's null."""
    return None if (kind, name) in POINTERS | _NULLS else _SCALARS.get(type_)


def is_null(kind: str, name: str) -> bool:
    """Whether an absent definition is written as null and not as an empty object."""
    return (kind, name) in _NULLS
