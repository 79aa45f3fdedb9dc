//! The header of a GGUF file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vokenboard_fuzz::GgufHeader;

fuzz_target!(|data: &[u8]| {
    let _ = GgufHeader::read(data);
});
