//! A whole torch file: zip directory, pickle and storages.

#![no_main]

use std::path::Path;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use vokenboard_fuzz::Checkpoint;

fuzz_target!(|data: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new("a.pth"), data.to_vec()) {
        for name in checkpoint.names() {
            let _ = checkpoint.stored_tensor(name, &Device::Cpu);
        }
    }
});
