//! The pickle inside a torch file, in a zip that is always whole.

#![no_main]

use std::path::Path;

use candle_core::Device;
use libfuzzer_sys::fuzz_target;
use vokenboard_fuzz::Checkpoint;

fuzz_target!(|data: &[u8]| {
    let storage = [0u8; 256];
    let file = zip(&[("a/data.pkl", data), ("a/data/0", &storage)]);
    if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new("a.pth"), file) {
        for name in checkpoint.names() {
            let _ = checkpoint.stored_tensor(name, &Device::Cpu);
        }
    }
});

/// Stored entries, as `torch.save` writes them.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let offset = (body.len() as u32).to_le_bytes();
        let size = (bytes.len() as u32).to_le_bytes();
        let mut common = vec![0; 12];
        common.extend(size);
        common.extend(size);
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        body.extend(b"PK\x03\x04\0\0");
        body.extend(&common);
        body.extend(name.as_bytes());
        body.extend(*bytes);
        directory.extend(b"PK\x01\x02\0\0\0\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset);
        directory.extend(name.as_bytes());
    }
    let count = (files.len() as u16).to_le_bytes();
    let (start, length) = (body.len() as u32, directory.len() as u32);
    body.extend(directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend(count);
    body.extend(count);
    body.extend(length.to_le_bytes());
    body.extend(start.to_le_bytes());
    body.extend([0; 2]);
    body
}
