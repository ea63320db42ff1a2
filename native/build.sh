#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the Rust core and places it at priv/barrel_p2p_nif.so: the only glue
# between rebar3 and cargo. Works in a checkout, as a dependency of another
# rebar3 project, in _checkouts and in an unpacked package.
#
#   sh native/build.sh                build, then copy to priv/ when it changed
#   sh native/build.sh --find-cargo   print the cargo that would be used
#   sh native/build.sh --rust-version print the Rust version that is needed
#
# Environment:
#   BARREL_P2P_TARGET_DIR   where cargo builds (else CARGO_TARGET_DIR, else target/)
#   BARREL_P2P_NIF_OUT      where the library goes (else priv/barrel_p2p_nif.so)
#   BARREL_P2P_FEATURES     cargo features, only together with BARREL_P2P_NIF_OUT
#   BARREL_P2P_PREBUILT     a library built elsewhere: copied, nothing is built
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
needed=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$root/Cargo.toml" | head -n 1)
found=""

# at_least HAVE WANT: compares dotted versions, three numbers at most.
at_least() {
    awk -v have="$1" -v want="$2" 'BEGIN {
        split(have, h, "."); split(want, w, ".")
        for (i = 1; i <= 3; i++) {
            if (h[i] + 0 > w[i] + 0) exit 0
            if (h[i] + 0 < w[i] + 0) exit 1
        }
        exit 0
    }'
}

# The rustc that this cargo is going to run.
rustc_of() {
    if [ -n "${RUSTC:-}" ]; then
        echo "$RUSTC"
    elif [ -x "$(dirname -- "$1")/rustc" ]; then
        echo "$(dirname -- "$1")/rustc"
    else
        command -v rustc || echo "$(dirname -- "$1")/rustc"
    fi
}

# Sets $cargo to the first one with a new enough rustc; $found tells the others.
find_cargo() {
    for candidate in \
        "$(command -v cargo || true)" \
        "${CARGO_HOME:+$CARGO_HOME/bin/cargo}" \
        "${HOME:+$HOME/.cargo/bin/cargo}"
    do
        [ -n "$candidate" ] && [ -x "$candidate" ] || continue
        rustc=$(rustc_of "$candidate")
        if said=$("$rustc" --version 2>&1); then
            version=$(echo "$said" | sed -n 's/^rustc \([0-9][0-9.]*\).*/\1/p')
            if [ -n "$version" ] && at_least "$version" "$needed"; then
                cargo=$candidate
                return 0
            fi
        fi
        said=$(echo "$said" | head -n 1)
        case "$found" in
            *"$candidate ("*) ;;
            *) found="${found:+$found, }$candidate ($said)" ;;
        esac
    done
    return 1
}

no_cargo() {
    cat >&2 <<MESSAGE
barrel_p2p: the Rust core cannot be built: Rust $needed or newer is needed.
  found:  ${found:-no cargo in PATH, \$CARGO_HOME/bin or ~/.cargo/bin}
  remedy: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
          rustup update stable   (when rustup is there already)
          make toolchain         (in a checkout of barrel_p2p)
MESSAGE
    exit 1
}

# A copy appears whole or not at all, and only when something changed: a node
# that runs keeps the file that it mapped.
install_library() {
    mkdir -p "$(dirname -- "$2")"
    if ! cmp -s "$1" "$2"; then
        temporary="$2.$$.tmp"
        trap 'rm -f "$temporary"' EXIT
        cp "$1" "$temporary"
        chmod 755 "$temporary"
        mv -f "$temporary" "$2"
    fi
}

case "${1:-}" in
    --rust-version) echo "$needed"; exit 0 ;;
    --find-cargo) find_cargo || no_cargo; echo "$cargo"; exit 0 ;;
    "") ;;
    *) echo "usage: $0 [--find-cargo | --rust-version]" >&2; exit 2 ;;
esac

# The profile `stub' of this project (see rebar.config) put the C stand-in into
# its own priv directory just now, and wants nothing from Rust.
if [ -n "${REBAR_BUILD_DIR:-}" ] && [ -f "$REBAR_BUILD_DIR/lib/barrel_p2p/priv/STUB" ]; then
    exit 0
fi

output=${BARREL_P2P_NIF_OUT:-$root/priv/barrel_p2p_nif.so}

if [ -n "${BARREL_P2P_PREBUILT:-}" ]; then
    install_library "$BARREL_P2P_PREBUILT" "$output"
    exit 0
fi

features=${BARREL_P2P_FEATURES:-}
if [ -n "$features" ] && [ -z "${BARREL_P2P_NIF_OUT:-}" ]; then
    echo "barrel_p2p: BARREL_P2P_FEATURES=$features needs BARREL_P2P_NIF_OUT: such a library must not be taken for the real one" >&2
    exit 1
fi

find_cargo || no_cargo
# cargo must run the rustc whose version was checked.
PATH=$(dirname -- "$cargo"):$PATH
export PATH

target=${BARREL_P2P_TARGET_DIR:-${CARGO_TARGET_DIR:-$root/target}}
case "$target" in
    /*) ;;
    *) target=$(pwd)/$target ;;
esac

case "$(uname -s)" in
    Darwin) library=libbarrel_p2p_nif.dylib ;;
    *) library=libbarrel_p2p_nif.so ;;
esac

# Exactly the versions of Cargo.lock. That of a package names also what crates need that
# are not in it; cargo drops this by itself, which --locked would refuse.
locked=--locked
[ -d "$root/native/barrel_bench" ] || locked=""

(
    cd "$root"
    "$cargo" build --release $locked --package barrel_nif \
        --target-dir "$target" ${features:+--features "$features"}
)
install_library "$target${CARGO_BUILD_TARGET:+/$CARGO_BUILD_TARGET}/release/$library" "$output"
