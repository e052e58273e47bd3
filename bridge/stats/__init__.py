"""What the node and its pods use, as the kubelet tells it: Summary, cAdvisor's page, and a short history for people.

usage, detail, network    pure: the kernel's texts as numbers        reading   those texts, read
processes                 our programs and the runtime, measured     disk      file systems, folders, logs
samples    the thread that samples every cgroup of ours              volumes   the thread that measures volumes
shapes, summary, cadvisor pure: samples as Summary and as metrics    answers   the provider's requests, cached

A request never samples: what it is given is at most a period old, so ten scrapers cost little more than one.
"""
