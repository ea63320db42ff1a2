#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# OTP's own distribution_SUITE, over inet_tcp and over this carrier, side by side.
# The suite comes from the source package of the OTP that is installed here; apt
# checks its signatures as always, with lists of its own. What was fetched stays in
# a cache. The verdict is conformance_report's.
#
#   bash tools/conformance.sh               both carriers, all cases
#   bash tools/conformance.sh CASE...       only these cases
#
# BARREL_P2P_OTP_CACHE names another cache directory. BARREL_P2P_OTP_SOURCE names a
# source tree of the installed OTP to take instead, on a system without apt.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cache=${BARREL_P2P_OTP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/barrel_p2p}
build=${REBAR_BASE_DIR:-$root/_build}
work=$build/conformance_run
cookie=conformance_0123456789abcdef

# Of all files of OTP, these.
parts=(
    '*/erts/emulator/test/distribution_SUITE*'
    '*/erts/emulator/test/erts_test_utils.erl'
    '*/lib/common_test/test_server/ts_install_cth.erl'
    '*/lib/kernel/examples/gen_tcp_dist/src/gen_tcp_dist.erl'
)

for application in common_test os_mon runtime_tools; do
    if [ "$(erl -noinput -eval "io:put_chars(atom_to_list(is_list(code:lib_dir($application)))), halt().")" != true ]; then
        echo "conformance: OTP's suite needs $application: apt-get install erlang-$(echo $application | tr _ -)" >&2
        exit 1
    fi
done

# One deb-src line for each of the system's package lists that its distribution signed.
source_lists() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        sort -u | while read -r uri release component origin; do
            for key in "/usr/share/keyrings/$(echo "$origin" | tr '[:upper:]' '[:lower:]')"-archive-keyring.*; do
                if [ -f "$key" ]; then
                    echo "deb-src [signed-by=$key] $uri $release $component"
                    break
                fi
            done
        done
}

# fetch VERSION DIRECTORY: unpacks the parts into the directory.
fetch() {
    local upstream=${1%-*} into=$2 apt=$2.apt have version
    rm -rf "$into" "$apt"
    mkdir -p "$into" "$apt/lists/partial" "$apt/archives/partial"
    source_lists >"$apt/sources.list"
    if [ ! -s "$apt/sources.list" ]; then
        echo "conformance: apt has no signed package list of a distribution: apt-get update" >&2
        exit 1
    fi
    set -- -q -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o "Dir::Cache::Archives=$apt/archives"
    apt-get "$@" update
    # The installed revision may be gone from the mirror; OTP's part of it is the same in the next.
    have=$(apt-cache "$@" showsrc erlang | sed -n 's/^Version: //p')
    version=$(echo "$have" | grep -Fx -- "$installed" || echo "$have" | grep -F -- "$upstream-" | tail -n 1)
    if [ -z "$version" ]; then
        echo "conformance: $installed is installed, but these sources are offered:" $have >&2
        exit 1
    fi
    (cd "$apt" && apt-get "$@" source --download-only --tar-only "erlang=$version")
    tar -C "$into" --strip-components=1 --wildcards -xf "$apt"/erlang_*.orig.tar.* "${parts[@]}"
    rm -rf "$apt"
    touch "$into/.complete"
}

if [ -n "${BARREL_P2P_OTP_SOURCE:-}" ]; then
    source=$BARREL_P2P_OTP_SOURCE
elif command -v apt-get >/dev/null 2>&1 && installed=$(dpkg-query -W -f '${source:Version}' erlang-base 2>/dev/null); then
    source=$cache/otp_source/${installed#*:}
    if [ ! -f "$source/.complete" ]; then fetch "$installed" "$source"; fi
else
    echo "conformance: this OTP is no Debian package; name its sources in BARREL_P2P_OTP_SOURCE" >&2
    exit 1
fi

(cd "$root" && rebar3 as conformance compile)
ours=$build/conformance/lib/barrel_p2p/ebin

rm -rf "$work"
mkdir -p "$work/suite" "$work/tools"
cp -R "$source"/erts/emulator/test/distribution_SUITE* "$work/suite"
cp "$source/erts/emulator/test/erts_test_utils.erl" "$source/lib/common_test/test_server/ts_install_cth.erl" \
    "$source/lib/kernel/examples/gen_tcp_dist/src/gen_tcp_dist.erl" "$work/suite"
erlc -W0 -o "$work/suite" "$work"/suite/*.erl
erlc -W0 -o "$work/suite/distribution_SUITE_data" "$work"/suite/distribution_SUITE_data/*.erl
erlc -o "$work/tools" "$root"/tools/conformance/*.erl

cases=""
for case in "$@"; do cases="$cases${cases:+,}$case"; done

# run NAME FLAGS: ERL_FLAGS reach every node that the suite starts. Keys, endpoint
# files and crash dumps stay in the directory of the run.
run() {
    local name=$1 flags=$2 dir=$work/$1 from=$SECONDS
    mkdir -p "$dir/logs" "$dir/run"
    chmod 700 "$dir/run"
    echo "==> distribution_SUITE over $name"
    (
        cd "$dir"
        unset ERL_AFLAGS ERL_ZFLAGS ERL_LIBS
        ERL_FLAGS=$flags XDG_RUNTIME_DIR=$dir/run exec erl -noinput -sname "conformance_$name" -setcookie "$cookie" \
            -pa "$work/tools" -pa "$work/suite" -eval "
                $name = case persistent_term:get({barrel_p2p_dist, active}, false) of
                    true -> barrel_p2p;
                    false -> inet_tcp
                end,
                Selected = case [$cases] of [] -> []; Cases -> [{testcase, Cases}] end,
                ct:run_test([
                    {dir, \"$work/suite\"}, {suite, distribution_SUITE}, {auto_compile, false},
                    {logdir, \"$dir/logs\"}, {event_handler, {conformance_events, [\"$dir/results\"]}}
                    | Selected
                ]),
                halt()."
    ) >"$dir/output" 2>&1 || echo "conformance: the run over $name ended badly: $dir/output"
    echo "==> $((SECONDS - from)) s; logs: $dir/logs/index.html"
}

run inet_tcp ""
run barrel_p2p "-pa $ours -proto_dist barrel_p2p -epmd_module barrel_p2p_epmd -start_epmd false -barrel_p2p listen_port 0"

erl -noinput -pa "$work/tools" -run conformance_report main "$work/inet_tcp/results" "$work/barrel_p2p/results"
