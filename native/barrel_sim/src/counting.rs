//! An allocator that counts.
//!
//! The only unsafe code of the simulator, and of its program alone: a measured figure for the memory of a node
//! needs somebody who sees each allocation. All work is mimalloc's, which is quicker than the system's
//! where ten thousand nodes allocate small pieces.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout};

use barrel_sim::measure::heap::note;
use mimalloc::MiMalloc;

/// Reports the bytes asked for; what the allocator adds to each piece is not in it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to mimalloc; counting touches no memory of it and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: passed on as it came.
        unsafe { MiMalloc.alloc(layout) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: passed on as it came.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize);
        // SAFETY: passed on as it came.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: passed on as it came.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}
