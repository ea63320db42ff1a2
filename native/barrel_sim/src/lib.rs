// SPDX-License-Identifier: Apache-2.0

//! Ten thousand nodes in a thread.

#![forbid(unsafe_code)]
