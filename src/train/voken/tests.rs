//! Each stage on a tiny model: the loss falls, the right parameters change, a run that was cut off
//! goes on to the same weights, and what it writes can be told with.

use super::{Denoiser, LossNoise, LossWeights, denoising_loss};
use crate::diffusion::{
    CaptionTokenizer, LatentDistribution, ModelFolder, NoiseSchedule, SchedulerConfig, TextConfig,
    TextEncoder, TextToImageModel, Unet, UnetConfig, Vae, VaeConfig,
};
use crate::llm::float::GgufLlama;
use crate::nn::{Params, noise};
use crate::pipeline::{CAPTION, ContextPanel, LoadOptions, Make, Request, VOKEN, loader, recipes};
use crate::story::{PanelId, Settings};
use crate::storyworld::vocabulary;
use crate::train;
use crate::voken::VokenFolder;
use crate::weights::{DeviceChoice, DeviceKind, Manifest};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub(super) const WIDTH: usize = 24;

/// A language model of two layers whose tokens are letters.
fn write_language_model(dir: &Path) {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .map(String::from)
        .to_vec();
    let control = tokens.len();
    tokens.extend(('!'..='~').map(String::from));
    tokens.extend(["Ġ", "Ċ", "th"].map(String::from));
    let kinds = (0..tokens.len()).map(|i| Value::I32(if i < control { 3 } else { 1 }));
    let count = |n: usize| Value::U32(n as u32);
    let strings = |all: &[String]| Value::Array(all.iter().cloned().map(Value::String).collect());
    let said = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", count(WIDTH)),
        ("llama.feed_forward_length", count(40)),
        ("llama.block_count", count(2)),
        ("llama.attention.head_count", count(6)),
        ("llama.attention.head_count_kv", count(2)),
        ("llama.context_length", count(2048)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("smollm".into())),
        ("tokenizer.ggml.tokens", strings(&tokens)),
        ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
        ("tokenizer.ggml.merges", strings(&["t h".to_string()])),
        ("tokenizer.ggml.bos_token_id", count(1)),
        ("tokenizer.ggml.eos_token_id", count(2)),
    ];
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("token_embd.weight".into(), vec![tokens.len(), WIDTH]),
        ("output_norm.weight".into(), vec![WIDTH]),
    ];
    for i in 0..2 {
        for (part, shape) in [
            ("attn_norm", vec![WIDTH]),
            ("attn_q", vec![WIDTH, WIDTH]),
            ("attn_k", vec![8, WIDTH]),
            ("attn_v", vec![8, WIDTH]),
            ("attn_output", vec![WIDTH, WIDTH]),
            ("ffn_norm", vec![WIDTH]),
            ("ffn_gate", vec![40, WIDTH]),
            ("ffn_up", vec![40, WIDTH]),
            ("ffn_down", vec![WIDTH, 40]),
        ] {
            shapes.push((format!("blk.{i}.{part}.weight"), shape));
        }
    }
    let tensors: Vec<(String, QTensor)> = shapes
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let t = match shape.len() {
                1 => Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap(),
                _ => (noise(5, i as u64, &shape, &Device::Cpu).unwrap() * 0.2).unwrap(),
            };
            (name, QTensor::quantize(&t, GgmlDType::F32).unwrap())
        })
        .collect();
    let said: Vec<(&str, &Value)> = said.iter().map(|(k, v)| (*k, v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    fs::create_dir_all(dir).unwrap();
    let mut file = fs::File::create(dir.join("tiny.gguf")).unwrap();
    gguf_file::write(&mut file, &said, &tensors).unwrap();
}

fn write_diffusion(dir: &Path) {
    let unet: UnetConfig = serde_json::from_str(
        r#"{"sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": [8, 16],
            "layers_per_block": 1, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 2,
            "cross_attention_dim": 16, "use_linear_projection": true, "norm_num_groups": 4,
            "class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": 16}"#,
    )
    .unwrap();
    let vae: VaeConfig = serde_json::from_str(
        r#"{"latent_channels": 4, "block_out_channels": [4, 8, 8, 8], "layers_per_block": 1,
            "norm_num_groups": 2, "sample_size": 64, "mid_block_add_attention": false}"#,
    )
    .unwrap();
    let words = CaptionTokenizer::from_words(&vocabulary(), 24);
    let (bos, eos, pad) = words.special_ids();
    let text = TextConfig {
        vocab_size: words.vocab_size(),
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        max_position_embeddings: 24,
        bos_token_id: bos,
        eos_token_id: eos,
        pad_token_id: pad,
        ..TextConfig::default()
    };
    let schedule: SchedulerConfig = serde_json::from_str(
        r#"{"prediction_type": "v_prediction", "timestep_spacing": "trailing"}"#,
    )
    .unwrap();
    let folder = ModelFolder::new(dir);
    let new = |seed| Params::init(seed, &Device::Cpu);
    let layout = |p: &Params| p.to_file_layout(None).unwrap();
    let p = new(1);
    Unet::new(unet.clone(), p.clone()).unwrap();
    // Its last layer begins as zeros, which no gradient passes.
    for (name, var) in p.vars() {
        if name == "conv_out.weight" {
            let values = noise(9, 0, var.dims(), &Device::Cpu).unwrap();
            var.set(&(values * 0.1).unwrap()).unwrap();
        }
    }
    folder.write_unet(&unet, &layout(&p), DType::F32).unwrap();
    let p = new(2);
    Vae::new(vae.clone(), p.clone()).unwrap();
    folder.write_vae(&vae, &layout(&p), DType::F32).unwrap();
    let p = new(3);
    TextEncoder::new(text.clone(), p.clone()).unwrap();
    folder
        .write_text_encoder(&text, &layout(&p), DType::F32)
        .unwrap();
    folder.write_tokenizer(&words).unwrap();
    folder.write_scheduler(&schedule).unwrap();
    folder.write_index(&schedule).unwrap();
}

fn see_toml(dir: &Path, steps: u64, language_steps: u64) -> PathBuf {
    let path = dir.join(format!("see-{steps}-{language_steps}.toml"));
    let text = format!(
        "language_model = \"lm\"\nseed = 1\nsteps = {steps}\nbatch = 6\nlearning_rate = 3e-3\n\
         warmup = 2\ndecay_from = 1.0\nlanguage_steps = {language_steps}\nlanguage_batch = 2\n\
         language_rate = 1e-3\ncheckpoint_every = 1000\n\
         [vision]\nimage_size = 64\n\
         [vision.eva_vit]\npatch_size = 16\nembed_dim = 16\ndepth = 1\nnum_heads = 2\nmlp_hidden = 32\n\
         [vision.qformer]\nhidden_size = 16\nnum_hidden_layers = 1\nnum_attention_heads = 2\n\
         intermediate_size = 32\ncross_attention_freq = 1\nnum_query_tokens = 7\nencoder_width = 16\n"
    );
    fs::write(&path, text).unwrap();
    path
}

const ALIGN: &str = "data = \"pairs\"\ntasks = [\"picture\"]\n[context]\nfull = 0.0\nnone = 1.0\n";
const STORY: &str = "init = \"align/voken\"\ntasks = [\"picture\", \"both\", \"text\"]\n[lora]\nr = 2\nalpha = 4.0\n";

fn tune_toml(dir: &Path, name: &str, steps: u64, rest: &str) -> PathBuf {
    let path = dir.join(format!("{name}-{steps}.toml"));
    let text = format!(
        "model = \"model\"\nlanguage_model = \"lm\"\nvision = \"see/voken\"\nseed = 4\n\
         steps = {steps}\nbatch = 2\nlearning_rate = 1e-3\nwarmup = 1\ndecay_from = 1.0\n\
         stories = 4\ncheckpoint_every = 1000\nsample_every = 1000\n{rest}\n\
         [mapper]\nd_model = 16\nnhead = 2\nencoder_layers = 1\ndecoder_layers = 1\n\
         dim_feedforward = 32\nprompt_tokens = 25\npooled = true\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// A folder with tiny models, trained through `see` and `align`; made once.
pub(super) fn trained() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        write_language_model(&dir.join("lm"));
        write_diffusion(&dir.join("model"));
        train::run("see", &see_toml(dir, 50, 50), &dir.join("see"), false).unwrap();
        let align = tune_toml(dir, "align", 100, ALIGN);
        train::run("align", &align, &dir.join("align"), false).unwrap();
        temp
    })
    .path()
}

/// First and last value of a column of the log.
fn fell(run: &Path, column: &str, rows: std::ops::Range<usize>) -> (f64, f64) {
    let csv = fs::read_to_string(run.join("loss.csv")).unwrap();
    let at = csv.lines().next().unwrap().split(',');
    let at = at.into_iter().position(|name| name == column).unwrap();
    let values: Vec<f64> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(at).unwrap().parse().unwrap())
        .collect();
    let values = &values[rows.start..rows.end.min(values.len())];
    (values[0], values[values.len() - 1])
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn model_file(run: &Path) -> PathBuf {
    VokenFolder::new(run.join("voken")).model_file()
}

#[test]
fn seeing_is_learnt_and_goes_on_after_a_kill() {
    let dir = trained();
    let (first, last) = fell(&dir.join("see"), "words", 0..2);
    assert!(last < 0.9 * first, "words {first} -> {last}");
    let (first, last) = fell(&dir.join("see"), "text", 2..4);
    assert!(last < first, "text {first} -> {last}");
    let run = |config: PathBuf, name: &str, resume| {
        train::run("see", &config, &dir.join(name), resume).unwrap();
    };
    run(see_toml(dir, 3, 3), "see-whole", false);
    run(see_toml(dir, 3, 1), "see-cut", false);
    // The optimiser's warm-up in the second part counts from its own beginning.
    run(see_toml(dir, 3, 3), "see-cut", true);
    let file = |name: &str| fs::read(dir.join(name).join("voken/vision.safetensors")).unwrap();
    assert!(file("see-whole") == file("see-cut"));
    let error = train::run("see", &see_toml(dir, 3, 3), &dir.join("see-cut"), false);
    assert!(error.unwrap_err().to_string().contains("--resume"));
}

#[test]
fn stage_one_teaches_only_what_is_new() {
    let dir = trained();
    for column in ["caption", "text"] {
        let (first, last) = fell(&dir.join("align"), column, 0..4);
        assert!(last < first, "{column} {first} -> {last}");
    }
    let learnt = tensors(&model_file(&dir.join("align")));
    let new = [
        "embed_tokens.weight",
        "lm_head.weight",
        "fc.",
        "llm_to_t2i_mapping.",
        "t2i_decoder_prompt",
    ];
    let begins = |name: &String| new.iter().any(|part| name.starts_with(part));
    assert!(learnt.keys().all(begins), "{:?}", learnt.keys());
    assert_eq!(learnt["embed_tokens.weight"].dims(), [8, WIDTH]);
    let saw = |run: &str| fs::read(dir.join(run).join("voken/vision.safetensors")).unwrap();
    assert!(saw("align") == saw("see"));
    assert!(dir.join("align/loss.png").is_file());
    assert!(dir.join("align/stories-000100.png").is_file());

    // Every one of them changes in a single step, and the model's own files never do.
    let before = fs::read(dir.join("model/unet/diffusion_pytorch_model.safetensors")).unwrap();
    for steps in [1, 2] {
        let config = tune_toml(dir, "few", steps, ALIGN);
        let run = dir.join(format!("few-{steps}"));
        train::run("align", &config, &run, false).unwrap();
    }
    let (one, two) = (
        tensors(&model_file(&dir.join("few-1"))),
        tensors(&model_file(&dir.join("few-2"))),
    );
    for (name, t) in &one {
        let off = (t.to_dtype(DType::F32).unwrap() - two[name].to_dtype(DType::F32).unwrap())
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        let off = off.to_scalar::<f32>().unwrap();
        // Keys' biases have no gradient under softmax; those of queries, keys and values are one.
        assert!(off > 0.0, "{name} did not change");
    }
    let after = fs::read(dir.join("model/unet/diffusion_pytorch_model.safetensors")).unwrap();
    assert!(before == after);
}

#[test]
fn stage_two_adapts_the_language_model_and_goes_on_after_a_kill() {
    let dir = trained();
    let run = |steps, name: &str, resume| {
        let config = tune_toml(dir, "story", steps, STORY);
        train::run("story", &config, &dir.join(name), resume).unwrap();
    };
    run(4, "story-whole", false);
    run(2, "story-cut", false);
    run(4, "story-cut", true);
    let file = |name: &str| fs::read(model_file(&dir.join(name))).unwrap();
    assert!(file("story-whole") == file("story-cut"));
    let learnt = tensors(&model_file(&dir.join("story-whole")));
    for layer in 0..2 {
        for part in ["q_proj", "v_proj"] {
            let name = format!("layers.{layer}.self_attn.{part}.lora_B.default.weight");
            let most = learnt[&name].abs().unwrap().max_all().unwrap();
            let most = most.to_dtype(DType::F32).unwrap();
            assert!(most.to_scalar::<f32>().unwrap() > 0.0, "{name} is zero");
        }
    }
    // What was written can be told with, on the file as it is.
    let file = GgufLlama::find(&dir.join("lm")).unwrap();
    let folder = VokenFolder::new(dir.join("story-whole/voken"));
    assert!(folder.is_whole());
    let model = folder.read_model(&file, &Device::Cpu).unwrap();
    assert_eq!(model.llama.rows().unwrap(), 100 + 8);
    folder.read_tower(WIDTH, &Device::Cpu).unwrap();
}

/// On states that are remembered, in steps with stories met before and new ones.
#[test]
fn the_mapper_goes_on_alone_and_after_a_kill() {
    let dir = trained();
    let config = tune_toml(dir, "whole", 2, STORY);
    train::run("story", &config, &dir.join("before-mapper"), false).unwrap();
    let rest = "init = \"before-mapper/voken\"\nlearns = \"mapper\"\ntasks = [\"picture\"]\n";
    let run = |steps, name: &str, resume| {
        let config = tune_toml(dir, "mapper", steps, rest);
        train::run("story", &config, &dir.join(name), resume).unwrap();
    };
    run(8, "mapper-whole", false);
    run(4, "mapper-cut", false);
    run(8, "mapper-cut", true);
    let file = |name: &str| fs::read(model_file(&dir.join(name))).unwrap();
    assert!(file("mapper-whole") == file("mapper-cut"));
    let read = |name: &str| tensors(&model_file(&dir.join(name)));
    let (before, after) = (read("before-mapper"), read("mapper-whole"));
    assert_eq!(before.len(), after.len());
    for (name, t) in &before {
        let off = (t.to_dtype(DType::F32).unwrap() - after[name].to_dtype(DType::F32).unwrap())
            .and_then(|off| off.abs()?.max_all()?.to_scalar::<f32>())
            .unwrap();
        let new = ["fc.", "llm_to_t2i_mapping.", "t2i_decoder_prompt"];
        let learns = new.iter().any(|part| name.starts_with(part));
        assert_eq!(off > 0.0, learns, "{name} {off}");
    }
    let log = fs::read_to_string(dir.join("mapper-whole/loss.csv")).unwrap();
    assert!(log.lines().count() > 1);
    // What sees may stand in the folder of a whole model, whose adapters stay there.
    let config = tune_toml(dir, "sees", 1, ALIGN);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("see/voken", "before-mapper/voken")).unwrap();
    train::run("align", &config, &dir.join("sees"), false).unwrap();
    let began = read("sees");
    assert!(before.keys().any(|name| name.contains("lora")));
    assert!(!began.keys().any(|name| name.contains("lora")));
    assert_eq!(began.len() + 4 * 2, before.len());
    // Alone it can't begin.
    let config = tune_toml(dir, "mapper", 1, &rest.replacen("init", "#", 1));
    let error = train::run("story", &config, &dir.join("mapper-new"), false).unwrap_err();
    assert!(error.to_string().contains("init"), "{error}");
}

#[test]
fn noise_that_is_predicted_for_some_pictures_stands_for_all() {
    let dir = trained();
    let diffusion = TextToImageModel::load(&dir.join("model"), &Device::Cpu).unwrap();
    let schedule = NoiseSchedule::new(&diffusion.scheduler).unwrap();
    let empty = diffusion.encode_text(&[""]).unwrap();
    let denoiser = Denoiser {
        unet: &diffusion.unet,
        schedule: &schedule,
        scaling_factor: 1.0,
        empty_caption: &empty.states,
    };
    let shape = [4usize, 4, 4, diffusion.vae.config().latent_channels];
    let targets = LatentDistribution {
        mean: noise(3, 0, &shape, &Device::Cpu).unwrap(),
        logvar: noise(3, 1, &shape, &Device::Cpu).unwrap(),
    };
    let captions = diffusion.encode_text(&["a", "b", "c", "d"]).unwrap();
    let loss = |share: f64, chosen: &dyn Fn(bool) -> bool| {
        let weights = LossWeights {
            denoised: share,
            ..LossWeights::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let shape = [shape[1], shape[2], shape[3]];
        let mut draws = LossNoise::new(4, shape, &weights, 1000, &mut rng, &Device::Cpu).unwrap();
        for denoised in &mut draws.denoised {
            *denoised = chosen(*denoised);
        }
        let count = draws.denoised.iter().filter(|d| **d).count();
        let loss = denoising_loss(&denoiser, &captions, &targets, &draws, &weights).unwrap();
        (loss.to_scalar::<f32>().unwrap(), count)
    };
    let (whole, all) = loss(1.0, &|d| d);
    let (some, few) = loss(0.5, &|d| d);
    let (rest, others) = loss(0.5, &|d| !d);
    assert_eq!((all, few + others), (4, 4));
    assert!(few > 0 && others > 0, "{few} and {others}");
    let mean = (some + rest) / 2.0;
    assert!((mean - whole).abs() < 1e-5 * whole, "{mean} and {whole}");
    assert_eq!(loss(0.5, &|_| false), (0.0, 0));
}

#[test]
fn the_rows_of_the_comparison_are_trained_by_file() {
    let dir = trained();
    for (name, rest) in [
        ("gill", "[loss]\ntext = 1.0\nimage = 0.0\ncaption = 1.0\n"),
        ("alone", "[context]\nfull = 0.0\nnone = 1.0\n"),
        (
            "mixed",
            "[context]\nfull = 0.3\ntexts = 0.3\npictures = 0.3\nnone = 0.1\n",
        ),
    ] {
        let config = tune_toml(dir, name, 1, &format!("{STORY}{rest}"));
        train::run("story", &config, &dir.join(name), false).unwrap();
    }
    let described = format!("speaks = \"description\"\n{STORY}[loss]\ntext = 1.0\nimage = 0.0\n");
    let config = tune_toml(dir, "described", 1, &described);
    train::run("story", &config, &dir.join("described"), false).unwrap();
    let texts = "init = \"align/voken\"\ntasks = [\"continue\"]\n[loss]\ntext = 1.0\n\
                 [context]\nfull = 0.0\ntexts = 1.0\n";
    let config = tune_toml(dir, "texts", 1, texts);
    train::run("story", &config, &dir.join("texts"), false).unwrap();
}

#[test]
fn own_stories_are_learnt_from_and_mistakes_are_named() {
    let dir = trained();
    let data = dir.join("data");
    fs::create_dir_all(data.join("images")).unwrap();
    let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([200, 30, 30]));
    picture.save(data.join("images/a.png")).unwrap();
    fs::write(
        data.join("talk.jsonl"),
        r#"[[{"__TEXT__":"Look at Milo."},{"__MEDIA__":"a"}],[{"__TEXT__":"Milo is red."}]]"#,
    )
    .unwrap();
    let config = tune_toml(dir, "own", 1, STORY);
    let run = |data: &Path, name: &str| {
        train::run_with("story", &config, &dir.join(name), false, Some(data))
    };
    run(&data, "own").unwrap();
    fs::write(data.join("talk.jsonl"), "[[]]\n{broken\n").unwrap();
    let error = run(&data, "own-broken").unwrap_err().to_string();
    assert!(error.contains("talk.jsonl, line 2"), "{error}");
    assert!(!dir.join("own-broken").exists());
    let error = train::run_with("see", &config, &dir.join("x"), false, Some(&data)).unwrap_err();
    assert!(error.to_string().contains("--data"), "{error}");
}

#[test]
fn settings_that_do_not_fit_are_told() {
    let dir = trained();
    let run = |name: &str, text: &str, what: &str| {
        let path = tune_toml(dir, name, 1, text);
        let error = train::run("align", &path, &dir.join(name), false).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    };
    run("bad-tasks", "tasks = []\n", "tasks");
    run("bad-task", "tasks = [\"dream\"]\n", "dream");
    run(
        "bad-context",
        "tasks = [\"picture\"]\n[context]\nfull = 0.0\n",
        "context",
    );
    run(
        "bad-share",
        "tasks = [\"picture\"]\n[loss]\ndenoised = 1.5\n",
        "denoised",
    );
    let path = tune_toml(dir, "bad-mapper", 1, "tasks = [\"picture\"]\n");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("prompt_tokens = 25", "prompt_tokens = 9"),
    )
    .unwrap();
    let error = train::run("align", &path, &dir.join("bad-mapper"), false).unwrap_err();
    assert!(error.to_string().contains("25 tokens"), "{error}");
}

/// A models folder with the tiny model, its voken folder from `run`.
fn installed(dir: &Path, run: &str, models: &Path) {
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
    };
    let manifest = |id: &str, pipeline: &str, language_model: Option<&str>| Manifest {
        id: id.to_string(),
        name: id.to_string(),
        pipeline: pipeline.to_string(),
        licence: "MIT".to_string(),
        language_model: language_model.map(str::to_string),
        ..Manifest::default()
    };
    copy(&dir.join("lm"), &models.join("lm"));
    let writer = manifest("lm", "language-model", None);
    writer.write(&models.join("lm")).unwrap();
    for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        copy(
            &dir.join("model").join(part),
            &models.join("tiny").join(part),
        );
    }
    copy(&dir.join(run).join("voken"), &models.join("tiny/voken"));
    let tiny = manifest("tiny", "caption", Some("lm"));
    tiny.write(&models.join("tiny")).unwrap();
}

#[test]
fn what_was_trained_tells_stories() {
    let dir = trained();
    let described = format!("speaks = \"description\"\n{STORY}[loss]\ntext = 1.0\nimage = 0.0\n");
    for (name, rest) in [("tell", STORY), ("tell-described", described.as_str())] {
        let config = tune_toml(dir, name, 1, rest);
        train::run("story", &config, &dir.join(name), false).unwrap();
        let models = dir.join(format!("models-{name}"));
        installed(dir, name, &models);
        let found = crate::weights::find(&models, "tiny").unwrap();
        assert_eq!(recipes(&found), [VOKEN, CAPTION]);
        let options = |model: &str| LoadOptions {
            models: Some(models.clone()),
            model: Some(model.to_string()),
            device: DeviceChoice::Only(DeviceKind::Cpu),
            ..LoadOptions::default()
        };
        let mut pipeline = loader(options("tiny"))(&mut |_| {}).unwrap();
        assert_eq!(pipeline.describe().pipeline, "voken");
        let mut make = |context: &[ContextPanel], text: Option<&str>, make: Make| {
            let request = Request {
                context: context.to_vec(),
                text: text.map(str::to_string),
                picture: None,
                make,
                settings: Settings {
                    seed: 3,
                    steps: 2,
                    ..Settings::default()
                },
                ..Request::default()
            };
            let go_on = &mut |_| ControlFlow::Continue(());
            pipeline.generate(&request, go_on).unwrap().unwrap()
        };
        let first = make(&[], Some("A fox finds a kite."), Make::Both);
        let (picture, record) = first.picture.unwrap();
        // The author asked for the picture of a text, so that nothing was forced.
        assert!(!record.forced && first.text.is_none());
        assert_eq!(record.prompt, "A fox finds a kite.");
        assert_eq!(picture.dimensions(), (64, 64));
        let context = [ContextPanel {
            id: PanelId(1),
            text: "A fox finds a kite.".to_string(),
            picture: Some(Arc::new(picture.clone())),
        }];
        let seen = make(&context, Some("It flies."), Make::Picture);
        assert!(seen.text.is_none());
        let told = make(&context, None, Make::Both);
        assert!(!told.text.unwrap().0.is_empty());
        let again = make(&context, None, Make::Both);
        assert_eq!(told.picture.unwrap().0, again.picture.unwrap().0);
        let prompt = seen.picture.unwrap().1.prompt;
        assert_eq!(prompt, "A fox finds a kite. <Img>\nIt flies.");
        let text = make(&context, None, Make::Text);
        assert!(text.picture.is_none() && text.text.is_some());
        let request = Request {
            context: context.to_vec(),
            text: None,
            picture: Some(Arc::new(picture.clone())),
            make: Make::Text,
            settings: Settings::default(),
            ..Request::default()
        };
        let go_on = &mut |_| ControlFlow::Continue(());
        let seen = pipeline.generate(&request, go_on).unwrap().unwrap();
        let (text, record) = seen.text.unwrap();
        assert!(!text.is_empty() && record.prompt.ends_with("<Img>\n<Img>"));
    }
}
