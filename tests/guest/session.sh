#!/bin/bash
# The user's session inside the guest, in two boots: on the containerd that apt started, then on our own, then after a
# reboot. Each step prints "ok NAME" or "not ok NAME" on the serial console; tests/guest/test_guest.py reads them.
set -u
cd /root/vkcri
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
export PIP_NO_INDEX=1 # whatever make run still wanted to fetch would fail
. .venv/bin/activate
export KUBECONFIG=/var/lib/vk-cri/admin.conf

step() { # NAME COMMAND...: run it, say how it went, show its output when it failed
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok $name"
    else
        { echo "$output" | tail -n 25; tail -n 15 /var/log/vk-cri/cri-bridge.log; } | sed 's/^/  | /'
        echo "not ok $name"
    fi
}
within() { # SECONDS COMMAND...: again and again until it succeeds
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { "$@"; return 1; }
        sleep 1
    done
}
pod_is() { # POD PHASE
    local found
    found=$(kubectl get pod "$1" -o 'jsonpath={.status.phase} {.status}')
    echo "$found"
    [ "${found%% *}" = "$2" ]
}
logged() { kubectl logs "$1" | grep -q "$2"; }
node_ready() { kubectl get nodes | grep -q ' Ready '; }
nothing_left() { # no process, mount, cgroup or table of ours
    ! pgrep -f '/root/vkcri/.venv/bin/(supervisord|vkcri-)' && ! grep -q ' /var/lib/vk-cri/' /proc/self/mountinfo &&
        [ ! -d /sys/fs/cgroup/vk-cri ] && ! nft list tables | grep -q vkcri
}
container_id() { kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].containerID}'; }
survives_restart() { # the container goes on when cri-bridge is restarted
    local before after
    before=$(container_id hello)
    supervisorctl -c supervisor.conf restart cri-bridge && sleep 10 || return 1
    after=$(container_id hello)
    [ -n "$before" ] && [ "$before" = "$after" ] &&
        [ "$(kubectl get pod hello -o 'jsonpath={.status.containerStatuses[0].restartCount}')" = 0 ]
}
held_to() { # POD MEMORY CPU WEIGHT: memory.max, cpu.max and cpu.weight of its container, the first two of the pod, too
    local folder files
    folder=$(find /sys/fs/cgroup -type d -name "$(container_id "$1" | sed 's,.*/,,')")
    files=$(cd "$folder" && cat memory.max cpu.max cpu.weight ../memory.max ../cpu.max | tr '\n' ,)
    echo "$folder: $files"
    [[ $files =~ ^$2,$3,$4,$2,$3,$ ]]
}
resize() { # POD RESOURCES: of its only container, by the subresource, which kubectl 1.20 does not know
    kubectl get pod "$1" -o json | python -c 'import json, sys
pod = json.load(sys.stdin)
pod["spec"]["containers"][0]["resources"] = json.loads(sys.argv[1])
print(json.dumps(pod))' "$2" | kubectl replace --raw "/api/v1/namespaces/default/pods/$1/resize" -f -
}
resized() { # POD MEMORY: its status says so, and its container went on
    [ "$(kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].resources.limits.memory} {.status.containerStatuses[0].restartCount}')" = "$2 0" ]
}
from_kubelet() { kubectl get --raw "/api/v1/$(kubectl get nodes -o name | sed s,node,nodes,)/proxy/$1"; } # PATH
summarized() { # POD: /stats/summary has its memory in bytes, and its container's
    from_kubelet stats/summary | python -c 'import json, sys
pod = next(pod for pod in json.load(sys.stdin)["pods"] if pod["podRef"]["name"] == sys.argv[1])
print(pod)
sys.exit(not all(part["memory"]["workingSetBytes"] > 0 for part in (pod, *pod["containers"])))' "$1"
}
scraped() { from_kubelet metrics/cadvisor | grep "^$2{.*pod=\"$1\"" | grep 'container="main"' | grep -q '} [1-9]'; } # POD METRIC
session() { # PREFIX: README's session, and the pods that the emulation is for
    step "$1: make run" within 900 make run KUBECONFIG=
    step "$1: node Ready" within 60 node_ready
    step "$1: apply hello" within 60 kubectl apply -f examples/hello.yaml
    step "$1: apply pods" within 60 kubectl apply -f tests/guest/pods.yaml
    step "$1: hello runs" within 240 pod_is hello Running
    step "$1: hello's log" within 60 logged hello 'line 2'
    step "$1: an emptyDir's file is executed" within 240 logged executes 'executed'
    step "$1: once succeeds" within 240 pod_is once Succeeded
    step "$1: memory limit kills" within 240 pod_is hungry Failed
    step "$1: OOMKilled" within 60 sh -c "kubectl get pod hungry -o 'jsonpath={.status.containerStatuses[0].state.terminated.reason}' | grep -qx OOMKilled"
    step "$1: limits of memory and CPU" within 240 held_to measured 67108864 '50000 100000' '(10|35)'
    step "$1: resize" within 60 resize measured '{"requests": {"cpu": "500m", "memory": "48Mi"}, "limits": {"cpu": "750m", "memory": "96Mi"}}'
    step "$1: resized limits" within 240 held_to measured 100663296 '75000 100000' '(20|59)'
    step "$1: resized in place" within 60 resized measured 96Mi
    step "$1: /stats/summary" within 120 summarized measured
    step "$1: /metrics/cadvisor" within 120 scraped measured container_memory_working_set_bytes
    step "$1: describe" within 60 kubectl describe pod hello
    step "$1: a restart of cri-bridge leaves the container" survives_restart
}

echo
echo "guest: $(cat /proc/sys/kernel/osrelease), $(stat -f -c %T /sys/fs/cgroup), /run $(findmnt -n -o OPTIONS /run)"
if [ ! -e /root/phase ]; then
    ip link set ens3 up 2>/dev/null || ip link set "$(ip -o link | awk -F': ' '$2 != "lo" {print $2; exit}')" up
fi
card=$(ip -o link | awk -F': ' '$2 ~ /^(en|eth)/ {print $2; exit}')
ip address replace 10.0.2.15/24 dev "$card" && ip link set "$card" up && ip route replace default via 10.0.2.2
case "$(cat /root/phase 2>/dev/null)" in
"")
    session "apt's containerd"
    step "apt's containerd: it is left alone" systemctl is-active containerd
    step "apt's containerd: make stop" make stop
    step "apt's containerd: nothing is left" nothing_left
    step "apt's containerd: make reset" make reset
    systemctl disable --now containerd
    session "own containerd"
    echo rebooted >/root/phase
    sync
    systemctl reboot --no-block
    sleep infinity
    ;;
rebooted)
    step "after the reboot: make run" within 900 make run KUBECONFIG=
    step "after the reboot: hello runs again" within 240 pod_is hello Running
    step "after the reboot: hello's log" within 60 logged hello 'line 2'
    step "after the reboot: a finished pod stays finished" within 60 pod_is once Succeeded
    step "after the reboot: it did not run again" sh -c "! ctr -n k8s.io containers list 'labels.\"io.kubernetes.pod.name\"==once' | grep -q k8s"
    step "after the reboot: make stop" make stop
    step "after the reboot: nothing is left" nothing_left
    ;;
esac
echo "session: end"
