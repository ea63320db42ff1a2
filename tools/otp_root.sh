#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs EUnit and Common Test on another OTP: a Debian of its own in a cache
# directory, entered with chroot. The native library is the one built here: it
# needs the older glibc of the two, and loads into any OTP from 25 on.
#
#   bash tools/otp_root.sh 27                   rebar3 eunit and rebar3 ct
#   bash tools/otp_root.sh 27 COMMAND...        that command, in the copied checkout
#   bash tools/otp_root.sh 27 --root            make the root, print where it is
#
# BARREL_P2P_OTP_CACHE names another cache directory, BARREL_P2P_DEBIAN_MIRROR
# another mirror.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
version=${1:?usage: $0 27|29 [COMMAND...]}
shift
case "$version" in
    27) suite=trixie ;;
    29) suite=sid ;;
    *) echo "otp_root: no Debian is known here for OTP $version (27: trixie, 29: sid)" >&2; exit 2 ;;
esac
mirror=${BARREL_P2P_DEBIAN_MIRROR:-http://deb.debian.org/debian}
cache=$(realpath -m -- "${BARREL_P2P_OTP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/barrel_p2p}")
chroot=$cache/otp$version

if [ "$(id -u)" -ne 0 ]; then
    echo "otp_root: chroot needs root: sudo make otp$version" >&2
    exit 1
fi
if ! command -v debootstrap >/dev/null 2>&1; then
    echo "otp_root: debootstrap is missing: apt-get install debootstrap" >&2
    exit 1
fi

packages="erlang-base erlang-dev erlang-eunit erlang-common-test erlang-tools erlang-ssl
erlang-crypto erlang-parsetools erlang-syntax-tools erlang-runtime-tools erlang-xmerl
erlang-inets erlang-public-key erlang-asn1 erlang-os-mon rebar3 gcc libc6-dev git iproute2
ca-certificates xz-utils"

# Two runs in one root would unmount what the other needs, and replace its checkout.
lock() {
    mkdir -p "$cache"
    exec 9>"$chroot.lock"
    if ! flock -n 9; then
        echo "otp_root: waiting for another run in $chroot" >&2
        flock 9
    fi
}

mounted() {
    awk -v d="$chroot${1:+/$1}" '$2 == d { found = 1 } END { exit !found }' /proc/mounts
}
# The root is a mount of its own: `ip netns exec' asks for that. None of these mounts may reach
# the system's own places.
mount_all() {
    if mounted ""; then return; fi
    mount --bind "$chroot" "$chroot"
    mount --make-private "$chroot"
    mount -t proc proc "$chroot/proc"
    mount --bind /dev "$chroot/dev"
    mount --make-private "$chroot/dev"
    mount --bind /dev/pts "$chroot/dev/pts"
    mkdir -p "$chroot/dev/shm"
    mount -t tmpfs tmpfs "$chroot/dev/shm"
}
umount_all() {
    if mounted ""; then
        end_epmd
        umount -R "$chroot"
    fi
}
# It outlives the nodes that start it, and keeps the devices busy.
end_epmd() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/root")" = "$chroot" ] && [ "$(cat "$process/comm")" = epmd ]; then
            kill "${process#/proc/}"
            while [ "$(readlink "$process/root")" = "$chroot" ]; do sleep 0.1; done
        fi
    done
}

# Where a finished root is may be asked while something runs in it.
if [ "${1:-}" != --root ] || [ ! -f "$chroot/.complete" ]; then
    lock
    trap umount_all EXIT
    umount_all
    # A root counts as made when its last step is done.
    if [ ! -f "$chroot/.complete" ]; then
        echo "otp_root: making $chroot (Debian $suite), once"
        rm -rf --one-file-system "$chroot"
        debootstrap --variant=minbase "$suite" "$chroot" "$mirror"
        # No service starts in a chroot.
        printf '#!/bin/sh\nexit 101\n' >"$chroot/usr/sbin/policy-rc.d"
        chmod 755 "$chroot/usr/sbin/policy-rc.d"
        mount_all
        # shellcheck disable=SC2086 # a list of words
        chroot "$chroot" /usr/bin/env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $packages
        chroot "$chroot" apt-get clean
        touch "$chroot/.complete"
    fi
fi

inside=$(chroot "$chroot" /usr/bin/erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')
if [ "$inside" != "$version" ]; then
    echo "otp_root: Debian $suite has OTP $inside, not $version" >&2
    exit 1
fi
if [ "${1:-}" = --root ]; then
    echo "$chroot"
    exit 0
fi

library=$root/priv/barrel_p2p_nif.so
if [ ! -f "$library" ]; then
    echo "otp_root: $library is missing: make build" >&2
    exit 1
fi

# A copy: the build of the other OTP must not meet the one of this checkout.
work=$chroot/work
rm -rf "$work"
mkdir -p "$work"
tar -C "$root" --exclude=./_build --exclude=./target --exclude=./data -cf - . | tar -C "$work" --no-same-owner -xf -
cp "$library" "$chroot/tmp/barrel_p2p_nif.so"
# A minimal Debian has no hosts file, and its resolver does not know localhost then.
cp /etc/hosts "$chroot/etc/hosts"
mount_all

# What some suites build for themselves: there is no Rust in the root.
extras=""
build_extras() {
    local cargo target
    if ! cargo=$(sh "$root/native/build.sh" --find-cargo); then
        echo "otp_root: without Rust the cases that need programs of ours are skipped" >&2
        return
    fi
    target=$(cd "$root" && realpath -m -- "${CARGO_TARGET_DIR:-target}")
    (
        cd "$root"
        unset BARREL_P2P_PREBUILT
        PATH=$(dirname -- "$cargo"):$PATH
        cargo build --quiet --release --locked --package barrel_impair
        cargo build --quiet --locked --workspace --all-features --example attack
        BARREL_P2P_FEATURES=faults BARREL_P2P_TARGET_DIR=$root/target/faults \
            BARREL_P2P_NIF_OUT=$chroot/tmp/barrel_p2p_nif_faults.so sh native/build.sh
    )
    cp "$target/release/barrel_impair" "$target/debug/examples/attack" "$chroot/tmp"
    extras="BARREL_P2P_IMPAIR=/tmp/barrel_impair BARREL_P2P_ATTACKER=/tmp/attack
BARREL_P2P_NIF_FAULTS=/tmp/barrel_p2p_nif_faults.so"
}

run() {
    # shellcheck disable=SC2086 # a list of words
    chroot "$chroot" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        TERM="${TERM:-dumb}" BARREL_P2P_PREBUILT=/tmp/barrel_p2p_nif.so $extras \
        sh -c 'cd /work && exec "$@"' sh "$@" 9>&-
}

if [ $# -gt 0 ]; then
    run "$@"
else
    build_extras
    status=0
    run rebar3 eunit || status=1
    run rebar3 ct || status=1
    exit $status
fi
