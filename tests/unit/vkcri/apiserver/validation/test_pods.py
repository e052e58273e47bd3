"""What makes a pod invalid: one wrong field a row, found at its path with the API server's words."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, container, pod

MAIN = "spec.containers[0]"
FILE = f"{MAIN}.env[0].valueFrom.fileKeyRef"


def main(**fields: Any) -> dict[str, Any]:
    return pod(containers=[container(**fields)])


def volume(**source: Any) -> dict[str, Any]:
    return pod(volumes=[{"name": "v", **source}])


def mounted(*mounts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    volumes = [{"name": "v", "emptyDir": {}}]
    return pod(volumes=volumes, containers=[container(volumeMounts=list(mounts), **fields)])


def from_file(**reference: Any) -> dict[str, Any]:
    """A pod with a variable from a file of its emptyDir `v`, unless `reference` says otherwise."""
    source = {"volumeName": "v", "path": "a.env", "key": "A", **reference}
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x"}}]
    return pod(volumes=volumes, containers=[container(env=[{"name": "A", "valueFrom": {"fileKeyRef": source}}])])


def ruled(kind: str = "containers", policy: str = "Never", **rule: Any) -> dict[str, Any]:
    full = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}, **rule}
    item = {"name": "r", "image": "x", "restartPolicy": policy, "restartPolicyRules": [full]}
    return pod(**{"containers": [container()], kind: [item]})


GOOD: dict[str, dict[str, Any]] = {
    "plain": pod(),
    "dotted name": pod("a.b-c"),
    "two containers": pod(containers=[container(), {"name": "b", "image": "x"}]),
    "sidecar with a probe": pod(
        initContainers=[
            {"name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}
        ]
    ),
    "same volume at two places": mounted({"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}),
    "sub path": mounted({"name": "v", "mountPath": "/a", "subPath": "x/..y"}),
    "same port of two protocols": main(ports=[{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]),
    "odd but printable environment name": main(env=[{"name": "a.b-c d", "value": "1"}]),
    "labels by key": main(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}}]),
    "extended resource": main(resources={"limits": {"nvidia.com/gpu": "2"}}),
    "any toleration": pod(tolerations=[{"operator": "Exists"}]),
    "unknown storage that names what it must": volume(nfs={"server": "s", "path": "/p"}),
    "dns of its own": pod(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"], "searches": ["a.b", "_x.y."]}),
    "bidirectional by a privileged one": mounted(
        {"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}, securityContext={"privileged": True}
    ),
    "secret that may be absent": volume(secret={"secretName": "s", "optional": True}),
}


GOOD |= {
    "variable from a file": from_file(),
    "restart of all": ruled(),
    "restart of all by a sidecar": ruled("initContainers", "Always"),
}


@pytest.mark.parametrize("name", GOOD)
def test_valid(house: House, name: str) -> None:
    assert house.errors("/pods", GOOD[name]) == {}


BAD: list[tuple[dict[str, Any], str, str]] = [
    (pod("../x"), "metadata.name", "Invalid value"),
    (pod("a_b"), "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
    (pod("a" * 254), "metadata.name", "must be no more than 253 characters"),
    (pod(labels={"a b": "c"}), "metadata.labels", "name part must consist of alphanumeric characters"),
    (pod(labels={"a": "b c"}), "metadata.labels", "a valid label must be an empty string or consist of"),
    (pod(labels={"x/y/z": "b"}), "metadata.labels", "a qualified name must consist of"),
    (pod(containers=[]), "spec.containers", "Required value"),
    (pod(containers=[container(), container()]), "spec.containers[1].name", 'Duplicate value: "main"'),
    (pod(initContainers=[container()]), "spec.initContainers[0].name", 'Duplicate value: "main"'),
    (pod(containers=[{"image": "x"}]), f"{MAIN}.name", "Required value"),
    (pod(containers=[{"name": "A", "image": "x"}]), f"{MAIN}.name", "a lowercase RFC 1123 label"),
    (pod(containers=[{"name": "a"}]), f"{MAIN}.image", "Required value"),
    (main(image=" x"), f"{MAIN}.image", "must not have leading or trailing whitespace"),
    (main(imagePullPolicy="Sometimes"), f"{MAIN}.imagePullPolicy", '"Always", "IfNotPresent", "Never"'),
    (main(terminationMessagePolicy="x"), f"{MAIN}.terminationMessagePolicy", "Unsupported value"),
    (pod(restartPolicy="Maybe"), "spec.restartPolicy", 'supported values: "Always", "OnFailure", "Never"'),
    (pod(dnsPolicy="x"), "spec.dnsPolicy", "Unsupported value"),
    (pod(dnsPolicy="None"), "spec.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None"),
    (pod(dnsConfig={"nameservers": ["a"]}), "spec.dnsConfig.nameservers[0]", "must be a valid IP address"),
    (pod(dnsConfig={"nameservers": ["1.1.1.1"] * 4}), "spec.dnsConfig.nameservers", "must not have more than 3"),
    (pod(dnsConfig={"options": [{}]}), "spec.dnsConfig.options[0]", "must not be empty"),
    (pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "must be between 1 and 2147483647"),
    (pod(hostname="A"), "spec.hostname", "a lowercase RFC 1123 label"),
    (pod(nodeName="A_"), "spec.nodeName", "subdomain"),
    (pod(hostAliases=[{"ip": "x", "hostnames": ["a"]}]), "spec.hostAliases[0].ip", "must be a valid IP address"),
    (pod(shareProcessNamespace=True, hostPID=True), "spec.shareProcessNamespace", "cannot both be enabled"),
    (pod(hostUsers=False, hostNetwork=True), "spec.hostNetwork", "when `hostUsers` is false"),
    (pod(schedulingGates=[{"name": "a/b"}], nodeName="n"), "spec.nodeName", "schedulingGates have been cleared"),
    (pod(ephemeralContainers=[container(name="e")]), "spec.ephemeralContainers", "cannot be set on create"),
    # mounts
    (mounted({"name": "w", "mountPath": "/a"}), f"{MAIN}.volumeMounts[0].name", 'Not found: "w"'),
    (mounted({"mountPath": "/a"}), f"{MAIN}.volumeMounts[0].name", "Required value"),
    (mounted({"name": "v"}), f"{MAIN}.volumeMounts[0].mountPath", "Required value"),
    (
        mounted({"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}),
        f"{MAIN}.volumeMounts[1].mountPath",
        'Invalid value: "/a": must be unique',
    ),
    (
        mounted({"name": "v", "mountPath": "/a", "subPath": "../b"}),
        f"{MAIN}.volumeMounts.subPath",
        "must not contain '..'",
    ),
    (
        mounted({"name": "v", "mountPath": "/a", "subPath": "/b"}),
        f"{MAIN}.volumeMounts.subPath",
        "must be a relative path",
    ),
    (
        mounted({"name": "v", "mountPath": "/a", "subPath": "x", "subPathExpr": "y"}),
        f"{MAIN}.volumeMounts[0].subPathExpr",
        "mutually exclusive",
    ),
    (
        mounted({"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}),
        f"{MAIN}.volumeMounts.mountPropagation",
        "available only to privileged containers",
    ),
    (
        mounted({"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled"}),
        f"{MAIN}.volumeMounts.recursiveReadOnly",
        "may only be specified when readOnly is true",
    ),
    (main(volumeDevices=[{"name": "v", "devicePath": "/d"}]), f"{MAIN}.volumeDevices[0].name", "Not found"),
    # volumes
    (pod(volumes=[{"emptyDir": {}}]), "spec.volumes[0].name", "Required value"),
    (pod(volumes=[{"name": "v"}, {"name": "v"}]), "spec.volumes[1].name", 'Duplicate value: "v"'),
    (volume(emptyDir={}, hostPath={"path": "/x"}), "spec.volumes[0].hostPath", "more than 1 volume type"),
    (volume(emptyDir={"sizeLimit": "-1"}), "spec.volumes[0].emptyDir.sizeLimit", "Forbidden"),
    (volume(emptyDir={"sizeLimit": "-1"}), "spec.volumes[0].emptyDir.sizeLimit", "must be a valid resource quantity"),
    (volume(hostPath={"path": "/a/../b"}), "spec.volumes[0].hostPath.path", "must not contain '..'"),
    (volume(hostPath={"path": "/a", "type": "x"}), "spec.volumes[0].hostPath.type", "Unsupported value"),
    (volume(configMap={}), "spec.volumes[0].configMap.name", "Required value"),
    (volume(secret={"secretName": "s", "defaultMode": 512}), "spec.volumes[0].secret.defaultMode", "0777"),
    (
        volume(configMap={"name": "c", "items": [{"key": "k", "path": "../../etc/passwd"}]}),
        "spec.volumes[0].configMap.items[0].path",
        "must not contain '..'",
    ),
    (
        volume(configMap={"name": "c", "items": [{"key": "k", "path": "..data"}]}),
        "spec.volumes[0].configMap.items[0].path",
        "must not start with '..'",
    ),
    (
        volume(downwardAPI={"items": [{"path": "/a", "fieldRef": {"fieldPath": "metadata.labels"}}]}),
        "spec.volumes[0].downwardAPI.path",
        "must be a relative path",
    ),
    (
        volume(downwardAPI={"items": [{"path": "a", "fieldRef": {"fieldPath": "status.podIP"}}]}),
        "spec.volumes[0].downwardAPI.fieldRef.fieldPath",
        "Unsupported value",
    ),
    (
        volume(projected={"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}),
        "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds",
        "may not specify a duration less than 10 minutes",
    ),
    (
        volume(projected={"sources": [{"secret": {"name": "a"}, "configMap": {"name": "b"}}]}),
        "spec.volumes[0].projected.sources[0]",
        "may not specify more than 1 volume type",
    ),
    (
        volume(
            projected={
                "sources": [
                    {"configMap": {"name": "a", "items": [{"key": "x", "path": "p"}]}},
                    {"configMap": {"name": "b", "items": [{"key": "x", "path": "p"}]}},
                ]
            }
        ),
        "spec.volumes[0].projected",
        "conflicting duplicate paths",
    ),
    (volume(nfs={"server": "s"}), "spec.volumes[0].nfs.path", "Required value"),
    # environment
    (main(env=[{"name": ""}]), f"{MAIN}.env[0].name", "Required value"),
    (from_file(key=""), f"{FILE}.key", "Required value"),
    (from_file(key="a=b"), f"{FILE}.key", "printable ASCII characters other than '='"),
    (from_file(path=""), f"{FILE}.path", "Required value"),
    (from_file(path="a/../b"), f"{FILE}.path", "must not contain '..'"),
    (from_file(volumeName=""), f"{FILE}.volumeName", "Required value"),
    (from_file(volumeName="A"), f"{FILE}.volumeName", "a lowercase RFC 1123 label must consist of"),
    (from_file(volumeName="w"), f"{FILE}.volumeName", "Not found"),
    (from_file(volumeName="h"), f"{FILE}.volumeName", "referenced volume must be of type emptyDir"),
    # restart rules
    (ruled(action="Stop"), f"{MAIN}.restartPolicyRules[0].action", "Restart"),
    (ruled(exitCodes=None), f"{MAIN}.restartPolicyRules[0].exitCodes", "must be specified"),
    (
        ruled(exitCodes={"operator": "In", "values": list(range(256))}),
        f"{MAIN}.restartPolicyRules[0].exitCodes.values",
        "must have at most 255 items",
    ),
    (
        main(restartPolicy="Never", restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "In"}}] * 21),
        f"{MAIN}.restartPolicyRules",
        "must have at most 20 items",
    ),
    (main(env=[{"name": "a=b"}]), f"{MAIN}.env[0].name", "printable ASCII characters other than '='"),
    (main(env=[{"name": "A", "valueFrom": {}}]), f"{MAIN}.env[0].valueFrom", "must specify one of"),
    (
        main(env=[{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        f"{MAIN}.env[0].valueFrom",
        "may not be specified when `value` is not empty",
    ),
    (
        main(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
        f"{MAIN}.env[0].valueFrom.fieldRef.fieldPath",
        "error converting fieldPath: field label not supported: spec.x",
    ),
    (
        main(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.schedulerName"}}}]),
        f"{MAIN}.env[0].valueFrom.fieldRef.fieldPath",
        'Unsupported value: "spec.schedulerName"',
    ),
    (
        main(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "../x"}}}]),
        f"{MAIN}.env[0].valueFrom.configMapKeyRef.key",
        "a valid config key",
    ),
    (
        main(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}]),
        f"{MAIN}.env[0].valueFrom.resourceFieldRef.divisor",
        "only divisor's values 1m and 1 are supported with the cpu resource",
    ),
    (main(envFrom=[{}]), f"{MAIN}.envFrom", "must specify one of: `configMapRef` or `secretRef`"),
    (main(envFrom=[{"secretRef": {}}]), f"{MAIN}.envFrom[0].secretRef.name", "Required value"),
    # ports
    (main(ports=[{}]), f"{MAIN}.ports[0].containerPort", "Required value"),
    (main(ports=[{"containerPort": 70000}]), f"{MAIN}.ports[0].containerPort", "must be between 1 and 65535"),
    (main(ports=[{"containerPort": 1, "name": "UPPER"}]), f"{MAIN}.ports[0].name", "must contain only alpha-numeric"),
    (main(ports=[{"containerPort": 1, "name": "a" * 16}]), f"{MAIN}.ports[0].name", "no more than 15 characters"),
    (main(ports=[{"containerPort": 1, "protocol": "X"}]), f"{MAIN}.ports[0].protocol", "Unsupported value"),
    (
        main(ports=[{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
        f"{MAIN}.ports[1].hostPort",
        "Duplicate value",
    ),
    (
        pod(hostNetwork=True, containers=[container(ports=[{"containerPort": 1, "hostPort": 2}])]),
        f"{MAIN}.ports[0].hostPort",
        "must match `containerPort` when `hostNetwork` is true",
    ),
    # resources
    (
        main(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
        f"{MAIN}.resources.requests",
        'Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    (main(resources={"limits": {"cpu": "-1"}}), f"{MAIN}.resources.limits[cpu]", "greater than or equal to 0"),
    (
        main(resources={"limits": {"bananas": "1"}}),
        f"{MAIN}.resources.limits[bananas]",
        "a standard resource type",
    ),
    (
        main(resources={"requests": {"nvidia.com/gpu": "1"}}),
        f"{MAIN}.resources.limits",
        "Limit must be set for non overcommitable resources",
    ),
    (
        pod(resources={"requests": {"cpu": "1"}}, containers=[container(resources={"requests": {"cpu": "2"}})]),
        "spec.resources.requests[cpu]",
        "must be greater than or equal to aggregate container requests of 2",
    ),
    (pod(resources={"limits": {"a.b/c": "1"}}), "spec.resources.limits[a.b/c]", "Unsupported value"),
    (main(resources={"limits": {"a.b/c": "500m"}}), f"{MAIN}.resources.limits[a.b/c]", "must be an integer"),
    # probes and hooks
    (main(livenessProbe={}), f"{MAIN}.livenessProbe", "must specify a handler type"),
    (
        main(livenessProbe={"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
        f"{MAIN}.livenessProbe.tcpSocket",
        "may not specify more than 1 handler type",
    ),
    (main(livenessProbe={"exec": {}}), f"{MAIN}.livenessProbe.exec.command", "Required value"),
    (main(livenessProbe={"httpGet": {"port": 0}}), f"{MAIN}.livenessProbe.httpGet.port", "between 1 and 65535"),
    (
        main(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
        f"{MAIN}.livenessProbe.successThreshold",
        "must be 1",
    ),
    (
        main(readinessProbe={"tcpSocket": {"port": 1}, "periodSeconds": -1}),
        f"{MAIN}.readinessProbe.periodSeconds",
        "must be greater than or equal to 0",
    ),
    (
        main(readinessProbe={"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}),
        f"{MAIN}.readinessProbe.terminationGracePeriodSeconds",
        "must not be set for readinessProbes",
    ),
    (
        main(livenessProbe={"httpGet": {"path": "/", "port": 1, "scheme": "HTTPS", "protocol": "HTTP2"}}),
        f"{MAIN}.livenessProbe.httpGet.protocol",
        "is only supported with HTTP (H2C)",
    ),
    (
        main(livenessProbe={"httpGet": {"path": "/", "port": 1, "scheme": "HTTP", "protocol": "SPDY"}}),
        f"{MAIN}.livenessProbe.httpGet.protocol",
        "Unsupported value",
    ),
    (main(livenessProbe={"grpc": {"port": 1, "mode": "X"}}), f"{MAIN}.livenessProbe.grpc.mode", "Unsupported value"),
    (main(lifecycle={"preStop": {}}), f"{MAIN}.lifecycle.preStop", "must specify a handler type"),
    (
        pod(initContainers=[container(name="i", livenessProbe={"exec": {"command": ["x"]}})]),
        "spec.initContainers[0].livenessProbe",
        "may not be set for init containers without restartPolicy=Always",
    ),
    # security
    (pod(securityContext={"runAsUser": -1}), "spec.securityContext.runAsUser", "between 0 and 2147483647"),
    (
        main(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
        f"{MAIN}.securityContext",
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        main(securityContext={"seccompProfile": {"type": "Localhost"}}),
        f"{MAIN}.securityContext.seccompProfile.localhostProfile",
        "Required value",
    ),
    (
        main(securityContext={"seccompProfile": {}}),
        f"{MAIN}.securityContext.seccompProfile.type",
        "Required value: type is required when seccompProfile is set",
    ),
    (
        main(securityContext={"appArmorProfile": {"localhostProfile": "x"}}),
        f"{MAIN}.securityContext.appArmorProfile.type",
        "Required value: type is required when appArmorProfile is set",
    ),
    (
        main(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}}),
        f"{MAIN}.securityContext.appArmorProfile.localhostProfile",
        "must not be padded with whitespace",
    ),
    (
        pod(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": "x" * 4096}}),
        "spec.securityContext.appArmorProfile.localhostProfile",
        "may not be more than 4095 bytes",
    ),
    # placement
    (pod(nodeSelector={"a": "b c"}), "spec.nodeSelector", "a valid label"),
    (pod(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator", "operator must be Exists when `key`"),
    (
        pod(tolerations=[{"key": "a", "tolerationSeconds": 1}]),
        "spec.tolerations[0].effect",
        "effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    (
        pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
        "must have at least one node selector term",
    ),
    (
        pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
        "spec.topologySpreadConstraints[0].maxSkew",
        "must be greater than zero",
    ),
]


@pytest.mark.parametrize(("obj", "path", "text"), BAD, ids=[path for _, path, _ in BAD])
def test_invalid(house: House, obj: dict[str, Any], path: str, text: str) -> None:
    found = house.errors("/pods", obj)
    assert path in found, found
    assert text in found[path]


def test_all_errors_are_told_at_once(house: House) -> None:
    bad = pod("A", restartPolicy="x", containers=[container(image="", ports=[{"containerPort": 0}])])
    assert {"metadata.name", "spec.restartPolicy", f"{MAIN}.image", f"{MAIN}.ports[0].containerPort"} <= set(
        house.errors("/pods", bad)
    )
