"""Startup, liveness and readiness probes, as pkg/kubelet/prober runs them: for 250 pods on one thread.

`track` (one probe's state), `verdict` (what an outcome means) and `view` (a pod as its probes see it) are pure;
`checks` runs one probe once on bridge.wire and CRI, `prober` runs all of them when they are due, `metrics` counts.
"""
