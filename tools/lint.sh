#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Everything that reads the sources and runs none of them. Each step is a row:
#
#   sh tools/lint.sh          all steps; goes on after a failure, exits 1 at the end
#   sh tools/lint.sh FILE     and appends `passed NAME' or `failed NAME' to FILE
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root" || exit 1
results=${1:-/dev/null}
failures=0

step() {
    name=$1
    shift
    echo "==> lint: $name"
    if "$@"; then
        echo "passed $name" >>"$results"
    else
        echo "==> lint: $name FAILED"
        echo "failed $name" >>"$results"
        failures=$((failures + 1))
    fi
}

shell_scripts() {
    bad=0
    for script in .ci/run $(find native c_src_stub tools bench examples docker -name '*.sh' -type f); do
        case "$(head -n 1 "$script")" in
            *bash*) bash -n "$script" || bad=1 ;;
            *) sh -n "$script" || bad=1 ;;
        esac
    done
    return $bad
}

# edoc reports a bad comment as text and goes on.
edoc() {
    said=$(rebar3 edoc 2>&1)
    code=$?
    echo "$said"
    [ $code -eq 0 ] && ! echo "$said" | grep -Eq 'error:|warning:'
}

cargo=$(sh native/build.sh --find-cargo) || cargo=""
rust() {
    [ -n "$cargo" ] && PATH=$(dirname -- "$cargo"):$PATH "$cargo" "$@"
}

step "rustfmt" rust fmt --all --check
step "clippy" rust clippy --workspace --all-targets --all-features --locked --quiet -- -D warnings
step "rustdoc" env RUSTDOCFLAGS="-D warnings" sh -c '
    cargo=$(sh native/build.sh --find-cargo) && PATH=$(dirname -- "$cargo"):$PATH &&
    "$cargo" doc --workspace --no-deps --locked --quiet'
step "erlang warnings" rebar3 as lint compile
step "xref" rebar3 xref
step "dialyzer" rebar3 dialyzer
step "edoc" edoc
step "shell scripts" shell_scripts

[ "$failures" -eq 0 ]
