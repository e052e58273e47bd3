"""Pods that the node ends: those over their own limits of its disks, and one after the other where it is short of
memory, disk or processes itself.

`local` judges a pod by what was measured of it, `thresholds` and `pressure` the node, `ranking` says who comes first
(all pure); `evictor` is the thread that looks and acts. The numbers are those of the kubelet's Summary (bridge.stats),
the sentences the kubelet's (pkg/kubelet/eviction).
"""
