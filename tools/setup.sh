#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that building and testing need, only those that
# are missing. On another system it says what is needed, and checks Erlang.
set -eu

floor=25
packages="erlang-base erlang-dev erlang-eunit erlang-common-test erlang-dialyzer
erlang-tools erlang-ssl erlang-crypto erlang-parsetools erlang-syntax-tools
erlang-runtime-tools erlang-xmerl erlang-inets erlang-edoc rebar3 gcc libc6-dev
make git curl ca-certificates iproute2"

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# What Debian calls a package may have come from elsewhere, as a command.
# erlang-base and its like stay: half an OTP passes no test.
provided() {
    case "$1" in
        rebar3 | gcc | make | git | curl) command -v "$1" >/dev/null 2>&1 ;;
        iproute2) command -v ip >/dev/null 2>&1 || [ -x /sbin/ip ] ;;
        erlang-base) command -v erl >/dev/null 2>&1 ;;
        erlang-*) has_application "${1#erlang-}" ;;
        *) return 1 ;;
    esac
}

has_application() {
    command -v erl >/dev/null 2>&1 || return 1
    case "$1" in
        dev) check="filelib:is_file(filename:join([code:root_dir(), \"usr\", \"include\", \"erl_nif.h\"]))" ;;
        *) check="is_list(code:lib_dir($(echo "$1" | tr - _)))" ;;
    esac
    [ "$(erl -noshell -eval "io:format(\"~p\", [$check]), halt().")" = true ]
}

if command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
    missing=""
    for package in $packages; do
        installed "$package" || provided "$package" || missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        echo "setup: installing$missing"
        if [ "$(id -u)" -eq 0 ]; then
            as_root=env
        elif command -v sudo >/dev/null 2>&1; then
            as_root="sudo env"
        else
            echo "setup: neither root nor sudo here; run as root: apt-get install$missing" >&2
            exit 1
        fi
        # shellcheck disable=SC2086 # both are lists of words
        {
            $as_root apt-get update -q ||
                echo "setup: apt-get update failed; going on with the lists that are there" >&2
            $as_root DEBIAN_FRONTEND=noninteractive \
                apt-get install -q -y --no-install-recommends $missing
        }
    fi
else
    missing=""
    for command in erl rebar3 cc make git curl; do
        command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
    done
    if [ -n "$missing" ]; then
        cat >&2 <<MESSAGE
setup: this is no Debian; install by hand what is missing:$missing
  needed: Erlang/OTP $floor or newer with its headers, eunit, common_test, dialyzer,
          tools, ssl, crypto and edoc; rebar3; a C compiler; make, git, curl
MESSAGE
        exit 1
    fi
fi

release=$(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')
if [ "$release" -lt "$floor" ]; then
    echo "setup: Erlang/OTP $floor or newer is needed, $(command -v erl) is OTP $release" >&2
    exit 1
fi
echo "setup: Erlang/OTP $release, $(rebar3 version 2>/dev/null | head -n 1)"
