//! Memory between operations.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc.h, which the crate does not name.
const PURGE_DELAY: mi_option_t = 15;
/// Many times as long as a step of anything takes: when the delay ends, all that is free then goes,
/// what the next step wants among it.
const MILLISECONDS: std::ffi::c_long = 10_000;

/// Lets memory that is free stay with the program for some seconds; call it first in `main`.
///
/// Tensors come and go by the megabyte. mimalloc hands free pages back to the system after a
/// hundredth of a second, and the system zeroes each page that it gives anew: that was a third of
/// a training step.
pub fn keep_memory() {
    // SAFETY: it sets a number in the allocator that this program is linked with.
    unsafe { mi_option_set(PURGE_DELAY, MILLISECONDS) };
}
