//! Tokens a second of the language model: reading a prompt of 512 tokens, and writing after a
//! short one. `RAYON_NUM_THREADS=2 cargo bench --bench llm`

use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use vokenboard::llm::LanguageModel;

const ROUNDS: usize = 5;

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") {
        ROUNDS
    } else {
        1
    };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/smollm2");
    let start = Instant::now();
    let mut model = match LanguageModel::load(&dir, &Device::Cpu) {
        Ok(model) => model,
        Err(error) => return eprintln!("{error}"),
    };
    println!("load: {:.2} s", start.elapsed().as_secs_f64());
    let ids: Vec<u32> = (0..512).map(|i| i * 7919 % 40_000 + 100).collect();
    let mut read = Vec::new();
    let mut written = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        if let Err(error) = model.lm().hidden_states(&ids) {
            return eprintln!("{error}");
        }
        read.push(ids.len() as f64 / start.elapsed().as_secs_f64());
        // The prompt is read first, so that only writing is measured.
        if let Err(error) = model.greedy(&ids[..16], 1) {
            return eprintln!("{error}");
        }
        let start = Instant::now();
        match model.greedy(&ids[..16], 100) {
            Ok(tokens) => written.push(tokens.len() as f64 / start.elapsed().as_secs_f64()),
            Err(error) => return eprintln!("{error}"),
        }
    }
    println!("read 512 tokens: {:.0} tokens/s", median(&mut read));
    println!("write: {:.1} tokens/s", median(&mut written));
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
