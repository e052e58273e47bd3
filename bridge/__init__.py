"""cri-bridge, the runtime half of vkcri: everything said to and heard from CRI, and the pods' volumes and cgroups.

runtime     the only user of CRI gRPC; containerd, network and images make a bare guest ready for it
relist, observe, admit, decide, act, report, worker    one pod's loop: observe, decide, act, report
spec/       pure: a pod's fields as CRI's sandbox and container configurations
volumes/    a module a kind, the atomic writer, tokens
cgroups, images, probes              what else a pod needs on the guest

It speaks to the rest over the queue only and imports nothing of `vkcri` but instance, config, errors, lifecycle,
backoff, metrics, queue and api, so that another provider can take its place (examples/providers).
"""
