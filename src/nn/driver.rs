//! Whether the CUDA driver can be opened at all.

/// Whether `Device::new_cuda` can be asked. Where the program opens the driver at run time (built
/// with `--cfg cuda_dlopen`), cudarc panics on a machine without one, so this is asked first;
/// a program linked against the driver does not start without it.
#[cfg(all(feature = "cuda", cuda_dlopen))]
pub fn cuda_driver_is_present() -> bool {
    // SAFETY: the call only opens the driver's library by name and closes it again.
    unsafe { candle_core::cuda_backend::cudarc::driver::sys::is_culib_present() }
}

/// Whether the CUDA driver can be opened: always so without CUDA, or where it is linked.
#[cfg(not(all(feature = "cuda", cuda_dlopen)))]
pub fn cuda_driver_is_present() -> bool {
    true
}
