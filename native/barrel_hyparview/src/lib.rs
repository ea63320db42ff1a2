// SPDX-License-Identifier: Apache-2.0

//! Who are my neighbours.

#![forbid(unsafe_code)]
