// SPDX-License-Identifier: Apache-2.0

//! The whole node without a socket.

#![forbid(unsafe_code)]
