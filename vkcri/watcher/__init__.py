"""api-watcher: everything said to and heard from the API server; it alone holds credentials for it.

main           the process                         requests     tokens and reviews, asked over the queue
node           whose Node this is, registration    nodestatus   the Node's status, pure
lease          the Lease of the node               dirty        keys that need work, one in flight each
pods           topic pods                          references   topic objects: what those pods refer to
status         pod-status to the API server        podpatch     the difference as a patch, pure
services       topics services, endpointslices,    events       topic events of each role to the API server
               runtimeclasses
metrics        counters as Prometheus text         versions     which of two copies of an object is newer, pure
credentials    the node's own certificate: TLS     certificates CertificateSigningRequests, each made once
               bootstrap and renewal               registration a Node found, made, adopted, or another agent's
identity       who we are to the API server        access       what it keeps us from, as notices
sizes          what fits into a message                manifests    a file as the kubelet reads a static pod, pure
staticpods     source `file` of topic pods, a folder   podhash      the UID of a static pod, by its content, pure
mirrors        the API server's copies of static pods
"""
