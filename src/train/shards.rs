//! A batch shared by the cores: each takes a part of it through the whole forward and backward
//! pass by itself.
//!
//! candle runs its own element-wise operations, and the sums of its backward pass, on one thread.
//! Kernels that share each layer between the cores leave all but one idle meanwhile: that was half
//! of a training step. Parts of a batch have nothing to wait for until the optimiser's step.

use super::Result;
use std::ops::Range;

/// candle's backward pass walks the graph by recursion, deeper than a thread's usual stack.
const STACK: usize = 64 << 20;

/// Parts of a batch, each with a thread of its own.
pub struct Shards {
    pools: Vec<rayon::ThreadPool>,
    parts: Vec<Range<usize>>,
}

impl Shards {
    /// Splits `batch` samples as evenly as they go, one part a core at most.
    ///
    /// # Errors
    /// Threads that can't be started.
    pub fn new(batch: usize) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let n = cores.clamp(1, batch.max(1));
        let pools = (0..n)
            .map(|_| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .stack_size(STACK)
                    .build()
                    .map_err(|e| candle_core::Error::wrap(e).into())
            })
            .collect::<Result<_>>()?;
        let parts = (0..n).map(|i| i * batch / n..(i + 1) * batch / n).collect();
        Ok(Self { pools, parts })
    }

    /// Calls `f` with each part, all at once; the results in the parts' order.
    pub fn run<T: Send>(&self, f: impl Fn(Range<usize>) -> Result<T> + Sync) -> Result<Vec<T>> {
        let f = &f;
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .pools
                .iter()
                .zip(&self.parts)
                .map(|(pool, part)| {
                    let part = part.clone();
                    scope.spawn(move || pool.install(|| f(part)))
                })
                .collect();
            running
                .into_iter()
                .map(|thread| match thread.join() {
                    Ok(r) => r,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_batch_in_order() {
        for batch in [1, 2, 3, 16] {
            let parts = Shards::new(batch).unwrap().run(Ok).unwrap();
            let all: Vec<usize> = parts.into_iter().flatten().collect();
            assert_eq!(all, (0..batch).collect::<Vec<_>>());
        }
    }
}
