//! A buffer whose start is aligned to a block, as O_DIRECT demands.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
    slice,
};

use super::frame::{BLOCK, blocks};

/// Grows to the largest batch and stays there.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the buffer owns its memory alone, like a Box<[u8]>.
unsafe impl Send for AlignedBuffer {}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, BLOCK).expect("a few MiB, aligned to a power of two")
}

fn allocate(capacity: usize) -> NonNull<u8> {
    assert!(capacity > 0, "a buffer holds at least a block");
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc_zeroed(layout(capacity)) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout(capacity)))
}

impl AlignedBuffer {
    /// Room for `bytes`, rounded up to whole blocks.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let capacity = blocks(bytes.max(1));
        Self { start: allocate(capacity), capacity }
    }

    /// The first `bytes` bytes, after making room for them. What was there before is lost.
    pub fn take(&mut self, bytes: usize) -> &mut [u8] {
        if bytes > self.capacity {
            *self = Self::new(bytes.next_power_of_two());
        }
        // SAFETY: `start` points to `capacity` ≥ `bytes` initialised bytes that this buffer owns.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), bytes) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by `allocate` with this layout, and not freed before.
        unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_before_and_after_growing() {
        let mut buffer = AlignedBuffer::new(1);
        for bytes in [1, BLOCK, BLOCK + 1, 1 << 20] {
            let slice = buffer.take(bytes);
            assert_eq!(slice.as_ptr() as usize % BLOCK, 0);
            slice.fill(7);
        }
    }
}
