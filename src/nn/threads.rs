//! One pool of threads for everything.

/// Keeps candle's element-wise operations on the calling thread; call it first in `main`. Where
/// another thread exists already, nothing is changed: it may be reading the environment.
///
/// candle's own pool waits for work by spinning, which takes the cores away from the kernels here
/// (rayon): a UNet training step at batch 32 took 2.4 s with that pool and 1.8 s without it, on
/// two cores. Someone who sets `CANDLE_NUM_THREADS` keeps their choice.
pub fn share_cores() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() && is_only_thread() {
        // SAFETY: no other thread exists that could read the environment meanwhile, or the system
        // is one where that does no harm (Windows).
        unsafe { std::env::set_var(NAME, "1") };
    }
}

/// Keeps Mesa from asking a Wayland session which GPU it prefers where there is none, of which it
/// complains on stderr for every adapter that is listed; call it first in `main`, as
/// [`share_cores`].
pub fn ask_no_session() {
    const NAME: &str = "NODEVICE_SELECT";
    if cfg!(target_os = "linux")
        && std::env::var_os("XDG_RUNTIME_DIR").is_none()
        && std::env::var_os(NAME).is_none()
        && is_only_thread()
    {
        // SAFETY: no other thread exists that could read the environment meanwhile.
        unsafe { std::env::set_var(NAME, "1") };
    }
}

/// Whether this thread is the only one of the program; false where that can't be told.
fn is_only_thread() -> bool {
    #[cfg(target_os = "linux")]
    {
        use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

        let Ok(this) = sysinfo::get_current_pid() else {
            return false;
        };
        let mut system = System::new();
        let what = ProcessRefreshKind::nothing().with_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, what);
        // Of its threads it lists those beside the first.
        let others = system.process(this).and_then(|process| process.tasks());
        others.is_some_and(|others| others.is_empty())
    }
    #[cfg(target_os = "macos")]
    {
        unsafe extern "C" {
            safe fn pthread_is_threaded_np() -> std::ffi::c_int;
        }
        pthread_is_threaded_np() == 0
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        cfg!(windows)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_several_threads_leaves_the_environment_alone() {
        std::thread::scope(|scope| {
            let beside = scope.spawn(is_only_thread);
            assert!(!beside.join().unwrap());
        });
    }
}
