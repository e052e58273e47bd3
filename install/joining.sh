#!/bin/sh
# Say which cluster this guest is about to join, before anything is changed: the first line of `make run`.
#
# Silent when embedded: KUBECONFIG is empty or names the embedded server's own file. Plain sh and awk, since this runs
# before Python is installed; it reads the usual YAML layout of a kubeconfig and says so where it cannot.
set -eu

[ -n "${KUBECONFIG:-}" ] || exit 0
instance=${VKCRI_INSTANCE:-vkcri}
folder=vk-cri
[ "$instance" = vkcri ] || folder=vk-cri-$instance
for own in "/var/lib/$folder/admin.conf" "/var/lib/$folder/node.conf"; do
    [ "$(readlink -f "$KUBECONFIG" 2>/dev/null || echo "$KUBECONFIG")" = "$own" ] && exit 0
done
if [ ! -r "$KUBECONFIG" ]; then
    echo "KUBECONFIG=$KUBECONFIG: no such file; for the embedded server: make run KUBECONFIG=" >&2
    exit 1
fi
server=$(awk '
    function value(line) { sub(/^[^:]*:[ \t]*/, "", line); gsub(/["\x27\r]/, "", line); return line }
    /^[a-z-]+:/ { section = $1; cluster = name = "" ; address = "" }
    /^current-context:/ { current = value($0) }
    /^- / { address = ""; cluster = ""; name = "" }
    /^(- |  )name:/ { name = value($0) }
    /^[ -]+server:/ { address = value($0) }
    /^[ -]+cluster: *[^ ]/ { cluster = value($0) }
    section == "clusters:" && name != "" && address != "" { servers[name] = address; first = first ? first : address }
    section == "contexts:" && name != "" && cluster != "" { clusters[name] = cluster }
    END { print (clusters[current] in servers) ? servers[clusters[current]] : (first ? first : "an API server") }
' "$KUBECONFIG")
node=${VKUBELET_NODE_NAME:-${DEFAULTNODE_NAME:-$(cat /proc/sys/kernel/hostname)}}
node=$(printf %s "$node" | tr '[:upper:]' '[:lower:]')
echo "joining $server as node $node (KUBECONFIG=$KUBECONFIG); for the embedded server: make run KUBECONFIG="
