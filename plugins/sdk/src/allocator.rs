//! Allocator of plugins: dlmalloc, as in the standard library, with a statically reserved initial chunk.
//!
//! The standard library's allocator grows the memory at the first allocation. The host then has to change the protection of pages, and to
//! change it back at the end of the instance: about a tenth of the cost of a fresh instance. Most calls never need more than the
//! initial chunk.

#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::Dlmalloc;

/// Bytes of the initial chunk. The chunk costs nothing until written to.
const INITIAL_CHUNK_BYTES: usize = 128 << 10;
/// Bytes of a WebAssembly page.
const PAGE_BYTES: usize = 64 << 10;

#[repr(C, align(16))]
struct InitialChunk(UnsafeCell<[u8; INITIAL_CHUNK_BYTES]>);

// SAFETY: a plugin has a single thread, and the chunk is handed out once.
unsafe impl Sync for InitialChunk {}

static INITIAL_CHUNK: InitialChunk = InitialChunk(UnsafeCell::new([0; INITIAL_CHUNK_BYTES]));
static INITIAL_CHUNK_USED: AtomicBool = AtomicBool::new(false);

struct WasmPages;

// SAFETY: each chunk is handed out once, is zeroed, and is never taken back.
unsafe impl dlmalloc::Allocator for WasmPages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= INITIAL_CHUNK_BYTES && !INITIAL_CHUNK_USED.swap(true, Ordering::Relaxed) {
            return (INITIAL_CHUNK.0.get().cast(), INITIAL_CHUNK_BYTES, 0);
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

struct PluginAllocator(UnsafeCell<Dlmalloc<WasmPages>>);

// SAFETY: a plugin has a single thread, and an allocation never allocates.
unsafe impl Sync for PluginAllocator {}

// SAFETY: all calls are passed on to an allocator with the same guarantees.
unsafe impl GlobalAlloc for PluginAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no other call is in the allocator; the layout is the caller's obligation.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no other call is in the allocator; the layout is the caller's obligation.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, chunk: *mut u8, layout: Layout) {
        // SAFETY: no other call is in the allocator; pointer and layout are the caller's obligation.
        unsafe { (*self.0.get()).free(chunk, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, chunk: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: no other call is in the allocator; pointer and layout are the caller's obligation.
        unsafe { (*self.0.get()).realloc(chunk, layout.size(), layout.align(), size) }
    }
}

#[global_allocator]
static ALLOCATOR: PluginAllocator = PluginAllocator(UnsafeCell::new(Dlmalloc::new_with_allocator(WasmPages)));
