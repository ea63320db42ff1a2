// SPDX-License-Identifier: Apache-2.0

//! What do we all agree on.

#![forbid(unsafe_code)]
