"""A real Kubernetes control plane on this guest, built from Go modules: `make cluster`, `make cluster-stop`.

versions, module   pure: which Kubernetes, and the tool module that builds it
golang             the only user of the go client
programs, etcd     the cache of built programs, and Debian's etcd beside them
place              folder, ports and ranges of one cluster, by its number
pki, commands      certificates and kubeconfigs; each program's arguments
processes          detached processes, found again by a mark in their environment
objects            what kubeadm would have created: roles, a bootstrap token, CoreDNS' Service
control            `Cluster`: start, stop, identities; what tests use
joined             a node's programs that have joined it, without supervisord
rival, rival_config  the real kubelet and kube-proxy as another node: `make rival`
answers, answer_differences  the kubelet API's answers beside the kubelet's, and what may differ, and why
debian, kubectls   single programs of other Debian releases, and kubectl of several ages
"""
