// SPDX-License-Identifier: Apache-2.0

//! Who is a member, and who is alive.

#![forbid(unsafe_code)]
