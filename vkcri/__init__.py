"""vkcri: one Linux guest as a Kubernetes node. This package is the Kubernetes half; `bridge` is the runtime half.

instance, config, setting, errors     what every process shares: names and settings, errors,
lifecycle, metrics                    the skeleton of a process and what it counts,
selfwatch, backoff                    an end to one that is stuck, and how long to wait before the next try
api/        pure: quantities, selectors, pod accessors, CRI's log line
queue/      state between processes over Unix sockets: the contract that a provider speaks (ARCHITECTURE.md)
httpd, connection, http1, splice      HTTPS for many slow clients, HTTP/1.1's words, bytes after an upgrade
certs, signing, apart                 keys and certificates; those that a cluster's CA signs, and their renewal
kube/       the only user of the kubernetes package: client and reflector
watcher/    api-watcher: everything said to and heard from the API server; it alone holds credentials for it, got by TLS
            bootstrap or given
kubelet/    log-server: the kubelet API and the log API for people
proxy/      kube-proxy: Services into one nftables table
apiserver/  the embedded API server, for a guest without a cluster
cli/        the command `vkcri`: up, down, reset, status, logs, doctor, queue tail, supervisor-conf

A package is a process; packages of two processes never import each other, and `vkcri` never imports `bridge`.
`make check` holds these arrows.
"""
