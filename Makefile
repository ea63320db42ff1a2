# SPDX-License-Identifier: Apache-2.0

.DEFAULT_GOAL := help
.PHONY: help setup toolchain build lint test prove sim bench fuzz demo conformance otp27 otp29 package clean

help: ## this list
	@grep -E '^[a-z0-9]+:.*##' Makefile | sed 's/:.*## /|/' | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'

setup: ## install the Debian packages that are missing (sudo when not root)
	@sh tools/setup.sh

toolchain: ## find a Rust toolchain, or install one with rustup for this user
	@sh tools/toolchain.sh

build: ## compile Rust and Erlang
	@rebar3 compile

lint: ## rustfmt, clippy, rustdoc, compiler warnings, xref, dialyzer, edoc, sh -n
	@sh tools/lint.sh

test: setup toolchain ## everything: setup, toolchain, lint, cargo, eunit, ct
	@bash tools/test_all.sh

prove: setup toolchain build ## the long runs: order, races, restarts, growth, fuzzing
	@bash tools/prove.sh

sim: toolchain ## the gossip core at 10,000 nodes: the acceptance table, ten minutes
	@bash tools/sim.sh --table

bench: setup toolchain build ## 12 minutes of measurements beside inet_tcp, inet_tls and bare QUIC
	@bash bench/run.sh

fuzz: toolchain ## the decoders of what strangers and peers send, and a whole node: 36 minutes (FUZZ_SECONDS=5 for a smoke run)
	@bash tools/fuzz.sh

demo: setup toolchain build ## three nodes on this machine, narrated
	@bash examples/demo/run.sh

conformance: setup toolchain build ## OTP's own distribution_SUITE, beside inet_tcp
	@bash tools/conformance.sh

otp27: setup toolchain build ## eunit and ct on OTP 27 (needs root)
	@bash tools/otp_root.sh 27

otp29: setup toolchain build ## eunit and ct on OTP 29 (needs root)
	@bash tools/otp_root.sh 29

package: ## a Hex package in _build/package
	@sh tools/package.sh

clean: ## remove what was built
	@rm -rf _build target priv/barrel_p2p_nif.so
