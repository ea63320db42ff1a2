//! What came out, for people and for programs.

mod chart;
mod finding;
mod json;
mod table;

pub use chart::{Chart, Series};
pub use finding::{Finding, Findings, Limit, Row};
pub use json::{csv, json};
pub use table::table;
