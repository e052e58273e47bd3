#!/bin/sh
# Install what is missing on this guest and nothing else: `sh install/packages.sh run|test|runtimes|guest`.
#
# A command that is already there is never installed again, whoever put it there. Nothing is ever removed
# (--no-remove). kubectl comes in a call of its own, since a failing kubernetes-client would leave every other package
# of the same apt call unconfigured. A package that cannot be installed is named, and the others are installed all the same.
set -eu

purpose=${1:-run}
missing=

have() { command -v "$1" >/dev/null 2>&1; }
want() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }

python_is_new_enough() {
    have python3 && python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

cni_plugins_are_there() {
    for folder in /opt/cni/bin /usr/lib/cni /usr/libexec/cni; do
        [ -x "$folder/bridge" ] && [ -x "$folder/portmap" ] && [ -x "$folder/host-local" ] && return 0
    done
    return 1
}

python_is_new_enough || { want python3; want python3-venv; }
have containerd || want containerd
have runc || want runc
cni_plugins_are_there || want containernetworking-plugins
have nft || want nftables
have iptables || want iptables # CNI's bridge plugin calls it to masquerade
have ip || want iproute2
have conntrack || want conntrack
have catatonit || want catatonit # the pause image, where no registry answers
have busybox || want busybox-static # the shell image of the examples
have curl || want curl
if [ "$purpose" = runtimes ]; then
    have patchelf || want patchelf # a newer release's runc, told to use that release's libc
    purpose=test
fi
if [ "$purpose" = test ]; then
    have docker-registry || want docker-registry # pull, pull secret and pull policy tests, on loopback
    have skopeo || want skopeo
    have chromium || want chromium # the page's tests; the node itself needs no browser
fi

if [ "$purpose" = guest ]; then
    have debootstrap || want debootstrap
    have qemu-system-x86_64 || want qemu-system-x86
    have mke2fs || want e2fsprogs
    ls /boot/vmlinuz-*-cloud-amd64 >/dev/null 2>&1 || want linux-image-cloud-amd64
fi

if [ -z "$missing" ] && have kubectl; then
    exit 0
fi
if ! have apt-get; then
    echo "install: this guest has no apt-get; install by hand:$missing, and kubectl" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "install: run as root: these packages are missing:$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt_install() { apt-get install -y -q --no-install-recommends --no-remove -oDPkg::Lock::Timeout=300 "$@"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "install: apt-get update"
apt-get update -q >"$log" 2>&1 || { tail -n 5 "$log" >&2; echo "install: apt-get update failed; trying with the lists that are there" >&2; }

failed=
if [ -n "$missing" ]; then
    echo "install: apt-get install$missing"
    # shellcheck disable=SC2086  # a list of words
    if ! apt_install $missing >"$log" 2>&1; then
        for package in $missing; do
            apt_install "$package" >"$log" 2>&1 || {
                tail -n 5 "$log" >&2
                failed="$failed $package"
            }
        done
    fi
fi
if ! have kubectl; then
    echo "install: apt-get install kubernetes-client"
    apt_install kubernetes-client >"$log" 2>&1 || {
        tail -n 5 "$log" >&2
        echo "install: kubernetes-client could not be installed: put a kubectl into your PATH; the node runs without it" >&2
    }
fi
if [ -n "$failed" ]; then
    echo "install: these packages could not be installed:$failed; all others were. Cure that (apt-get install$failed), then run make again" >&2
    exit 1
fi
