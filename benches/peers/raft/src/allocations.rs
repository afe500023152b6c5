//! An allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what each thread asks of it.
pub(crate) struct Counting;

/// What was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    /// Calls, those that change a size included.
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// This thread's count until now.
pub(crate) fn count() -> Count {
    Count { number: NUMBER.get(), bytes: BYTES.get() }
}

fn add(bytes: usize) {
    NUMBER.set(NUMBER.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
}

// SAFETY: all calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
