//! The allocator of plugins: that of the standard library, with a first piece that is there already.
//!
//! The standard library's asks for more memory at the first allocation, and the host has to change the protection of pages for that, and to
//! change it back when the instance ends: about a tenth of what a fresh instance costs. Most calls never need more than the first piece.

#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::Dlmalloc;

/// Octets of the first piece. They cost nothing until they are written.
const FIRST_BYTES: usize = 128 << 10;
/// Octets of a page of WebAssembly.
const PAGE_BYTES: usize = 64 << 10;

#[repr(C, align(16))]
struct First(UnsafeCell<[u8; FIRST_BYTES]>);

// SAFETY: a plugin has one thread; and the piece is handed out once.
unsafe impl Sync for First {}

static FIRST: First = First(UnsafeCell::new([0; FIRST_BYTES]));
static FIRST_IS_TAKEN: AtomicBool = AtomicBool::new(false);

struct Pages;

// SAFETY: each piece is handed out once, is zeroed, and is never taken back.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= FIRST_BYTES && !FIRST_IS_TAKEN.swap(true, Ordering::Relaxed) {
            return (FIRST.0.get().cast(), FIRST_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        match core::arch::wasm32::memory_grow(0, pages) {
            usize::MAX => (ptr::null_mut(), 0, 0),
            before => ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct Heap(UnsafeCell<Dlmalloc<Pages>>);

// SAFETY: a plugin has one thread, and an allocation never allocates.
unsafe impl Sync for Heap {}

// SAFETY: everything is passed on to an allocator that keeps the same promises.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: nobody else is in the allocator; the layout is the caller's promise.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { (*self.0.get()).free(piece, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).realloc(piece, layout.size(), layout.align(), size) }
    }
}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Pages)));
