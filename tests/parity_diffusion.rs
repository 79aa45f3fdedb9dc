//! The diffusion modules against values recorded from diffusers 0.27.2 and transformers 4.31.0 on
//! a tiny random Stable Diffusion (`tests/fixtures/public`, float32). The limit is 1e-4 of the
//! largest reference value.

use candle_core::{DType, Device, Tensor, safetensors};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use vokenboard::diffusion::{
    CaptionTokenizer, Denoising, Diffusion, ModelFolder, NoiseSchedule, Scheduler, TextFeatures,
    Vae, VaeConfig, to_picture,
};
use vokenboard::nn::Params;
use vokenboard::story::SchedulerKind;

const LIMIT: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/public")
        .join(name)
}

fn folder() -> ModelFolder {
    ModelFolder::new(fixture("checkpoint/sd"))
}

fn vectors(name: &str) -> HashMap<String, Tensor> {
    let path = fixture(&format!("vectors/{name}.safetensors"));
    safetensors::load(path, &Device::Cpu).unwrap()
}

/// `[B,C,H,W]` -> `[B,H,W,C]`.
fn nhwc(t: &Tensor) -> Tensor {
    t.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
}

fn largest(t: &Tensor) -> f32 {
    let t = t.flatten_all().unwrap().abs().unwrap();
    t.max(0).unwrap().to_scalar().unwrap()
}

fn relative(got: &Tensor, want: &Tensor) -> f32 {
    assert_eq!(got.dims(), want.dims());
    largest(&(got - want).unwrap()) / largest(want)
}

fn assert_close(what: &str, got: &Tensor, want: &Tensor) {
    let difference = relative(got, want);
    println!("{what}: {difference:.1e}");
    // Written so that a NaN fails.
    assert!(difference <= LIMIT, "{what} differs by {difference:.1e}");
}

#[test]
fn unet() {
    let unet = folder().read_unet(&Device::Cpu).unwrap();
    let v = vectors("unet");
    let latents = nhwc(&v["latents"]);
    let text = &v["encoder_hidden_states"];
    for t in v["timesteps"].to_vec1::<i64>().unwrap() {
        let times = Tensor::new(&[t as f32, t as f32], &Device::Cpu).unwrap();
        let got = unet.forward(&latents, &times, text, None).unwrap();
        assert_close(&format!("t={t}"), &got, &nhwc(&v[&format!("t{t}.output")]));
    }
    let times = v["per_sample_timesteps"].to_dtype(DType::F32).unwrap();
    let got = unet.forward(&latents, &times, text, None).unwrap();
    assert_close("per sample", &got, &nhwc(&v["per_sample_output"]));
}

#[test]
fn autoencoder_under_old_and_new_attention_names() {
    let config = std::fs::read(fixture("checkpoint/sd/vae/config.json")).unwrap();
    let config: VaeConfig = serde_json::from_slice(&config).unwrap();
    let v = vectors("vae");
    for file in [
        "checkpoint/sd/vae/diffusion_pytorch_model.safetensors",
        "checkpoint_alt/vae_modern_names.safetensors",
    ] {
        let params = Params::from_safetensors(&[fixture(file)], &Device::Cpu).unwrap();
        let vae = Vae::new(config.clone(), params).unwrap();
        let moments = vae.encode(&nhwc(&v["image"])).unwrap();
        assert_close("mean", &moments.mean, &nhwc(&v["moments_mean"]));
        assert_close("logvar", &moments.logvar, &nhwc(&v["moments_logvar"]));
        let one = moments.mean.ones_like().unwrap();
        let std = (moments.sample(&one).unwrap() - &moments.mean).unwrap();
        assert_close("std", &std, &nhwc(&v["moments_std"]));
        let decoded = vae.decode(&nhwc(&v["latents"])).unwrap();
        assert_close("decoded", &decoded, &nhwc(&v["decoded"]));
    }
}

#[test]
fn text_encoder_with_and_without_padding() {
    let encoder = folder().read_text_encoder(&Device::Cpu).unwrap();
    let v = vectors("clip_text");
    for i in 0..3 {
        let ids = v[&format!("{i}.input_ids")].to_dtype(DType::U32).unwrap();
        let mask = &v[&format!("{i}.attention_mask")];
        let n = mask.to_dtype(DType::F32).unwrap().sum_all().unwrap();
        let n = n.to_scalar::<f32>().unwrap() as usize;
        let seen = encoder.forward(&ids).unwrap();
        let want = &v[&format!("{i}.no_mask_last_hidden")];
        assert_close("padding seen", &seen.states, want);
        let hidden = encoder.forward_unpadded(&ids, &[n]).unwrap();
        let want = &v[&format!("{i}.encode_caption")];
        assert_close("padding hidden", &hidden.states, want);
        // The pooled text is the state at the end token, the last before the padding.
        let end = seen.states.narrow(1, n - 1, 1).unwrap().squeeze(1).unwrap();
        assert_eq!(relative(&seen.pooled, &end), 0.0);
    }
    let empty = folder().read_tokenizer().unwrap().encode_with_length("");
    let ids = Tensor::new(vec![empty.0], &Device::Cpu).unwrap();
    let feature = encoder.forward_unpadded(&ids, &[empty.1]).unwrap();
    assert_close("empty", &feature.states, &v["empty_text_feature"]);
}

#[test]
fn tokenizer() {
    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        input_ids: Vec<u32>,
        attention_mask: Vec<usize>,
    }
    #[derive(serde::Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }
    let json = std::fs::read(fixture("vectors/tokenizer_clip.json")).unwrap();
    let cases: Cases = serde_json::from_slice(&json).unwrap();
    let tokenizer = CaptionTokenizer::load(&fixture("checkpoint/sd/tokenizer")).unwrap();
    assert!(cases.cases.len() > 5);
    for case in cases.cases {
        let (ids, n) = tokenizer.encode_with_length(&case.text);
        assert_eq!(ids, case.input_ids, "{}", case.text);
        assert_eq!(n, case.attention_mask.iter().sum::<usize>());
    }
}

#[test]
fn ddim_schedule_and_trajectory() {
    trajectory("ddim", SchedulerKind::Ddim);
}

#[test]
fn pndm_schedule_and_trajectory() {
    trajectory("pndm", SchedulerKind::Pndm);
}

fn trajectory(name: &str, kind: SchedulerKind) {
    let model = Diffusion::load(&fixture("checkpoint/sd"), &Device::Cpu).unwrap();
    let v = vectors(name);

    let schedule = NoiseSchedule::new(&model.scheduler).unwrap();
    let alphas: Vec<f32> = (0..schedule.timesteps())
        .map(|t| schedule.alpha_cumprod(t) as f32)
        .collect();
    let alphas = Tensor::new(alphas, &Device::Cpu).unwrap();
    assert_close("alphas", &alphas, &v["alphas_cumprod"]);
    for (steps, list) in [(10, "timesteps"), (50, "timesteps_50")] {
        let times = Scheduler::new(kind, &model.scheduler, steps).unwrap();
        let times: Vec<i64> = times.timesteps().iter().map(|&t| t as i64).collect();
        assert_eq!(times, v[list].to_vec1::<i64>().unwrap());
    }

    // Each step alone, from the recorded noise.
    let mut scheduler = Scheduler::new(kind, &model.scheduler, 10).unwrap();
    let mut x = nhwc(&v["initial_latents"]);
    let calls = scheduler.timesteps().len();
    for i in 0..calls {
        let noise = nhwc(&v[&format!("noise_guided.{i:02}")]);
        x = scheduler.step(&noise, i, &x).unwrap();
        let want = nhwc(&v[&format!("latents_after_step.{i:02}")]);
        assert_close(&format!("step {i}"), &x, &want);
    }

    // The whole way with the UNet, from the recorded text.
    let features = |states: &Tensor| TextFeatures {
        states: states.clone(),
        pooled: states.get_on_dim(1, 0).unwrap(),
    };
    let how = Denoising {
        scheduler: kind,
        steps: 10,
        guidance: f64::from(v["guidance_scale"].to_scalar::<f32>().unwrap()),
    };
    let mut seen = 0;
    let latents = model
        .denoise(
            &nhwc(&v["initial_latents"]),
            &features(&v["prompt_embeds"]),
            &features(&v["negative_prompt_embeds"]),
            how,
            &mut |done| {
                seen += 1;
                assert_eq!((done.step, done.steps as usize), (seen, calls));
                ControlFlow::Continue(())
            },
        )
        .unwrap()
        .unwrap();
    assert_eq!(seen as usize, calls);
    assert_close("final latents", &latents, &nhwc(&v["final_latents"]));
    let decoded = model.decode(&latents).unwrap();
    assert_close("decoded", &decoded, &nhwc(&v["decoded"]));
    let picture = to_picture(&decoded).unwrap();
    let want = v["image_uint8_hwc"].flatten_all().unwrap();
    let want = want.to_vec1::<u8>().unwrap();
    for (pixel, rgb) in picture.pixels().zip(want.chunks(3)) {
        assert!((0..3).all(|c| pixel.0[c].abs_diff(rgb[c]) <= 1));
    }
}
