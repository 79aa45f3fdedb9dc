//! Tokens, schedulers and whole pictures.

use super::{Case, CaseStage};
use crate::fixture::nhwc;
use crate::generation::grey_levels;
use crate::report::{Error, Outcome, Stage};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::ops::ControlFlow;
use std::path::Path;
use vokenboard::diffusion::{
    ClipTokenizer, ControlNetConditioning, DiffusionError, PromptEmbeds, Scheduler,
    SchedulerConfig, SchedulerKind, StepResult, Trajectory, UnetCall, cut_out, luma, mask_tensor,
    picture_tensor, to_picture,
};

pub const STAGES: &[CaseStage] = &[
    CaseStage {
        name: "ids",
        covers: |vector| vector.starts_with("ids."),
        run: ids,
    },
    CaseStage {
        name: "init",
        covers: |vector| matches!(vector, "init.latents" | "mask" | "masked.latents"),
        run: init,
    },
    CaseStage {
        name: "scheduler",
        covers: |vector| {
            matches!(vector, "timesteps" | "sigmas")
                || vector.starts_with("pred.")
                || vector.starts_with("noise.step.")
        },
        run: scheduler,
    },
    CaseStage {
        name: "picture",
        covers: |vector| vector == "image" || vector.starts_with("latents."),
        run: picture,
    },
];

#[derive(Deserialize)]
struct Set {
    tokenizer: String,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Sets {
    sets: Vec<Set>,
}

/// The ids of the texts of a case without a model.
pub fn tokens(dir: &Path, stage: &mut Stage) -> Outcome {
    let sets: Sets = serde_json::from_slice(&std::fs::read(dir.join("case.json"))?)?;
    for set in sets.sets {
        let tokenizer = ClipTokenizer::load(&dir.join(&set.tokenizer))?;
        for (text, ids) in set.texts.iter().zip(&set.ids) {
            stage.same(text, &tokenizer.encode(text), ids);
        }
    }
    Ok(())
}

/// Of prompts as they stand: diffusers knows no marks and cuts at 77 tokens.
fn ids(case: &Case, stage: &mut Stage) -> Outcome {
    for (i, tokenizer) in case.model.tokenizers()?.iter().enumerate() {
        let name = format!("ids.{}", i + 1);
        let want = case.get(&name)?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        for (text, want) in texts(case)[2 - want.len()..].iter().zip(&want) {
            stage.same(
                &format!("{name} of {text:?}"),
                &tokenizer.encode(text),
                want,
            );
        }
    }
    Ok(())
}

/// The negative prompt and the prompt.
fn texts(case: &Case) -> [&str; 2] {
    [
        case.told.negative.as_deref().unwrap_or(""),
        &case.told.prompt,
    ]
}

/// The picture and the mask that the case begins from, as the UNet has them.
fn init(case: &Case, stage: &mut Stage) -> Outcome {
    let size = (case.told.width, case.told.height);
    let vae = case.model.vae()?;
    let file = case.told.init.as_ref().ok_or("there is no init picture")?;
    let pixels = image::open(case.path(file))?.to_rgb8();
    let pixels = picture_tensor(&pixels, size, &Device::Cpu)?;
    let encode =
        |pixels: &Tensor| -> Result<Tensor, Error> { Ok(vae.to_unet(&vae.encode(pixels)?.mean)?) };
    if let Some(want) = case.vectors.get("init.latents") {
        case.close(stage, "init.latents", &encode(&pixels)?, &nhwc(want)?)?;
    }
    let Some(file) = &case.told.mask else {
        return Ok(());
    };
    let mask = luma(&image::open(case.path(file))?.to_rgb8());
    if let Some(want) = case.vectors.get("mask") {
        let want = nhwc(want)?;
        let got = mask_tensor(&mask, (want.dim(2)?, want.dim(1)?), &Device::Cpu)?;
        case.close(stage, "mask", &got, &want)?;
    }
    if let Some(want) = case.vectors.get("masked.latents") {
        let cut = cut_out(&pixels, &mask_tensor(&mask, size, &Device::Cpu)?)?;
        case.close(stage, "masked.latents", &encode(&cut)?, &nhwc(want)?)?;
    }
    Ok(())
}

/// The scheduler that the case names, and the model's configuration with what is laid over it.
fn configured(case: &Case) -> Result<(SchedulerKind, SchedulerConfig), Error> {
    let mut config = case.model.schedule()?;
    for (key, value) in &case.told.scheduler_overrides {
        config = config.with(key, value.clone())?;
    }
    let kind = match case.told.scheduler.as_str() {
        "as-configured" => config.kind()?,
        name => name.parse()?,
    };
    Ok((kind, config))
}

/// The case's steps, from what was recorded to begin with.
fn trajectory(case: &Case) -> Result<Trajectory, Error> {
    let (kind, config) = configured(case)?;
    let steps = case.told.steps;
    let Some(latents) = case.vectors.get("init.latents") else {
        return Ok(Trajectory::of_noise(kind, &config, steps)?);
    };
    let strength = case.told.strength.ok_or("the case has no strength")?;
    let way = Trajectory::of_picture(kind, &config, steps, nhwc(latents)?, strength)?;
    let sees_mask = case.vectors.contains_key("masked.latents");
    Ok(match case.vectors.get("mask") {
        Some(mask) => way.masked(match sees_mask {
            true => None,
            false => Some(nhwc(mask)?),
        }),
        None => way,
    })
}

/// Runs the steps from recorded noise, comparing the latents after each.
fn run(
    case: &Case,
    stage: &mut Stage,
    predict: &mut dyn FnMut(&UnetCall) -> Result<Tensor, Error>,
) -> Result<Tensor, Error> {
    let noise = nhwc(case.get("noise")?)?;
    let fresh = |i: usize| match case.vectors.get(&format!("noise.step.{i}")) {
        Some(noise) => nhwc(noise),
        // What is added after the last step counts nothing.
        None => noise.zeros_like(),
    };
    let mut predict = |call: &UnetCall| {
        predict(call).map_err(|error| DiffusionError::Tensor(error.to_string().into()))
    };
    let mut compared = Ok(());
    let mut each = |taken: StepResult| {
        let key = format!("latents.{}", taken.index);
        compared = case
            .get(&key)
            .and_then(|want| Ok(nhwc(want)?))
            .and_then(|want| case.close(stage, &key, taken.latents, &want));
        Ok(match compared {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    };
    let end = trajectory(case)?.run(&noise, &fresh, &mut predict, &mut each)?;
    compared?;
    end.ok_or_else(|| "the steps were cut short".into())
}

/// Timesteps, noise levels, and each step from the recorded prediction.
fn scheduler(case: &Case, stage: &mut Stage) -> Outcome {
    let (kind, config) = configured(case)?;
    let list = |values: Vec<f64>| {
        let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
        Tensor::new(values, &Device::Cpu)
    };
    let times = list(trajectory(case)?.timesteps())?;
    case.close(stage, "timesteps", &times, case.get("timesteps")?)?;
    if let Some(want) = case.vectors.get("sigmas") {
        let levels = Scheduler::new(kind, &config, case.told.steps)?.sigmas();
        let levels = list(levels.ok_or("the scheduler has no sigmas")?)?;
        case.close(stage, "sigmas", &levels, want)?;
    }
    let mut predict = |call: &UnetCall| Ok(nhwc(case.get(&format!("pred.{}", call.index))?)?);
    run(case, stage, &mut predict)?;
    Ok(())
}

/// What the text encoders make of the case's own prompts.
fn speak(case: &Case) -> Result<PromptEmbeds, Error> {
    let tokenizers = case.model.tokenizers()?;
    let encoders = case.model.text_encoders()?;
    let encode = |text: &str, skip: usize| {
        let ids: Vec<Vec<u32>> = tokenizers.iter().map(|t| t.encode(text)).collect();
        encoders.encode(&ids, skip)
    };
    let [negative, positive] = texts(case);
    let positive = encode(positive, case.told.clip_skip.unwrap_or(0))?;
    let negative = match case.model.is_guided(case.told.guidance) {
        true if case.told.negative.is_none() && case.model.zeros_for_empty() => {
            Some(encoders.zeros(positive.states.dim(1)?)?)
        }
        true => Some(encode(negative, 0)?),
        false => None,
    };
    Ok(PromptEmbeds { positive, negative })
}

/// From the prompts to the picture: only noise, and the picture that is begun from, are recorded.
fn picture(case: &Case, stage: &mut Stage) -> Outcome {
    let (w, h) = (case.told.width, case.told.height);
    let spoken = speak(case)?;
    let mut guide = case
        .model
        .step_conditioning(&spoken, case.told.guidance, (w, h))?;
    if let Some(cut) = case.vectors.get("masked.latents") {
        let parts = [nhwc(case.get("mask")?)?, nhwc(cut)?];
        guide.shown = Some(Tensor::cat(&parts, 3)?);
    }
    if let Some(control) = &case.told.controlnet {
        let picture = image::open(case.path(&control.image))?.to_rgb8();
        let picture = picture_tensor(&picture, (w, h), &Device::Cpu)?;
        guide.controlnets.push(ControlNetConditioning {
            net: case.model.controlnet(&case.path(&control.dir))?,
            picture: picture.affine(0.5, 0.5)?,
            scale: control.scale,
            share: (0.0, 1.0),
        });
    }
    if let Some(ip) = &case.told.ip_adapter {
        let (file, encoder) = (case.path(&ip.file), case.path(&ip.image_encoder));
        let adapter = case.model.ip_adapter(&file, &encoder)?;
        let pictures = case.looked_at()?;
        let tokens = adapter.tokens_of(&pictures.iter().collect::<Vec<_>>())?;
        let guided = guide.guidance.is_some();
        guide.conditioning.image = Some(adapter.prompt(&tokens, guided, ip.scale)?);
    }
    let unet = case.model.unet()?;
    let mut predict = |call: &UnetCall| Ok(guide.predict(&unet, call)?);
    let latents = run(case, stage, &mut predict)?;
    let vae = case.model.vae()?;
    let decoded = vae.decode(&vae.from_unet(&latents)?)?;
    grey_levels("image", &to_picture(&decoded)?, case.get("image")?, stage)
}
