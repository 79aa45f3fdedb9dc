//! Writes a folder of random weights in the shapes of the published model, to measure what a panel
//! of it takes where the real weights are not at hand: `cargo run --release --example full_size --
//! DIR`. It takes about 11 GB of disk; delete it afterwards.
//!
//! LLaMA-7B is a GGUF file mixed as Q4_K_M is, everything else is f16 safetensors under the public
//! names. The output layer knows few words, so that the model asks for its picture soon.

use candle_core::DType;
use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Result, Write};
use std::path::{Path, PathBuf};
use vokenboard::diffusion::{TextConfig, TextEncoder, Unet, UnetConfig, Vae, VaeConfig};
use vokenboard::llm::float::{FloatConfig, FloatLlama};
use vokenboard::nn::Params;
use vokenboard::vision::{Eva, QFormer, VisionConfig};
use vokenboard::voken::{FeatureMapper, MapperParams, ReferenceSizes};

type Shapes = BTreeMap<String, Vec<usize>>;

const PIECES: usize = 32_000;
const WIDTH: usize = 4096;
const INNER: usize = 11_008;
const LAYERS: usize = 32;
/// Words that the output layer knows, from the first one that is no byte on.
const KNOWN: usize = 24;
/// Pieces before it: three special ones and the bytes.
const BEFORE: usize = 3 + 256;

fn main() {
    let Some(dir) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("name the folder to write");
        std::process::exit(2);
    };
    if let Err(error) = write(&dir) {
        eprintln!("{} cannot be written ({error})", dir.display());
        std::process::exit(1);
    }
}

fn write(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let noise = Noise::new();
    gguf(&dir.join("llama-7b.Q4_K_M.gguf"))?;
    let vision = VisionConfig::default();
    let eva = asked(|p| drop(Eva::new(&vision.eva_vit, vision.image_size, p)));
    noise.tensors(&dir.join("eva_vit_g.safetensors"), &eva)?;
    let qformer = asked(|p| {
        let norm = p.pp("ln_vision");
        drop(norm.layer_norm(vision.eva_vit.embed_dim, vision.ln_vision_eps));
        drop(QFormer::new(&vision.qformer, p));
    });
    noise.tensors(&dir.join("qformer.safetensors"), &qformer)?;
    let hidden = vision.qformer.hidden_size;
    let projection = asked(|p| drop(p.pp("llama_proj").linear(hidden, WIDTH, true)));
    noise.tensors(&dir.join("minigpt4.safetensors"), &projection)?;

    let sizes = ReferenceSizes::default();
    let rows = PIECES + sizes.voken_count + 1;
    let mapper = asked(|p| {
        let params = MapperParams::all(p);
        drop(FeatureMapper::new(sizes.mapper.clone(), WIDTH, &params));
    });
    let mut first = mapper.clone();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        first.insert(format!("model.llama_model.{name}"), vec![rows, WIDTH]);
    }
    noise.tensors(&dir.join("stage1.safetensors"), &first)?;
    let base = "model.llama_model.base_model.model";
    let lora = asked(|p| {
        let config = FloatConfig::default();
        let llama = FloatLlama::new(config, &Params::probe(Shapes::new()));
        if let Ok(mut llama) = llama {
            drop(llama.add_lora(&sizes.lora, &p.pp(base).pp("model")));
        }
    });
    let mut second: Shapes = lora
        .into_iter()
        .filter(|(name, _)| name.contains(".lora_"))
        .chain(mapper)
        .filter(|(name, _)| !name.starts_with("fc.") && name != "t2i_decoder_prompt")
        .collect();
    for name in ["model.embed_tokens", "lm_head"] {
        let name = format!("{base}.{name}.modules_to_save.default.weight");
        second.insert(name, vec![rows, WIDTH]);
    }
    noise.tensors(&dir.join("stage2.safetensors"), &second)?;
    stable_diffusion(&dir.join("sd"), &noise)
}

/// What a network asks for when it is built.
fn asked(build: impl FnOnce(&Params)) -> Shapes {
    let params = Params::probe(Shapes::new());
    build(&params);
    params.required_tensors()
}

/// Stable Diffusion 2.1-base's sizes; its small files are those of the tests.
fn stable_diffusion(dir: &Path, noise: &Noise) -> Result<()> {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint/sd");
    for name in ["tokenizer", "scheduler"] {
        fs::create_dir_all(dir.join(name))?;
        for entry in fs::read_dir(small.join(name))? {
            let path = entry?.path();
            fs::copy(
                &path,
                dir.join(name).join(path.file_name().unwrap_or_default()),
            )?;
        }
    }
    fs::copy(small.join("model_index.json"), dir.join("model_index.json"))?;
    let unet = r#"{"sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
        "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024, "use_linear_projection": true}"#;
    let config: UnetConfig = serde_json::from_str(unet)?;
    let shapes = asked(|p| drop(Unet::new(config, p.clone())));
    part(
        &dir.join("unet"),
        unet,
        "diffusion_pytorch_model",
        &shapes,
        noise,
    )?;
    let vae = r#"{"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "latent_channels": 4, "sample_size": 512}"#;
    let config: VaeConfig = serde_json::from_str(vae)?;
    let shapes = asked(|p| drop(Vae::new(config, p.clone())));
    part(
        &dir.join("vae"),
        vae,
        "diffusion_pytorch_model",
        &shapes,
        noise,
    )?;
    let text = r#"{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
        "num_attention_heads": 16, "hidden_act": "gelu", "vocab_size": 49408}"#;
    let config: TextConfig = serde_json::from_str(text)?;
    let shapes = asked(|p| drop(TextEncoder::new(config, p.clone())));
    part(&dir.join("text_encoder"), text, "model", &shapes, noise)
}

fn part(dir: &Path, config: &str, stem: &str, shapes: &Shapes, noise: &Noise) -> Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("config.json"), config)?;
    noise.tensors(&dir.join(format!("{stem}.safetensors")), shapes)
}

/// Normal numbers, drawn once and used again and again.
struct Noise(Vec<f32>);

impl Noise {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // A prime, so that no two rows of a matrix are alike.
        Self(
            (0..1_000_003)
                .map(|_| StandardNormal.sample(&mut rng))
                .collect(),
        )
    }

    /// A safetensors file of f16.
    fn tensors(&self, path: &Path, shapes: &Shapes) -> Result<()> {
        let mut header = serde_json::Map::new();
        let mut at = 0;
        for (name, shape) in shapes {
            let end = at + 2 * shape.iter().product::<usize>();
            let info =
                serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [at, end]});
            header.insert(name.clone(), info);
            at = end;
        }
        let header = serde_json::to_vec(&header)?;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        let mut next = 0;
        for (name, shape) in shapes {
            let count: usize = shape.iter().product();
            // Norms begin as the identity, biases small, matrices keep the size of their input.
            let inputs: usize = shape.iter().skip(1).product();
            let (mean, scale) = match (shape.len(), name.ends_with("weight")) {
                (1, true) => (1.0, 0.02),
                (1, false) => (0.0, 0.02),
                _ if name.contains("embed_tokens") => (0.0, 0.02),
                _ => (0.0, (1.0 / inputs.max(1) as f32).sqrt()),
            };
            let head = name.contains("lm_head");
            for i in 0..count {
                next = if next + 1 < self.0.len() { next + 1 } else { 0 };
                let value = match head {
                    true => known(i / WIDTH) * self.0[next],
                    false => mean + scale * self.0[next],
                };
                file.write_all(&f16::from_f32(value).to_le_bytes())?;
            }
        }
        file.flush()
    }
}

/// Size of a row of the output layer.
fn known(row: usize) -> f32 {
    match (BEFORE..BEFORE + KNOWN).contains(&row) || row == PIECES {
        true => 1.0,
        false => 0.0,
    }
}

/// ggml's number of a type and the bytes of its blocks of 256.
#[derive(Clone, Copy)]
enum Kind {
    F32,
    Q4K,
    Q6K,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::Q4K => 12,
            Kind::Q6K => 14,
        }
    }

    fn bytes(self, count: usize) -> usize {
        match self {
            Kind::F32 => count * DType::F32.size_in_bytes(),
            Kind::Q4K => count / 256 * 144,
            Kind::Q6K => count / 256 * 210,
        }
    }

    /// A block of small weights around zero.
    fn block(self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut block = vec![0; self.bytes(256)];
        rng.fill(&mut block[..]);
        let half = |value: f32| f16::from_f32(value).to_le_bytes();
        match self {
            Kind::F32 => block = [1f32.to_le_bytes(); 256].concat(),
            Kind::Q4K => {
                block[..2].copy_from_slice(&half(8e-5));
                block[2..4].copy_from_slice(&half(6e-4));
            }
            Kind::Q6K => block[208..].copy_from_slice(&half(1e-5)),
        }
        block
    }
}

/// LLaMA-7B with the mix of Q4_K_M: six bits for half of the values and of the feed-forward
/// outputs, and for the output layer.
fn gguf(path: &Path) -> Result<()> {
    let mut tensors = vec![
        (
            "token_embd.weight".to_string(),
            vec![PIECES, WIDTH],
            Kind::Q4K,
        ),
        ("output.weight".to_string(), vec![PIECES, WIDTH], Kind::Q6K),
        ("output_norm.weight".to_string(), vec![WIDTH], Kind::F32),
    ];
    for i in 0..LAYERS {
        let mixed = if i % 2 == 0 { Kind::Q6K } else { Kind::Q4K };
        for (name, shape, kind) in [
            ("attn_norm", vec![WIDTH], Kind::F32),
            ("attn_q", vec![WIDTH, WIDTH], Kind::Q4K),
            ("attn_k", vec![WIDTH, WIDTH], Kind::Q4K),
            ("attn_v", vec![WIDTH, WIDTH], mixed),
            ("attn_output", vec![WIDTH, WIDTH], Kind::Q4K),
            ("ffn_norm", vec![WIDTH], Kind::F32),
            ("ffn_gate", vec![INNER, WIDTH], Kind::Q4K),
            ("ffn_up", vec![INNER, WIDTH], Kind::Q4K),
            ("ffn_down", vec![WIDTH, INNER], mixed),
        ] {
            tensors.push((format!("blk.{i}.{name}.weight"), shape, kind));
        }
    }
    let mut header = Header::default();
    header.text("general.architecture", "llama");
    for (key, value) in [
        ("context_length", 2048),
        ("embedding_length", WIDTH),
        ("block_count", LAYERS),
        ("feed_forward_length", INNER),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 32),
    ] {
        header.number(&format!("llama.{key}"), value as u32);
    }
    header.text("tokenizer.ggml.model", "llama");
    header.number("tokenizer.ggml.bos_token_id", 1);
    header.number("tokenizer.ggml.eos_token_id", 2);
    header.tokens();

    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend(header.count.to_le_bytes());
    head.extend(&header.bytes);
    let mut offset = 0;
    for (name, shape, kind) in &tensors {
        string(&mut head, name);
        head.extend((shape.len() as u32).to_le_bytes());
        for side in shape.iter().rev() {
            head.extend((*side as u64).to_le_bytes());
        }
        head.extend(kind.number().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += kind.bytes(shape.iter().product()).next_multiple_of(32);
    }
    head.resize(head.len().next_multiple_of(32), 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&head)?;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut pattern = |kind: Kind| (0..4099).flat_map(|_| kind.block(&mut rng)).collect();
    let patterns: [Vec<u8>; 3] = [Kind::F32, Kind::Q4K, Kind::Q6K].map(&mut pattern);
    for (_, shape, kind) in &tensors {
        let mut left = kind.bytes(shape.iter().product());
        let padding = left.next_multiple_of(32) - left;
        while left > 0 {
            let pattern = &patterns[match kind {
                Kind::F32 => 0,
                Kind::Q4K => 1,
                Kind::Q6K => 2,
            }];
            let piece = left.min(pattern.len());
            file.write_all(&pattern[..piece])?;
            left -= piece;
        }
        file.write_all(&vec![0; padding])?;
    }
    file.flush()
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
    count: u64,
}

impl Header {
    fn key(&mut self, key: &str, kind: u32) {
        string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.count += 1;
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        string(&mut self.bytes, value);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn list(&mut self, key: &str, kind: u32) {
        self.key(key, 9);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((PIECES as u64).to_le_bytes());
    }

    /// Special tokens, bytes, and made-up words of two syllables, the common first.
    fn tokens(&mut self) {
        let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let syllables: Vec<String> = "bdfgklmnprstvz"
            .chars()
            .flat_map(|c| "aeiou".chars().map(move |v| format!("{c}{v}")))
            .collect();
        let words = syllables
            .iter()
            .flat_map(|a| syllables.iter().map(move |b| format!("{a}{b}")));
        let letters = ('!'..='~').map(String::from);
        let made: Vec<String> = words
            .clone()
            .map(|word| format!("\u{2581}{word}"))
            .chain(letters)
            .chain([
                "\u{2581}".to_owned(),
                "\u{2581}###".to_owned(),
                "##".to_owned(),
            ])
            .chain(words)
            .chain((0..).map(|i| format!("\u{2581}{i}")))
            .take(PIECES - BEFORE)
            .collect();
        self.list("tokenizer.ggml.tokens", 8);
        for piece in special.into_iter().chain(bytes).chain(made) {
            string(&mut self.bytes, &piece);
        }
        self.list("tokenizer.ggml.scores", 6);
        for i in 0..PIECES {
            self.bytes.extend((-(i as f32)).to_le_bytes());
        }
        self.list("tokenizer.ggml.token_type", 5);
        for i in 0..PIECES {
            let kind: i32 = match i {
                0 => 2,
                1 | 2 => 3,
                i if i < BEFORE => 6,
                _ => 1,
            };
            self.bytes.extend(kind.to_le_bytes());
        }
    }
}
