//! Readers of files from the internet, fed with damaged ones: whatever the bytes, they answer
//! with an error or with tensors, never with a panic.
//!
//! The changes are the same in every run. `VOKENBOARD_FUZZ_SECONDS` runs each reader for that
//! long instead; bytes that break one are kept in the temporary folder.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::Device;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vokenboard::llm::LlamaTokenizer;
use vokenboard::weights::{Checkpoint, GgufHeader};

const SECONDS: &str = "VOKENBOARD_FUZZ_SECONDS";
/// Rounds of an ordinary test run.
const ROUNDS: u64 = 1500;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint");
    std::fs::read(folder.join(name)).unwrap()
}

/// Feeds `read` with changed copies of `whole`, most of them changed in the first `head` bytes.
fn fuzz(name: &str, whole: &[u8], head: usize, read: impl Fn(Vec<u8>)) {
    let seconds = std::env::var(SECONDS)
        .ok()
        .and_then(|text| text.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    for round in 0.. {
        if end.map_or(round >= ROUNDS, |end| Instant::now() >= end) {
            if seconds.is_some() {
                eprintln!("{name}: {round} rounds");
            }
            return;
        }
        let bytes = changed(whole, head, &mut ChaCha8Rng::seed_from_u64(round));
        if catch_unwind(AssertUnwindSafe(|| read(bytes.clone()))).is_err() {
            let kept = std::env::temp_dir().join(format!("{name}-{round}.bin"));
            std::fs::write(&kept, &bytes).unwrap();
            panic!(
                "{name}: round {round} breaks the reader; see {}",
                kept.display()
            );
        }
    }
}

fn changed(whole: &[u8], head: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.random_range(1..8) {
        if bytes.len() < 16 {
            break;
        }
        let at = match rng.random_range(0..8) {
            0 => rng.random_range(0..bytes.len()),
            1 => bytes.len() - 1 - rng.random_range(0..bytes.len().min(4000)),
            _ => rng.random_range(0..bytes.len().min(head)),
        };
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            // Opcodes that build and call.
            2 => {
                bytes[at] =
                    b"().:0KMJXQRabceghijloqrstu}]\x80\x85\x8a\x93\x94"[rng.random_range(0..31)];
            }
            3 | 4 => {
                let extremes = [
                    0,
                    1,
                    0x7f,
                    0xff,
                    0xffff,
                    0x7fff_ffff,
                    0xffff_ffff,
                    1 << 60,
                    u64::MAX,
                ];
                let number = extremes[rng.random_range(0..extremes.len())].to_le_bytes();
                let length = [1, 2, 4, 8][rng.random_range(0..4)];
                let end = (at + length).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            5 => {
                let length = rng.random_range(1..64).min(bytes.len() - at);
                bytes.drain(at..at + length);
            }
            6 => {
                let from = rng.random_range(0..bytes.len());
                let length = rng.random_range(1..64).min(bytes.len() - from);
                let piece = bytes[from..from + length].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn read_all(name: &str, bytes: Vec<u8>) {
    if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new(name), bytes) {
        for tensor in checkpoint.names() {
            let _ = checkpoint.stored_tensor(tensor, &Device::Cpu);
        }
    }
}

#[test]
fn pickles() {
    // The pickle is the first entry of the zip.
    fuzz("pickle", &fixture("minigpt4.pth"), 2000, |bytes| {
        read_all("a.pth", bytes);
    });
}

#[test]
fn safetensors_headers() {
    let whole = fixture("sd/text_encoder/model.safetensors");
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    // A little of the data is enough.
    let whole = &whole[..(header + 8192).min(whole.len())];
    fuzz("safetensors", whole, header + 8, |bytes| {
        read_all("a.safetensors", bytes);
    });
    let one = b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}";
    let mut small = (one.len() as u64).to_le_bytes().to_vec();
    small.extend(one);
    small.extend([0; 8]);
    let head = small.len();
    fuzz("safetensors-small", &small, head, |bytes| {
        read_all("a.safetensors", bytes);
    });
}

#[test]
fn gguf_headers() {
    let temp = tempfile::tempdir().unwrap();
    crate::common::write_tiny_models(temp.path());
    let whole = std::fs::read(temp.path().join("tiny-writer/tiny.gguf")).unwrap();
    fuzz("gguf", &whole, 6000, |bytes| {
        let _ = GgufHeader::read(&bytes);
    });
}

#[test]
fn tokenizers() {
    let temp = tempfile::tempdir().unwrap();
    let whole = fixture("llama/tokenizer.model");
    fuzz("tokenizer", &whole, whole.len(), |bytes| {
        std::fs::write(temp.path().join("tokenizer.model"), bytes).unwrap();
        if let Ok(tokenizer) = LlamaTokenizer::load(temp.path()) {
            let ids = tokenizer.encode("they went home [IMG0] \u{1f389}");
            let _ = tokenizer.decode(&ids, false);
        }
    });
}

/// Feeds what tells files apart with changed copies of `whole`.
fn identify_changed(name: &str, whole: &[u8], head: usize) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a");
    fuzz(name, whole, head, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let _ = vokenboard::catalogue::identify(&path);
    });
}

#[test]
fn files_that_are_identified() {
    let whole = fixture("sd/text_encoder/model.safetensors");
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let whole = &whole[..(header + 64).min(whole.len())];
    identify_changed("identify-safetensors", whole, header + 8);
    identify_changed("identify-pickle", &fixture("minigpt4.pth"), 2000);
    let temp = tempfile::tempdir().unwrap();
    crate::common::write_tiny_models(temp.path());
    let whole = std::fs::read(temp.path().join("tiny-writer/tiny.gguf")).unwrap();
    identify_changed("identify-gguf", &whole, 6000);
}
