#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Packs the library as Hex does, without plugins and without network:
# _build/package/barrel_p2p-VERSION.tar with VERSION, CHECKSUM, metadata.config
# and contents.tar.gz. Or into the directory given as argument.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
escript "$root/tools/package.escript" "$root" "${1:-$root/_build/package}"
