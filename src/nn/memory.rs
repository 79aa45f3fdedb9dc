//! Memory between operations, and how quickly it is read.

use std::hint::black_box;
use std::time::Instant;

use libmimalloc_sys::{mi_option_set, mi_option_t};
use rayon::prelude::*;

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

/// How many bytes a second all threads together read from memory that no cache holds: the most of a few
/// sums over half a gigabyte.
pub fn read_bandwidth() -> f64 {
    const WORDS: usize = 1 << 26;
    const PART: usize = 1 << 16;
    let memory = vec![1u64; WORDS];
    let mut best = 0f64;
    for _ in 0..5 {
        let start = Instant::now();
        let sums = memory.par_chunks(PART).map(|part| {
            let (lanes, _) = part.as_chunks::<32>();
            let mut sums = [0u64; 32];
            for words in lanes {
                for lane in 0..32 {
                    sums[lane] = sums[lane].wrapping_add(words[lane]);
                }
            }
            sums.iter().sum::<u64>()
        });
        black_box(sums.sum::<u64>());
        let bytes = (WORDS * size_of::<u64>()) as f64;
        best = best.max(bytes / start.elapsed().as_secs_f64());
    }
    best
}
