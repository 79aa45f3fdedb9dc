//! One pool of threads for everything.

/// Keeps candle's element-wise operations on the calling thread; call it first in `main`.
///
/// candle's own pool waits for work by spinning, which takes the cores away from the kernels here
/// (rayon): a UNet training step at batch 32 took 2.4 s with that pool and 1.8 s without it, on
/// two cores. Someone who sets `CANDLE_NUM_THREADS` keeps their choice.
pub fn share_cores() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: called before any other thread exists, so nothing reads the environment meanwhile.
        unsafe { std::env::set_var(NAME, "1") };
    }
}
