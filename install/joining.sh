#!/bin/sh
# Say which cluster this guest is about to join, before anything is changed: the first line of `make run`.
#
# Silent when embedded: KUBECONFIG is empty or names the embedded server's own file. KUBECONFIG, BOOTSTRAP_KUBECONFIG and
# the Node's name come from the environment, else from the TOML file, as vkcri/config.py has it. Plain sh and awk, since
# this may run before Python is installed; awk reads the usual YAML layout of a kubeconfig, Python every other one once
# it is there.
set -eu

instance=${VKCRI_INSTANCE:-vkcri}
folder=vk-cri
[ "$instance" = vkcri ] || folder=vk-cri-$instance
config=${VKCRI_CONFIG:-/etc/$folder/config.toml}
python=$(dirname "$0")/../.venv/bin/python

toml() { # KEY: its value in the TOML file when that is a string on one line
    [ -r "$config" ] || return 0
    awk -v key="$1" '
        sub("^[ \t]*[\"\047]?" key "[\"\047]?[ \t]*=[ \t]*", "") {
            quote = substr($0, 1, 1)
            rest = substr($0, 2)
            if ((quote == "\"" || quote == "\047") && index(rest, quote)) print substr(rest, 1, index(rest, quote) - 1)
            exit
        }
    ' "$config"
}
absolute() { # PATHS FOLDER: paths joined by ':', each from the folder where it is relative
    (
        IFS=:
        set -f
        found=
        for part in $1; do
            case $part in
            "") continue ;;
            "~/"*) part=${HOME:-/root}/${part#"~/"} ;;
            /*) ;;
            *) part=$2/$part ;;
            esac
            found=${found:+$found:}$part
        done
        printf '%s\n' "$found"
    )
}

own() { # PATH NAMES: whether the path is one of these files of the instance
    for name in $2; do
        [ "$(readlink -f "$1" 2>/dev/null || echo "$1")" = "/var/lib/$folder/$name" ] && return 0
    done
    return 1
}

if [ -n "${KUBECONFIG+set}${BOOTSTRAP_KUBECONFIG+set}" ]; then # either hides both of the TOML file
    kubeconfig=$(absolute "${KUBECONFIG:-}" "$PWD")
    bootstrap=$(absolute "${BOOTSTRAP_KUBECONFIG:-}" "$PWD")
else
    beside=$(cd "$(dirname "$config")" 2>/dev/null && pwd || true)
    kubeconfig=$(absolute "$(toml kubeconfig)" "$beside")
    bootstrap=$(absolute "$(toml bootstrap_kubeconfig)" "$beside")
fi
variable=KUBECONFIG given=$kubeconfig
if [ -n "$bootstrap" ]; then
    if [ -n "$kubeconfig" ] && ! own "$kubeconfig" "admin.conf node.conf kubelet.conf"; then
        echo "KUBECONFIG=$kubeconfig and BOOTSTRAP_KUBECONFIG=$bootstrap are two ways to join: give one of them, such as make run KUBECONFIG=" >&2
        exit 1
    fi
    variable=BOOTSTRAP_KUBECONFIG given=$bootstrap kubeconfig=$bootstrap
    [ -r "$bootstrap" ] || [ ! -r "/var/lib/$folder/kubelet.conf" ] || kubeconfig=/var/lib/$folder/kubelet.conf
fi
[ -n "$kubeconfig" ] || exit 0
[ "$variable" = BOOTSTRAP_KUBECONFIG ] || ! own "$kubeconfig" "admin.conf node.conf" || exit 0

IFS=:
set -f -- # its files that are there, as arguments
for part in $kubeconfig; do
    [ ! -r "$part" ] || set -- "$@" "$part"
done
set +f
unset IFS
if [ $# = 0 ]; then
    echo "$variable=$given: no such file; for the embedded server: make run $variable=" >&2
    exit 1
fi
server=$(awk '
    function value(line) {
        sub(/^[^:]*:[ \t]*/, "", line)
        sub(/[ \t]+#.*$/, "", line)
        gsub(/["\047\r]/, "", line)
        return line
    }
    /^[a-z-]+:/ { section = $1; cluster = name = address = "" }
    /^current-context:/ && current == "" { current = value($0) }
    /^- / { cluster = name = address = "" }
    /^(- |  )name:/ { name = value($0) }
    /^[ -]+server:/ { address = value($0) }
    /^[ -]+cluster: *[^ ]/ { cluster = value($0) }
    section == "clusters:" && name != "" && address != "" && !(name in servers) { servers[name] = address }
    section == "contexts:" && name != "" && cluster != "" && !(name in clusters) { clusters[name] = cluster }
    END { if (current != "" && (clusters[current] in servers)) print servers[clusters[current]] }
' "$@")
if [ -z "$server" ] && [ -x "$python" ]; then
    server=$("$python" -I - "$@" 2>/dev/null <<'PYTHON' || true
import sys
import yaml

current, clusters, contexts = "", {}, {}
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        content = yaml.safe_load(file) or {}
    current = current or content.get("current-context") or ""
    for item in content.get("clusters") or ():
        clusters.setdefault(item["name"], item["cluster"]["server"])
    for item in content.get("contexts") or ():
        contexts.setdefault(item["name"], item["context"]["cluster"])
print(clusters[contexts[current]])
PYTHON
    )
fi
node=${VKUBELET_NODE_NAME:-${DEFAULTNODE_NAME:-$(toml node_name)}}
node=$(printf %s "${node:-$(cat /proc/sys/kernel/hostname)}" | tr '[:upper:]' '[:lower:]')
echo "joining ${server:-the cluster of $variable} as node $node ($variable=$given); for the embedded server: make run $variable="
