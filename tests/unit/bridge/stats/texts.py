"""Files of a cgroup as kernels write them, on v1 and v2, of the same imagined container."""

V1 = {
    "cpuacct.usage": "5000000000\n",
    "cpuacct.stat": "user 300\nsystem 200\n",
    "cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000\n",
    "cpu.shares": "512\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.cfs_quota_us": "50000\n",
    "memory.usage_in_bytes": "104857600\n",
    "memory.stat": (
        "cache 1\nrss 2\nswap 0\npgfault 900\npgmajfault 7\ninactive_file 3\nhierarchical_memory_limit 209715200\n"
        "total_cache 31457280\ntotal_rss 62914560\ntotal_mapped_file 4096\ntotal_swap 8192\ntotal_pgfault 990\n"
        "total_inactive_file 20971520\ntotal_active_file 10485760\n"
    ),
    "memory.limit_in_bytes": "209715200\n",
    "memory.memsw.limit_in_bytes": "209715200\n",
    "memory.max_usage_in_bytes": "157286400\n",
    "memory.failcnt": "3\n",
    "memory.kmem.usage_in_bytes": "65536\n",
    "memory.soft_limit_in_bytes": "9223372036854771712\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "blkio.throttle.io_serviced_recursive": "8:0 Read 5\n8:0 Write 6\n8:0 Sync 11\n8:0 Total 11\nTotal 11\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 20480\n8:0 Write 24576\nTotal 45056\n",
    "pids.current": "12\n",
    "pids.max": "max\n",
}
_PRESSURE = (
    "some avg10=1.50 avg60=0.25 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n"
)
V2 = {
    "cpu.stat": (
        "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 4\n"
        "throttled_usec 1500000\nnr_bursts 0\nburst_usec 0\n"
    ),
    "cpu.weight": "20\n",
    "cpu.max": "50000 100000\n",
    "cpu.pressure": _PRESSURE,
    "memory.pressure": _PRESSURE,
    "io.pressure": _PRESSURE,
    "memory.current": "104857600\n",
    "memory.stat": (
        "anon 62914560\nfile 31457280\nfile_mapped 4096\ninactive_file 20971520\nactive_file 10485760\npgfault 900\n"
        "pgmajfault 7\n"
    ),
    "memory.max": "209715200\n",
    "memory.swap.current": "8192\n",
    "memory.swap.max": "max\n",
    "memory.peak": "157286400\n",
    "memory.min": "0\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n",
    "io.stat": "8:0 rbytes=20480 wbytes=24576 rios=5 wios=6 dbytes=0 dios=0\n",
    "pids.current": "12\n",
    "pids.max": "max\n",
}
