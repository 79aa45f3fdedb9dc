//! Stable Diffusion's parts alone, and whole trajectories.

use crate::fixture::{Fixture, Trained, get, nhwc};
use crate::generation::grey_levels;
use crate::report::{Outcome, Stage};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::ops::ControlFlow;
use vokenboard::diffusion::{
    DenoisingOptions, NoiseSchedule, Scheduler, SchedulerKind, TextFeatures, Vae, VaeConfig,
    to_picture,
};
use vokenboard::nn::Params;

#[derive(Deserialize)]
struct Case {
    text: String,
    input_ids: Vec<u32>,
    attention_mask: Vec<usize>,
}

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

pub fn tokenizer(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let (_, tokenizer) = f.captioner()?;
    for case in f.json::<Cases>(name)?.cases {
        let (ids, n) = tokenizer.encode_with_length(&case.text);
        stage.same(&case.text, &ids, &case.input_ids);
        stage.same(&case.text, &n, &case.attention_mask.iter().sum::<usize>());
    }
    Ok(())
}

/// With the padding seen, as Stable Diffusion has it, and hidden, as training targets have it.
pub fn clip_text(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let (encoder, tokenizer) = f.captioner()?;
    for i in 0.. {
        let Some(ids) = v.get(&format!("{i}.input_ids")) else {
            break;
        };
        let ids = ids.to_dtype(DType::U32)?;
        let mask = get(&v, &format!("{i}.attention_mask"))?.to_dtype(DType::F32)?;
        let n = mask.sum_all()?.to_scalar::<f32>()? as usize;
        let key = format!("{i}.no_mask_last_hidden");
        stage.close(&key, &encoder.forward(&ids)?.states, get(&v, &key)?)?;
        let key = format!("{i}.encode_caption");
        let hidden = encoder.forward_unpadded(&ids, &[n])?;
        stage.close(&key, &hidden.states, get(&v, &key)?)?;
    }
    let (ids, n) = tokenizer.encode_with_length("");
    let ids = Tensor::new(vec![ids], &Device::Cpu)?;
    let empty = encoder.forward_unpadded(&ids, &[n])?;
    let want = get(&v, "empty_text_feature")?;
    stage.close("empty_text_feature", &empty.states, want)
}

pub fn unet(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    f.path("checkpoint/sd/unet/config.json")?;
    f.weights("checkpoint/sd/unet")?;
    let unet = f.unet()?;
    let latents = nhwc(get(&v, "latents")?)?;
    let text = get(&v, "encoder_hidden_states")?;
    for t in get(&v, "timesteps")?.to_vec1::<i64>()? {
        let times = Tensor::new(vec![t as f32; latents.dim(0)?], &Device::Cpu)?;
        let got = unet.forward(&latents, &times, text, None)?;
        let key = format!("t{t}.output");
        stage.close(&key, &got, &nhwc(get(&v, &key)?)?)?;
    }
    let times = get(&v, "per_sample_timesteps")?.to_dtype(DType::F32)?;
    let got = unet.forward(&latents, &times, text, None)?;
    let want = nhwc(get(&v, "per_sample_output")?)?;
    stage.close("per_sample_output", &got, &want)
}

/// Both ways, under the old and the new names of its attention where there are both.
pub fn vae(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let config = std::fs::read(f.path("checkpoint/sd/vae/config.json")?)?;
    let config: VaeConfig = serde_json::from_slice(&config)?;
    let files = [
        "checkpoint/sd/vae/diffusion_pytorch_model.safetensors",
        "checkpoint_alt/vae_modern_names.safetensors",
    ];
    for file in files.iter().filter_map(|file| f.path(file).ok()) {
        let params = Params::from_safetensors(&[file], &Device::Cpu)?.on(f.gpu.as_ref());
        let vae = Vae::new(config.clone(), params)?;
        let moments = vae.encode(&nhwc(get(&v, "image")?)?)?;
        stage.close("mean", &moments.mean, &nhwc(get(&v, "moments_mean")?)?)?;
        let want = nhwc(get(&v, "moments_logvar")?)?;
        stage.close("logvar", &moments.logvar, &want)?;
        let std = (moments.sample(&moments.mean.ones_like()?)? - &moments.mean)?;
        stage.close("std", &std, &nhwc(get(&v, "moments_std")?)?)?;
        let decoded = vae.decode(&nhwc(get(&v, "latents")?)?)?;
        stage.close("decoded", &decoded, &nhwc(get(&v, "decoded")?)?)?;
    }
    Ok(())
}

/// Each step alone from the recorded noise, then the whole way with the UNet.
pub fn trajectory(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let model = f.painter()?;
    let kind: SchedulerKind = name.replace("dpmpp", "dpm++").parse()?;
    let calls = v
        .keys()
        .filter(|key| key.starts_with("noise_guided."))
        .count();
    let steps = match kind {
        // It calls the UNet once more.
        SchedulerKind::Pndm if calls > 1 => calls - 1,
        _ => calls,
    };

    let schedule = NoiseSchedule::new(&model.scheduler)?;
    let alphas: Vec<f32> = (0..schedule.timesteps())
        .map(|t| schedule.alpha_cumprod(t) as f32)
        .collect();
    let alphas = Tensor::new(alphas, &Device::Cpu)?;
    stage.close("alphas_cumprod", &alphas, get(&v, "alphas_cumprod")?)?;
    for (steps, list) in [(steps, "timesteps"), (50, "timesteps_50")] {
        let times = Scheduler::new(kind, &model.scheduler, steps)?;
        let times: Vec<i64> = times.timesteps().iter().map(|&t| t as i64).collect();
        stage.same(list, &times, &get(&v, list)?.to_vec1::<i64>()?);
    }

    let start = nhwc(get(&v, "initial_latents")?)?;
    let mut scheduler = Scheduler::new(kind, &model.scheduler, steps)?;
    let mut x = (&start * scheduler.init_noise_sigma())?;
    for i in 0..scheduler.timesteps().len() {
        let noise = nhwc(get(&v, &format!("noise_guided.{i:02}"))?)?;
        x = scheduler.step(&noise, i, &x, None)?;
        let key = format!("latents_after_step.{i:02}");
        stage.close(&key, &x, &nhwc(get(&v, &key)?)?)?;
    }

    // The unconditional half is what the mapper makes of zeros.
    let away = get(&v, "negative_prompt_embeds")?;
    if let Ok(loaded) = f.loaded(Trained::First, false) {
        let zeros = loaded.model.mapper.unconditional(f.sizes.voken_count)?;
        stage.close("negative_prompt_embeds", &zeros, away)?;
    }
    let features = |states: &Tensor| TextFeatures::of_states(states.clone());
    let how = DenoisingOptions {
        scheduler: kind,
        steps,
        guidance: f64::from(get(&v, "guidance_scale")?.to_scalar::<f32>()?),
    };
    let towards = features(get(&v, "prompt_embeds")?)?;
    let unused = |_| Ok(start.clone());
    let latents = model
        .denoise(
            &start,
            [&towards, &features(away)?],
            how,
            &unused,
            &mut |_| ControlFlow::Continue(()),
        )?
        .ok_or("denoising was cancelled")?;
    stage.close("final_latents", &latents, &nhwc(get(&v, "final_latents")?)?)?;
    let decoded = model.decode(&latents)?;
    stage.close("decoded", &decoded, &nhwc(get(&v, "decoded")?)?)?;
    let picture = to_picture(&decoded)?;
    grey_levels(
        "image_uint8_hwc",
        &picture,
        get(&v, "image_uint8_hwc")?,
        stage,
    )
}
