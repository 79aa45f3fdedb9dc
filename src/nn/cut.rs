//! Files of models that are cut while they are mapped.
//!
//! Whoever reads a mapped file asks first whether it still is what was mapped
//! ([`super::quant::MappedFile::check`]). Where it is cut, or its disk goes, between the question
//! and the reading, Unix ends the program with SIGBUS; then that is told in a sentence.

/// Has the program end with a sentence where a mapped file can't be read any more; call it first in
/// `main`.
pub fn report_cut_files() {
    #[cfg(unix)]
    {
        const SENTENCE: &str = "vokenboard: a model's file was cut, or its disk went away, while it was used; restore the file and start again\n";
        extern "C" fn report(_: libc::c_int) {
            // SAFETY: a handler may call both functions, and the sentence is there for ever.
            unsafe {
                libc::write(2, SENTENCE.as_ptr().cast(), SENTENCE.len());
                libc::_exit(1)
            }
        }
        let handler: extern "C" fn(libc::c_int) = report;
        // SAFETY: the handler calls only what handlers may call, and never returns.
        unsafe { libc::signal(libc::SIGBUS, handler as libc::sighandler_t) };
    }
}
