"""Pods that the node ends: what they take of its disks, beyond their own limits.

`local` judges a pod by what was measured of it (pure); `evictor` is the thread that looks and acts. The numbers are
those of the kubelet's Summary (bridge.stats), the sentences the kubelet's (pkg/kubelet/eviction).
"""
