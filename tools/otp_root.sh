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
cache=${BARREL_P2P_OTP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/barrel_p2p}
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
erlang-inets erlang-public-key erlang-asn1 rebar3 gcc libc6-dev git iproute2 ca-certificates"

mounted() {
    awk -v d="$chroot/$1" '$2 == d { found = 1 } END { exit !found }' /proc/mounts
}
umount_all() {
    for place in dev/shm dev/pts dev proc; do
        if mounted "$place"; then umount "$chroot/$place"; fi
    done
}
mount_all() {
    mounted proc || mount -t proc proc "$chroot/proc"
    mounted dev || mount --bind /dev "$chroot/dev"
    mounted dev/pts || mount --bind /dev/pts "$chroot/dev/pts"
    mkdir -p "$chroot/dev/shm"
    mounted dev/shm || mount -t tmpfs tmpfs "$chroot/dev/shm"
}
trap umount_all EXIT
umount_all

# A root counts as made when its last step is done.
if [ ! -f "$chroot/.complete" ]; then
    echo "otp_root: making $chroot (Debian $suite), once"
    mkdir -p "$cache"
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
tar -C "$root" --exclude=./_build --exclude=./target --exclude=./data --exclude=./.git -cf - . | tar -C "$work" -xf -
cp "$library" "$chroot/tmp/barrel_p2p_nif.so"
# A minimal Debian has no hosts file, and its resolver does not know localhost then.
cp /etc/hosts "$chroot/etc/hosts"
mount_all

run() {
    chroot "$chroot" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        TERM="${TERM:-dumb}" BARREL_P2P_PREBUILT=/tmp/barrel_p2p_nif.so \
        sh -c 'cd /work && exec "$@"' sh "$@"
}

if [ $# -gt 0 ]; then
    run "$@"
else
    status=0
    run rebar3 eunit || status=1
    run rebar3 ct || status=1
    exit $status
fi
