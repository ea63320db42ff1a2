// SPDX-License-Identifier: Apache-2.0

//! Who else must hear this.

#![forbid(unsafe_code)]
