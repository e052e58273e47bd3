"""What a node bound to system:node-proxier may do, row by row: the table that the embedded API server is held to, and
that the real one is asked to confirm (tests/cluster).

Read from Kubernetes 1.37's NodeRules, system:node-proxier and the Node authorizer. A row: group, resource or
resource/subresource, where, the name that is asked for, the verbs that are allowed; every other verb is refused.
"Where" is a namespace, "" for a kind without one or for all of them.
"""

from typing import NamedTuple

from tests.unit.vkcri.apiserver.house import NODE

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
READ = "get list watch"
LEASE_VERBS = "get create update patch delete"


class Row(NamedTuple):
    """`reason`: what the Node authorizer says to the first verb of VERBS that is refused."""

    group: str
    resource: str
    namespace: str
    name: str
    allowed: str
    reason: str = ""

    @property
    def parts(self) -> tuple[str, str]:
        """Resource and subresource."""
        resource, _, subresource = self.resource.partition("/")
        return resource, subresource


UNRELATED = f"no relationship found between node '{NODE}' and this object"
ROWS = [
    # What pods of the node refer to: one named object at a time, read only
    Row("", "configmaps", "default", "wanted", READ, "can only read resources of this type"),
    Row("", "configmaps", "default", "kube-root-ca.crt", READ, "can only read resources of this type"),
    Row("", "configmaps", "default", "foreign", "", UNRELATED),
    Row("", "configmaps", "default", "", "", "No Object name found"),
    Row("", "configmaps", "", "", "", "can only read namespaced object of this type"),
    Row("", "secrets", "default", "wanted", READ, "can only read resources of this type"),
    Row("", "secrets", "kube-system", "wanted", "", UNRELATED),
    Row("", "secrets", "default", "", "", "No Object name found"),
    Row("", "secrets/status", "default", "wanted", "", "cannot read subresource"),
    # Claims and volumes: get only
    Row("", "persistentvolumeclaims", "default", "claimed", "get", "can only get individual resources of this type"),
    Row("", "persistentvolumeclaims", "default", "mine-made", "get", "can only get individual resources of this type"),
    Row("", "persistentvolumeclaims", "default", "foreign", "", UNRELATED),
    Row("", "persistentvolumeclaims", "default", "", "", "No Object name found"),
    Row("", "persistentvolumeclaims/status", "default", "claimed", "update patch", "can only get/update/patch this"),
    Row("", "persistentvolumeclaims/status", "default", "foreign", "", "can only get/update/patch this type"),
    Row("", "persistentvolumes", "", "volume", "", UNRELATED),
    Row("", "persistentvolumes", "", "", "", "No Object name found"),
    Row("storage.k8s.io", "volumeattachments", "", "attachment", "", UNRELATED),
    # Accounts of its pods
    Row("", "serviceaccounts", "default", "default", "get", "can only create tokens for individual service accounts"),
    Row("", "serviceaccounts", "default", "ghost", "", UNRELATED),
    Row("", "serviceaccounts", "default", "", "", "No Object name found"),
    Row("", "serviceaccounts/token", "default", "default", "create", "can only create tokens"),
    Row("", "serviceaccounts/token", "default", "ghost", "", "can only create tokens"),
    # Pods: its own to read; admission looks at the ones that it writes
    Row("", "pods", "default", "mine", f"{READ} create delete"),
    Row("", "pods", "default", "other", "create delete", UNRELATED),
    Row("", "pods", "default", "gone", "create delete", UNRELATED),
    Row("", "pods", "default", "", "create delete", "No Object name found"),
    Row("", "pods", "", "", "create delete", "No Object name found"),
    Row("", "pods/status", "default", "mine", "update patch"),
    Row("", "pods/status", "default", "other", "update patch"),
    Row("", "pods/eviction", "default", "mine", "create"),
    Row("", "pods/exec", "default", "mine", ""),
    Row("", "pods/log", "default", "mine", ""),
    Row("", "pods/binding", "default", "mine", ""),
    # Nodes: all to read by system:node-proxier; admission looks at the ones that it writes
    Row("", "nodes", "", NODE, f"{READ} create update patch"),
    Row("", "nodes", "", "n2", f"{READ} create update patch"),
    Row("", "nodes", "", "", f"{READ} create update patch"),
    Row("", "nodes/status", "", NODE, "update patch"),
    Row("", "nodes/status", "", "n2", "update patch"),
    Row("", "nodes/proxy", "", NODE, ""),
    Row("coordination.k8s.io", "leases", "kube-node-lease", NODE, LEASE_VERBS, "can only get, create, update, patch"),
    Row("coordination.k8s.io", "leases", "kube-node-lease", "n2", "create", "same name as the requesting node"),
    Row("coordination.k8s.io", "leases", "default", NODE, "", 'leases in the "kube-node-lease" system namespace'),
    Row("storage.k8s.io", "csinodes", "", NODE, LEASE_VERBS, "can only get, create, update, patch"),
    Row("storage.k8s.io", "csinodes", "", "n2", "create", "can only access CSINode with the same name"),
    Row("storage.k8s.io", "csinodes/status", "", NODE, "", "requires CSIVolumeHealth feature"),
    # By the roles alone
    Row("", "services", "", "", READ),
    Row("", "services", "default", "web", READ),
    Row("", "services/status", "default", "web", ""),
    Row("", "endpoints", "", "", READ),
    Row("discovery.k8s.io", "endpointslices", "", "", "list watch"),
    Row("discovery.k8s.io", "endpointslices", "default", "web", "list watch"),
    Row("networking.k8s.io", "servicecidrs", "", "", "list watch"),
    Row("", "events", "default", "", "create update patch"),
    Row("events.k8s.io", "events", "default", "", "create update patch"),
    Row("certificates.k8s.io", "certificatesigningrequests", "", "", f"{READ} create"),
    Row("certificates.k8s.io", "certificatesigningrequests/approval", "", "x", ""),
    Row("certificates.k8s.io", "certificatesigningrequests/nodeclient", "", "", ""),
    Row("certificates.k8s.io", "clustertrustbundles", "", "", READ),
    Row("node.k8s.io", "runtimeclasses", "", "", READ),
    Row("storage.k8s.io", "csidrivers", "", "", READ),
    Row("storage.k8s.io", "storageclasses", "", "", ""),
    Row("authentication.k8s.io", "tokenreviews", "", "", "create"),
    Row("authorization.k8s.io", "subjectaccessreviews", "", "", "create"),
    Row("authorization.k8s.io", "localsubjectaccessreviews", "default", "", "create"),
    Row("authorization.k8s.io", "selfsubjectaccessreviews", "", "", "create"),
    Row("authentication.k8s.io", "selfsubjectreviews", "", "", "create"),
    # Nothing of these
    Row("", "namespaces", "", "default", ""),
    Row("", "bindings", "default", "", ""),
    Row("apps", "deployments", "default", "", ""),
    Row("rbac.authorization.k8s.io", "clusterrolebindings", "", "", ""),
    Row("coordination.k8s.io", "leasecandidates", "default", "", ""),
]
