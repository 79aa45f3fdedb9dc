//! Whether the processor can run what the program was compiled to.
//!
//! With the settings in `.cargo/config.toml` the compiler uses AVX2 wherever it likes, and on a
//! processor without it the program would be killed with no word said. So `main` asks first, by
//! code that is plain enough to need none of it.

use std::io::Write;

/// Whether the processor has what x86-64-v3 names, if that is what this was compiled for.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub(crate) fn suits() -> bool {
    let id = raw_cpuid::CpuId::new();
    let avx2 = id
        .get_extended_feature_info()
        .is_some_and(|has| has.has_avx2() && has.has_bmi1() && has.has_bmi2());
    let rest = id
        .get_feature_info()
        .is_some_and(|has| has.has_fma() && has.has_f16c() && has.has_movbe());
    let lzcnt = id
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|has| has.has_lzcnt());
    avx2 && rest && lzcnt
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub fn suits() -> bool {
    true
}

/// Says so; not by `eprintln!`, whose formatting is compiled with the program.
pub(crate) fn refuse() {
    let sentence = b"vokenboard: this build needs a processor with AVX2 (x86-64-v3); build it \
        from source without the rustflags in .cargo/config.toml to run it on this one\n";
    // Where nobody reads it there is nothing left to do.
    let _ = std::io::stderr().write_all(sentence);
}
