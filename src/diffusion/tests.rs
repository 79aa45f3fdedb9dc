//! Tiny random models: gradients, folders, sampling.

use super::*;
use crate::nn::{Params, noise};
use candle_core::{DType, Device, Tensor};
use std::ops::ControlFlow;
use std::path::Path;

const CPU: Device = Device::Cpu;

fn unet_config() -> UnetConfig {
    UnetConfig {
        sample_size: 4,
        in_channels: 3,
        out_channels: 3,
        block_out_channels: vec![8, 12],
        layers_per_block: 1,
        down_block_types: vec![
            DownBlockKind::DownBlock2D,
            DownBlockKind::CrossAttnDownBlock2D,
        ],
        up_block_types: vec![UpBlockKind::CrossAttnUpBlock2D, UpBlockKind::UpBlock2D],
        attention_head_dim: PerBlock::Each(vec![1, 2]),
        cross_attention_dim: 8,
        norm_num_groups: 4,
        class_embed_type: Some("simple_projection".into()),
        projection_class_embeddings_input_dim: Some(8),
        ..Default::default()
    }
}

fn vae_config() -> VaeConfig {
    VaeConfig {
        latent_channels: 3,
        block_out_channels: vec![4, 8],
        decoder_block_out_channels: Some(vec![4, 4, 8]),
        norm_num_groups: 2,
        scaling_factor: 0.5,
        ..Default::default()
    }
}

fn text_config() -> TextConfig {
    TextConfig {
        vocab_size: 8,
        hidden_size: 8,
        intermediate_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        max_position_embeddings: 6,
        eos_token_id: 1,
        ..Default::default()
    }
}

/// Moves every parameter off its initial value, so that no layer is at zero.
fn stir(p: &Params) {
    for (i, (_, var)) in p.vars().iter().enumerate() {
        let by = noise(99, i as u64, var.dims(), &CPU).unwrap();
        var.set(&(var.as_tensor() + (by * 0.1).unwrap()).unwrap())
            .unwrap();
    }
}

/// As [`crate::nn::check_gradients`], of a loss of about 1, whose rounding gives up to 1e-6 / h.
fn check_gradients(p: &Params, loss: impl Fn() -> Tensor) {
    crate::nn::check_gradients(p, (2e-3, 1e-3), |_| 2e-3, loss);
}

/// A random linear function of `t`, of about unit size.
fn project(t: &Tensor, stream: u64) -> Tensor {
    let weights = noise(11, stream, t.dims(), &CPU).unwrap();
    let scale = 1.0 / (t.elem_count() as f64).sqrt();
    ((t * weights).unwrap().sum_all().unwrap() * scale).unwrap()
}

#[test]
fn unet_gradients() {
    for linear in [true, false] {
        let config = UnetConfig {
            use_linear_projection: linear,
            ..unet_config()
        };
        let p = Params::init(1, &CPU);
        let unet = Unet::new(config, p.clone()).unwrap();
        stir(&p);
        let x = noise(2, 0, &[2, 4, 4, 3], &CPU).unwrap();
        let text = noise(2, 1, &[2, 3, 8], &CPU).unwrap();
        let pooled = noise(2, 2, &[2, 8], &CPU).unwrap();
        let t = Tensor::new(&[3f32, 700.0], &CPU).unwrap();
        check_gradients(&p, || {
            project(&unet.forward(&x, &t, &text, Some(&pooled)).unwrap(), 0)
        });
    }
}

#[test]
fn autoencoder_gradients_through_the_whole_round_trip() {
    let p = Params::init(1, &CPU);
    let vae = Vae::new(vae_config(), p.clone()).unwrap();
    stir(&p);
    let x = noise(3, 0, &[1, 8, 8, 3], &CPU).unwrap();
    let draw = noise(3, 1, &[1, 4, 4, 3], &CPU).unwrap();
    check_gradients(&p, || {
        let moments = vae.encode(&x).unwrap();
        let y = vae.decode(&moments.sample(&draw).unwrap()).unwrap();
        project(&y, 0)
    });
}

/// What a random autoencoder with `config` draws, and one with `larger` that begins from it.
fn grown(config: VaeConfig, larger: VaeConfig) -> [Vec<f32>; 2] {
    let shallow = Params::init(1, &CPU);
    let vae = Vae::new(config, shallow.clone()).unwrap();
    stir(&shallow);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vae.safetensors");
    candle_core::safetensors::save(&shallow.to_file_layout(None).unwrap(), &file).unwrap();

    let deep = Params::init(2, &CPU);
    let grown = Vae::new(larger, deep.clone()).unwrap();
    let (adopted, _) = deep.adopt(&file).unwrap();
    assert_eq!(adopted, shallow.vars().len());
    let z = noise(4, 0, &[1, 4, 4, 3], &CPU).unwrap();
    [&vae, &grown].map(|vae| {
        let picture = vae.decode(&z).unwrap().flatten_all().unwrap();
        picture.to_vec1::<f32>().unwrap()
    })
}

#[test]
fn a_deeper_decoder_begins_where_the_shallow_one_ended() {
    let deeper = VaeConfig {
        decoder_layers_per_block: Some(2),
        ..vae_config()
    };
    let [was, is] = grown(vae_config(), deeper);
    assert_eq!(was, is);
}

#[test]
fn a_wider_decoder_begins_where_the_narrow_one_ended() {
    // Attention weighs by the width of its heads, so that more of it is not the same.
    let narrow = VaeConfig {
        mid_block_add_attention: false,
        ..vae_config()
    };
    let channels = narrow.decoder_channels().iter().map(|c| c * 2).collect();
    let wider = VaeConfig {
        decoder_block_out_channels: Some(channels),
        ..narrow.clone()
    };
    let [was, is] = grown(narrow, wider);
    let off = was.iter().zip(&is).map(|(a, b)| (a - b).abs());
    let largest = was.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(off.fold(0f32, f32::max) < 1e-4 * largest);
}

#[test]
fn text_encoder_gradients() {
    for hidden_act in [TextActivation::Gelu, TextActivation::QuickGelu] {
        let config = TextConfig {
            hidden_act,
            ..text_config()
        };
        let p = Params::init(1, &CPU);
        let encoder = TextEncoder::new(config, p.clone()).unwrap();
        stir(&p);
        let ids = Tensor::new(&[[2u32, 5, 4, 1, 0, 0], [2, 7, 1, 0, 0, 0]], &CPU).unwrap();
        check_gradients(&p, || {
            let f = encoder.forward(&ids).unwrap();
            (project(&f.states, 0) + project(&f.pooled, 1)).unwrap()
        });
    }
}

#[test]
fn the_decoder_draws_at_twice_the_size_that_was_read() {
    let vae = Vae::new(vae_config(), Params::init(1, &CPU)).unwrap();
    let x = noise(3, 0, &[1, 8, 8, 3], &CPU).unwrap();
    let z = vae.encode(&x).unwrap().mean;
    assert_eq!(z.dims(), [1, 4, 4, 3]);
    assert_eq!(vae.decode(&z).unwrap().dims(), [1, 16, 16, 3]);
}

/// A tiny random model folder.
fn write_model(dir: &Path) {
    let folder = ModelFolder::new(dir);
    let (unet, vae, text) = (
        Params::init(1, &CPU),
        Params::init(2, &CPU),
        Params::init(3, &CPU),
    );
    Unet::new(unet_config(), unet.clone()).unwrap();
    Vae::new(vae_config(), vae.clone()).unwrap();
    TextEncoder::new(text_config(), text.clone()).unwrap();
    stir(&unet);
    let files = |p: &Params| p.to_file_layout(None).unwrap();
    folder
        .write_unet(&unet_config(), &files(&unet), DType::F32)
        .unwrap();
    folder
        .write_vae(&vae_config(), &files(&vae), DType::F16)
        .unwrap();
    folder
        .write_text_encoder(&text_config(), &files(&text), DType::F32)
        .unwrap();
    let words = ["fox", "owl", "in", "snow"].map(String::from);
    let tokenizer = CaptionTokenizer::from_words(&words, 6);
    folder.write_tokenizer(&tokenizer).unwrap();
    let scheduler = serde_json::json!({
        "prediction_type": "v_prediction", "timestep_spacing": "trailing",
    });
    let scheduler: SchedulerConfig = serde_json::from_value(scheduler).unwrap();
    folder.write_scheduler(&scheduler).unwrap();
    folder.write_preview(&Preview::plain(3)).unwrap();
    folder.write_index(&scheduler).unwrap();
}

fn denoising(scheduler: SchedulerKind, guidance: f64) -> DenoisingOptions {
    DenoisingOptions {
        steps: 4,
        guidance,
        scheduler,
    }
}

#[test]
fn a_written_model_is_read_and_draws_the_same_picture_twice() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let model = TextToImageModel::load(dir.path(), &CPU).unwrap();
    assert_eq!(model.picture_size(), (16, 16));
    for &kind in SchedulerKind::ALL {
        for guidance in [1.0, 2.5] {
            let how = denoising(kind, guidance);
            let draw = |text: &str, negative: &str, seed| {
                let sink = &mut |_: StepDone| ControlFlow::Continue(());
                let drawn = model.sample(text, negative, seed, how, sink);
                drawn.unwrap().unwrap()
            };
            let picture = draw("fox in snow", "", 5);
            assert_eq!(picture.dimensions(), (16, 16));
            assert_eq!(picture, draw("fox in snow", "", 5));
            assert_ne!(picture, draw("owl", "", 5));
            assert_ne!(picture, draw("fox in snow", "", 6));
            // Without guidance there is nothing to lead away from.
            let led = draw("fox in snow", "owl", 5);
            assert_eq!(led == picture, guidance == 1.0);
        }
    }
}

#[test]
fn a_picture_is_cancelled_within_one_step() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let model = TextToImageModel::load(dir.path(), &CPU).unwrap();
    for last in 1..=4 {
        let mut steps = 0;
        let how = denoising(SchedulerKind::Ddim, 2.5);
        let picture = model.sample("fox", "", 5, how, &mut |done| {
            steps = done.step;
            match done.step == last {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        assert!(picture.unwrap().is_none());
        assert_eq!(steps, last);
    }
}

#[test]
fn several_pictures_at_once_are_those_drawn_alone() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let model = TextToImageModel::load(dir.path(), &CPU).unwrap();
    let how = denoising(SchedulerKind::DpmSolverPp, 2.0);
    let sink = &mut |_: StepDone| ControlFlow::Continue(());
    let together = model
        .sample_batch(&["owl", "fox"], &[1, 5], how, sink)
        .unwrap()
        .unwrap();
    let alone = model.sample("fox", "", 5, how, sink).unwrap().unwrap();
    let far = |a: u8, b: u8| a.abs_diff(b) > 1;
    let differ = together[1].iter().zip(alone.iter());
    assert!(!differ.into_iter().any(|(a, b)| far(*a, *b)));
}

/// How to spoil a model folder, and what the message must then name.
type Spoilt<'a> = (&'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn what_is_wrong_with_a_folder_is_one_sentence() {
    let message = |spoil: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path());
        spoil(dir.path());
        match TextToImageModel::load(dir.path(), &CPU) {
            Ok(_) => panic!("a spoilt folder was loaded"),
            Err(e) => e.to_string().replace('\n', "|"),
        }
    };
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let edit = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let cases: [Spoilt; 6] = [
        (
            &|d| std::fs::remove_file(d.join(weights)).unwrap(),
            &[weights],
        ),
        (
            &|d| {
                let bytes = std::fs::read(d.join(weights)).unwrap();
                std::fs::write(d.join(weights), &bytes[..bytes.len() / 2]).unwrap();
            },
            &[weights],
        ),
        (
            &|d| {
                edit(
                    &d.join("unet/config.json"),
                    "\"layers_per_block\": 1",
                    "\"layers_per_block\": 2",
                );
            },
            &[weights, "down_blocks.0.resnets.1"],
        ),
        (
            &|d| edit(&d.join("unet/config.json"), "\"silu\"", "\"mish\""),
            &["unet", "act_fn"],
        ),
        (
            &|d| {
                edit(
                    &d.join("text_encoder/config.json"),
                    "\"vocab_size\": 8",
                    "\"vocab_size\": 9",
                );
            },
            &[
                "text_encoder/model.safetensors",
                "token_embedding",
                "[8, 8]",
            ],
        ),
        (
            &|d| std::fs::write(d.join("tokenizer/vocab.json"), "[").unwrap(),
            &["tokenizer/vocab.json"],
        ),
    ];
    for (spoil, names) in cases {
        let m = message(spoil);
        assert!(names.iter().all(|n| m.contains(n)), "{m}");
        assert!(!m.contains('|'), "{m}");
    }
}

#[test]
fn parts_are_timed() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let model = TextToImageModel::load(dir.path(), &CPU).unwrap();
    for part in [BenchPart::Unet, BenchPart::Vae] {
        let seconds = model.time(part, 3).unwrap();
        assert_eq!(seconds.len(), 3);
        assert!(seconds[0] > 0.0 && seconds.is_sorted());
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let model = TextToImageModel::load(dir.path(), &CPU).unwrap();
    let sink = &mut |_: StepDone| ControlFlow::Continue(());
    let mut how = denoising(SchedulerKind::Ddim, 2.0);
    how.steps = 0;
    assert!(model.sample("fox", "", 5, how, sink).is_err());
    how.steps = 4;
    how.guidance = f64::NAN;
    assert!(model.sample("fox", "", 5, how, sink).is_err());
}

/// A picture decoded in tiles is the picture decoded at once, but for what the autoencoder's
/// attention and norms see of the rest.
#[test]
fn a_picture_decoded_in_tiles_is_close_to_the_whole() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sprout");
    let vae = ModelFolder::new(dir).read_vae(&Device::Cpu).unwrap();
    let (scale, read) = (vae.config().decoder_scale(), vae.config().encoder_scale());
    // A sunset with a hill, larger than a tile.
    let side = 24 * read;
    let pixel = |x: usize, y: usize| {
        let (u, v) = (x as f32 / side as f32, y as f32 / side as f32);
        match v > 0.7 + 0.1 * (u * 6.0).sin() {
            true => [-0.6, 0.2, -0.5],
            false => [0.9 - v, 0.4 - 0.6 * v, 0.2 * u],
        }
    };
    let picture: Vec<f32> = (0..side * side)
        .flat_map(|i| pixel(i % side, i / side))
        .collect();
    let picture = Tensor::from_vec(picture, (1, side, side, 3), &Device::Cpu).unwrap();
    let latents = vae.encode(&picture).unwrap().mean;
    let whole = vae.decode(&latents).unwrap();
    let tiled = tiles::decode_tiled(&latents, 16, scale, |z| vae.decode(z)).unwrap();
    assert_eq!(tiled.dims(), whole.dims());
    let off = (tiled - whole).unwrap().abs().unwrap();
    let mean = off.mean_all().unwrap().to_scalar::<f32>().unwrap();
    let most = off.max_all().unwrap().to_scalar::<f32>().unwrap();
    // Of a range of 2: on the average less than a grey level, at the worst place a dozen.
    assert!(mean < 0.0075 && most < 0.12, "{mean} {most}");
}
