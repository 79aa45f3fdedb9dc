//! The networks, each from recorded inputs.

use super::{Case, CaseStage};
use crate::fixture::nhwc;
use crate::report::{Error, Outcome, Stage};
use candle_core::{DType, Tensor};
use vokenboard::diffusion::{
    Conditioning, IpAdapter, Residuals, TextEncoders, TextFeatures, guidance_embedding, time_ids,
};
use vokenboard::nn::StoredArray;

pub const STAGES: &[CaseStage] = &[
    CaseStage {
        name: "text",
        covers: |vector| vector.starts_with("text."),
        run: text,
    },
    CaseStage {
        name: "time_ids",
        covers: |vector| vector == "time_ids",
        run: sizes,
    },
    CaseStage {
        name: "timestep_cond",
        covers: |vector| vector == "timestep_cond",
        run: guidance,
    },
    CaseStage {
        name: "unet",
        covers: |vector| vector == "unet.out",
        run: unet,
    },
    CaseStage {
        name: "ip",
        covers: |vector| vector.starts_with("ip."),
        run: image_prompt,
    },
    CaseStage {
        name: "control",
        covers: |vector| vector.starts_with("control."),
        run: control,
    },
    CaseStage {
        name: "decoded",
        covers: |vector| vector == "decoded",
        run: decoded,
    },
];

/// From the recorded ids. The negative half comes first and is never skipped.
fn text(case: &Case, stage: &mut Stage) -> Outcome {
    let encoders = case.model.text_encoders()?;
    let ids = ["ids.1", "ids.2"]
        .iter()
        .filter_map(|name| case.vectors.get(*name))
        .map(|ids| ids.to_dtype(DType::U32)?.to_vec2::<u32>())
        .collect::<Result<Vec<_>, _>>()?;
    let encode = |row: usize, skip: usize| -> Result<TextFeatures, Error> {
        let ids: Vec<Vec<u32>> = ids.iter().map(|ids| ids[row].clone()).collect();
        Ok(encoders.encode(&ids, skip)?)
    };
    let skip = case.told.clip_skip.unwrap_or(0);
    let positive = encode(ids[0].len() - 1, skip)?;
    let halves = match case.guided() {
        true => vec![negative(case, &encoders, &encode)?, positive],
        false => vec![positive],
    };
    let states: Vec<&Tensor> = halves.iter().map(|half| &half.states).collect();
    let want = case.get("text.states")?;
    case.close(stage, "text.states", &Tensor::cat(&states, 0)?, want)?;
    if let Some(want) = case.vectors.get("text.pooled") {
        let pooled: Vec<&Tensor> = halves.iter().map(|half| &half.pooled).collect();
        case.close(stage, "text.pooled", &Tensor::cat(&pooled, 0)?, want)?;
    }
    Ok(())
}

fn negative(
    case: &Case,
    encoders: &TextEncoders,
    encode: &dyn Fn(usize, usize) -> Result<TextFeatures, Error>,
) -> Result<TextFeatures, Error> {
    match case.told.negative.is_none() && case.model.zeros_for_empty() {
        true => Ok(encoders.zeros(case.get("text.states")?.dim(1)?)?),
        false => encode(0, 0),
    }
}

fn sizes(case: &Case, stage: &mut Stage) -> Outcome {
    let want = case.get("time_ids")?;
    let (w, h) = (case.told.width, case.told.height);
    let got = time_ids(w, h, want.dim(0)?, case.model.device())?;
    case.close(stage, "time_ids", &got, want)
}

fn guidance(case: &Case, stage: &mut Stage) -> Outcome {
    let want = case.get("timestep_cond")?;
    let width = case.model.unet_config().time_cond_proj_dim;
    let width = width.ok_or("the UNet has no time_cond_proj_dim")?;
    let got = guidance_embedding(case.told.guidance, width, case.model.device())?;
    case.close(stage, "timestep_cond", &got, want)
}

/// What the UNet was told in its first call, as recorded.
fn told(case: &Case) -> Result<Conditioning, Error> {
    let optional = |name: &str| case.vectors.get(name).cloned();
    let mut down = Vec::new();
    while let Some(x) = case.vectors.get(&format!("control.down.{}", down.len())) {
        down.push(StoredArray::Tensor(nhwc(x)?));
    }
    let control = match case.vectors.get("control.mid") {
        Some(mid) => Some(Residuals {
            down,
            mid: StoredArray::Tensor(nhwc(mid)?),
        }),
        None => None,
    };
    Ok(Conditioning {
        control,
        pooled: optional("text.pooled"),
        time_ids: optional("time_ids"),
        timestep_cond: optional("timestep_cond"),
        ..Conditioning::of_text(case.get("text.states")?.clone())
    })
}

/// The first timestep, for the whole batch.
fn first_timestep(case: &Case) -> Result<Tensor, Error> {
    let batch = case.get("unet.in")?.dim(0)?;
    let first = case.get("timesteps")?.to_dtype(DType::F32)?.get(0)?;
    Ok(first.broadcast_as(batch)?.contiguous()?)
}

fn unet(case: &Case, stage: &mut Stage) -> Outcome {
    let latents = nhwc(case.get("unet.in")?)?;
    let unet = case.model.unet()?;
    let mut told = told(case)?;
    if let Some(tokens) = case.vectors.get("ip.tokens") {
        let (adapter, scale) = ip_adapter(case)?;
        told.image = Some(adapter.prompt(&tokens.squeeze(1)?, true, scale)?);
    }
    let got = unet.predict(&latents, &first_timestep(case)?, &told)?;
    case.close(stage, "unet.out", &got, &nhwc(case.get("unet.out")?)?)
}

fn ip_adapter(case: &Case) -> Result<(IpAdapter, f64), Error> {
    let ip = case.told.ip_adapter.as_ref();
    let ip = ip.ok_or("the case has no IP-Adapter")?;
    let (file, encoder) = (case.path(&ip.file), case.path(&ip.image_encoder));
    Ok((case.model.ip_adapter(&file, &encoder)?, ip.scale))
}

/// From the picture to the tokens, each step from what was recorded before it.
fn image_prompt(case: &Case, stage: &mut Stage) -> Outcome {
    let (adapter, _) = ip_adapter(case)?;
    let pictures = case.looked_at()?;
    if pictures.len() > 1 {
        let tokens = adapter.tokens_of(&pictures.iter().collect::<Vec<_>>())?;
        let want = case.get("ip.tokens")?.flatten(1, 2)?;
        return case.close(stage, "ip.tokens", &tokens, &want);
    }
    let pixels = nhwc(case.get("ip.image")?)?;
    case.close(stage, "ip.image", &adapter.pixels(&pictures[0])?, &pixels)?;
    let embeds = case.get("ip.embeds")?.squeeze(1)?;
    case.close(stage, "ip.embeds", &adapter.embeds(&pixels)?, &embeds)?;
    let tokens = case.get("ip.tokens")?.squeeze(1)?;
    case.close(stage, "ip.tokens", &adapter.tokens(&embeds)?, &tokens)
}

fn control(case: &Case, stage: &mut Stage) -> Outcome {
    let control = case.told.controlnet.as_ref();
    let control = control.ok_or("the case has no ControlNet")?;
    let picture = image::open(case.path(&control.image))?.to_rgb8();
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let values: Vec<f32> = picture
        .as_raw()
        .iter()
        .map(|&v| f32::from(v) / 255.0)
        .collect();
    let picture = Tensor::from_vec(values, (1, h, w, 3), case.model.device())?;
    let net = case.model.controlnet(&case.path(&control.dir))?;
    let latents = nhwc(case.get("unet.in")?)?;
    let told = told(case)?;
    let got = net.forward(
        &latents,
        &first_timestep(case)?,
        &told,
        &picture,
        control.scale,
    )?;
    for (i, got) in got.down.iter().enumerate() {
        let name = format!("control.down.{i}");
        case.close(stage, &name, &got.tensor()?, &nhwc(case.get(&name)?)?)?;
    }
    case.close(
        stage,
        "control.mid",
        &got.mid.tensor()?,
        &nhwc(case.get("control.mid")?)?,
    )
}

/// From the latents after the last call.
fn decoded(case: &Case, stage: &mut Stage) -> Outcome {
    let calls = case.get("timesteps")?.dim(0)?;
    let latents = nhwc(case.get(&format!("latents.{}", calls - 1))?)?;
    let vae = case.model.vae()?;
    let got = vae.decode(&vae.from_unet(&latents)?)?;
    case.close(stage, "decoded", &got, &nhwc(case.get("decoded")?)?)
}
