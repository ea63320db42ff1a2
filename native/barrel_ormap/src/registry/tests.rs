// SPDX-License-Identifier: Apache-2.0

//! Rules by script, laws by random schedules.

mod budgets;
mod dice;
mod laws;
mod rules;
mod schedules;
mod world;
