//! A world seen from outside.

mod delivery;
mod graph;
pub mod heap;
mod spread;

pub use delivery::{Delivery, broadcast};
pub use graph::{Graph, Paths};
pub use spread::Spread;
