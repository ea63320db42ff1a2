#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes sure of a Rust toolchain: one that is new enough is used as it is, else
# rustup installs its minimal profile for the current user.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
needed=$(sh "$root/native/build.sh" --rust-version)

if cargo=$(sh "$root/native/build.sh" --find-cargo 2>/dev/null); then
    echo "toolchain: $cargo ($("$cargo" --version))"
    exit 0
fi

home=${CARGO_HOME:-$HOME/.cargo}
echo "toolchain: no Rust $needed or newer here; installing rustup with its minimal profile into $home for user $(id -un)"
failed() {
    cat >&2 <<MESSAGE
toolchain: Rust could not be installed: $1
  needed: Rust $needed or newer
  remedy: connect this machine to the network and run \`make toolchain' again, or put a
          cargo of Rust $needed or newer into PATH or into $home/bin
MESSAGE
    exit 1
}

installer=$(mktemp)
trap 'rm -f "$installer"' EXIT
if command -v rustup >/dev/null 2>&1; then
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt ||
        failed "rustup toolchain install failed"
    rustup default stable
else
    curl --proto '=https' --tlsv1.2 -sSf --connect-timeout 20 -o "$installer" https://sh.rustup.rs ||
        failed "https://sh.rustup.rs cannot be reached"
    sh "$installer" -y --no-modify-path --profile minimal --component clippy --component rustfmt ||
        failed "the installer of rustup failed"
fi

cargo=$(sh "$root/native/build.sh" --find-cargo) || exit 1
echo "toolchain: $cargo ($("$cargo" --version)); your shell finds it with: . $home/env"
