// SPDX-License-Identifier: Apache-2.0

//! What the map promises, on random schedules and by example.
//!
//! `BARREL_SCHEDULES` is the number of schedules per property.

mod cluster;
mod examples;
mod hostile;
mod laws;
mod schedules;
