//! How much memory one thread takes at once.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread.
pub(crate) struct Measured;

fn grow(by: usize) {
    // Threads that are ending have no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get().wrapping_add(by));
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

fn shrink(by: usize) {
    // What another thread took may be given back here.
    let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(by)));
}

// SAFETY: every call goes to the system's allocator as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        grow(size);
        shrink(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Begins to measure; what is taken now.
pub(crate) fn begin() -> usize {
    let now = NOW.get();
    MOST.set(now);
    now
}

/// The most that was taken at once since [`begin`].
pub(crate) fn most() -> usize {
    MOST.get()
}
