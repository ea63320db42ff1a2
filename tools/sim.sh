#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the simulator and runs it with the arguments given:
#
#   bash tools/sim.sh --table                the acceptance table, 10,000 nodes, three seeds
#   bash tools/sim.sh --table --reduced      a thousand nodes and fewer kinds
#   bash tools/sim.sh --nodes 10000 --scenario failures --seed 1
#
# The simulator exits with 1 when a row of the table fails.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cargo=$(sh "$root/native/build.sh" --find-cargo)
PATH=$(dirname -- "$cargo"):$PATH
exec cargo run --manifest-path "$root/Cargo.toml" --profile sim --locked --quiet -p barrel_sim -- "$@"
