//! How much memory a thread has asked for.
//!
//! A library does not choose the allocator: the program that runs the simulator installs one that reports
//! here. Without it nothing is counted, and [`is_counted`] says so.

use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static EVER: Cell<bool> = const { Cell::new(false) };
}

/// Of the allocator: this thread took so many bytes, or gave them back. It allocates nothing itself. At the
/// very end of a thread, when its counts are gone, nothing is counted.
pub fn note(bytes: isize) {
    let _ = EVER.try_with(|ever| ever.set(true));
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(bytes)));
}

/// Whether anybody counts.
#[must_use]
pub fn is_counted() -> bool {
    EVER.with(Cell::get)
}

/// What this thread has taken and not given back. What it took may have been given back by another; so only
/// differences over work done in one thread say something.
#[must_use]
pub fn held() -> isize {
    HELD.with(Cell::get)
}

/// Makes something, and says how many bytes it holds. `None` when nobody counts.
pub fn of<T>(make: impl FnOnce() -> T) -> (T, Option<f64>) {
    let before = held();
    let made = make();
    let bytes = is_counted().then(|| (held() - before) as f64);
    (made, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_held() {
        let ((), bytes) = of(|| {
            note(100);
            note(-30);
        });
        assert_eq!(bytes, Some(70.0));
    }
}
