//! Losses, every recorded gradient, and what three steps of the optimiser do.

use crate::fixture::{Fixture, Loaded, Trained, Vectors, get, ids, labels, nhwc};
use crate::generation::number;
use crate::language::pictures;
use crate::report::{Error, GRADIENT_LIMIT, Outcome, Stage, values};
use candle_core::{DType, Device, Tensor, backprop::GradStore};
use std::collections::HashMap;
use vokenboard::diffusion::{LatentDistribution, NoiseSchedule, TextFeatures, same_timestep};
use vokenboard::train::optimizer::{AdamSettings, AdamW, linear_rate};
use vokenboard::train::voken::{
    Denoiser, LossNoise, LossWeights, VokenStage as Training, image_loss, losses, mask_new_rows,
};
use vokenboard::voken::{InterleavedText, PaddedBatch, voken_states};

/// `opt.param_delta_l2` is a difference of nearly equal numbers.
const DELTA_LIMIT: f32 = 0.03;

pub fn train(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let trained = f.trained(name);
    let loaded = f.loaded(trained, true)?;
    let model = &loaded.model;
    let batch = assemble(f, &loaded, &v, stage)?;

    let painter = f.painter()?;
    let schedule = NoiseSchedule::new(&painter.scheduler)?;
    let captions = captions(f, name, &v, stage)?;
    // Nothing asks for the empty caption where there are no captions.
    let none = Tensor::new(0f32, &Device::Cpu)?;
    let (captions, empty) = match &captions {
        Some((captions, empty)) => (Some(captions), empty),
        None => (None, &none),
    };
    let denoiser = Denoiser {
        unet: &painter.unet,
        schedule: &schedule,
        scaling_factor: painter.vae.config().scaling_factor,
        empty_caption: empty,
    };
    let targets = painter.vae.encode(&nhwc(get(&v, "in.output_image")?)?)?;
    let weights = LossWeights::default();
    let draws = draws(&v, &weights)?;

    middle(&loaded, &batch, &targets, &draws, &denoiser, &v, stage)?;
    let got = losses(
        model, &denoiser, &batch, &targets, captions, &draws, &weights,
    )?;
    stage.close("loss", &got.total, get(&v, "out.loss")?)?;
    stage.close("text_loss", &got.text, get(&v, "out.text_loss")?)?;
    let image = got.image.as_ref().unwrap_or(&none);
    stage.close("image_loss", image, get(&v, "out.image_loss")?)?;
    if let Some(want) = v.get("out.caption_loss") {
        let caption = got.caption.as_ref().ok_or("no caption loss")?;
        stage.close("caption_loss", caption, want)?;
    }

    let mut grads = got.total.backward()?;
    gradients(&loaded, &grads, &v, stage)?;
    mask_new_rows(&mut grads, &loaded.params.vars(), model.vocabulary.added())?;
    for (key, want) in starting(&v, "masked_grad_l2.") {
        let all = in_file_layout(&loaded, &grads)?;
        let own = all.get(key).ok_or("a parameter without gradient")?;
        stage.within(GRADIENT_LIMIT, key, &norm(&[own])?, want)?;
    }
    if v.contains_key("opt.steps_same_grad") {
        optimiser(f.description(name), trained, &loaded, &grads, &v, stage)?;
    }
    Ok(())
}

/// The batch, with its parts compared.
fn assemble(
    f: &Fixture,
    loaded: &Loaded,
    v: &Vectors,
    stage: &mut Stage,
) -> Result<PaddedBatch, Error> {
    let model = &loaded.model;
    let tokens = get(v, "in.input_ids")?;
    let mut items = Vec::new();
    for i in 0..tokens.dim(0)? {
        let tokens = ids(&tokens.get(i)?)?;
        let wanted = labels(&get(v, "in.labels")?.get(i)?)?;
        let mask = values(&get(v, "in.attention_mask")?.get(i)?)?;
        let length = mask.iter().filter(|m| **m == 1.0).count();
        // Everything before the first label is the prompt.
        let prompt = wanted.iter().take_while(|l| l.is_none()).count();
        let own = InterleavedText::training(
            &tokens[..prompt],
            &tokens[prompt..length],
            &model.vocabulary,
        );
        stage.same(&format!("labels.{i}"), &own.labels[..], &wanted[..length]);
        let text = InterleavedText {
            ids: tokens,
            labels: wanted,
            length,
        };
        let pictures = pictures(f, model, &text, v, &format!("in.input_images.{i}"))?;
        let item = model.interleave(&text, pictures.as_ref())?;
        let want = get(v, &format!("warp.embeds.{i}"))?;
        stage.close(&format!("warp.embeds.{i}"), &item.embeddings, want)?;
        let want = labels(get(v, &format!("warp.labels.{i}"))?)?;
        stage.same(&format!("warp.labels.{i}"), &item.labels, &want);
        let mask = values(get(v, &format!("warp.attention.{i}"))?)?;
        let real = mask.iter().filter(|m| **m == 1.0).count();
        stage.same(&format!("warp.attention.{i}"), &item.length, &real);
        items.push(item);
    }
    Ok(vokenboard::voken::batch(&items)?)
}

fn draws(v: &Vectors, weights: &LossWeights) -> Result<LossNoise, Error> {
    let uniform = values(get(v, "rng.cfg_drop_uniform")?)?;
    let steps = get(v, "rng.timesteps")?.to_dtype(DType::I64)?;
    Ok(LossNoise {
        drop: uniform
            .iter()
            .map(|u| f64::from(*u) < weights.drop)
            .collect(),
        posterior: nhwc(get(v, "rng.vae_posterior_noise")?)?,
        noise: nhwc(get(v, "rng.noise")?)?,
        timesteps: steps
            .to_vec1::<i64>()?
            .into_iter()
            .map(usize::try_from)
            .collect::<Result<_, _>>()?,
        denoised: vec![true; uniform.len()],
    })
}

/// The states of all captions and of the empty one, where there are captions: as training targets
/// have them, the padding hidden.
fn captions(
    f: &Fixture,
    name: &str,
    v: &Vectors,
    stage: &mut Stage,
) -> Result<Option<(Tensor, Tensor)>, Error> {
    let mut all = Vec::new();
    while let Some(recorded) = v.get(&format!("mid.caption_feature.{}", all.len())) {
        all.push(recorded.clone());
    }
    if all.is_empty() {
        return Ok(None);
    }
    let (encoder, tokenizer) = f.captioner()?;
    let states = |caption: &str| -> Result<Tensor, Error> {
        let (ids, n) = tokenizer.encode_with_length(caption);
        let ids = Tensor::new(vec![ids], &Device::Cpu)?;
        Ok(encoder.forward_unpadded(&ids, &[n])?.states)
    };
    for (i, want) in all.iter().enumerate() {
        if let Some(caption) = f.caption(name, i) {
            stage.close(&format!("caption_feature.{i}"), &states(caption)?, want)?;
        }
    }
    Ok(Some((Tensor::cat(&all, 0)?, states("")?)))
}

/// Everything between the input and the losses.
fn middle(
    loaded: &Loaded,
    batch: &PaddedBatch,
    targets: &LatentDistribution,
    draws: &LossNoise,
    denoiser: &Denoiser,
    v: &Vectors,
    stage: &mut Stage,
) -> Outcome {
    let model = &loaded.model;
    let hidden = model.llama.forward(&batch.embeddings, None)?;
    let want = get(v, "mid.llm_last_hidden")?;
    for (i, &n) in batch.lengths.iter().enumerate() {
        let cut = |t: &Tensor| t.narrow(0, i, 1)?.narrow(1, 0, n);
        stage.close(&format!("llm_last_hidden.{i}"), &cut(&hidden)?, &cut(want)?)?;
    }
    let want = get(v, "mid.llm_logits_row0_tail")?;
    let first = hidden.dim(1)? - want.dim(0)?;
    let real = batch.lengths[0].saturating_sub(first);
    if real > 0 {
        let states = hidden.get(0)?.narrow(0, first, real)?;
        let want = want.narrow(0, 0, real)?;
        stage.close("llm_logits_row0_tail", &model.llama.logits(&states)?, &want)?;
    }
    let spans = batch.spans(&model.vocabulary);
    // The reference counts the place of the state that predicts [IMG0], one before it.
    let flat: Vec<u32> = spans
        .iter()
        .flat_map(|(sample, at)| [*sample as u32, *at as u32 - 1])
        .collect();
    stage.same("spans", &flat, &ids(get(v, "mid.special_token_index")?)?);
    if spans.is_empty() {
        return Ok(());
    }
    let states = voken_states(&hidden, &spans, &model.vocabulary)?;
    let keep: Vec<f32> = draws.drop.iter().map(|d| f32::from(!*d)).collect();
    let keep = Tensor::from_vec(keep, (draws.drop.len(), 1, 1), &Device::Cpu)?;
    let states = states.broadcast_mul(&keep)?;
    stage.close("fc_input", &states, get(v, "mid.fc_input")?)?;
    let fc = model.mapper.fc(&states)?;
    stage.close("fc_output", &fc, get(v, "mid.fc_output")?)?;
    let condition = model.mapper.forward(&states)?;
    stage.close(
        "mapping_feature",
        &condition,
        get(v, "mid.mapping_feature")?,
    )?;

    let samples: Vec<u32> = spans.iter().map(|(sample, _)| *sample as u32).collect();
    let samples = Tensor::new(samples, &Device::Cpu)?;
    let targets = LatentDistribution {
        mean: targets.mean.index_select(&samples, 0)?,
        logvar: targets.logvar.index_select(&samples, 0)?,
    };
    stage.close("vae_mean", &targets.mean, &nhwc(get(v, "mid.vae_mean")?)?)?;
    let want = nhwc(get(v, "mid.vae_logvar")?)?;
    stage.close("vae_logvar", &targets.logvar, &want)?;
    let latents = (targets.sample(&draws.posterior)? * denoiser.scaling_factor)?;
    let noisy = denoiser
        .schedule
        .add_noise(&latents, &draws.noise, &draws.timesteps)?;
    let want = nhwc(get(v, "mid.noisy_latents")?)?;
    stage.close("noisy_latents", &noisy, &want)?;
    let snr: Vec<f32> = draws
        .timesteps
        .iter()
        .map(|t| denoiser.schedule.alpha_cumprod(*t))
        .map(|a| (a / (1.0 - a)) as f32)
        .collect();
    stage.close("snr", &Tensor::new(snr, &Device::Cpu)?, get(v, "mid.snr")?)?;
    let bound = LossWeights::default().min_snr;
    let weights = denoiser.schedule.min_snr_weights(&draws.timesteps, bound);
    let weights = Tensor::new(weights, &Device::Cpu)?;
    stage.close("snr_weight", &weights, get(v, "mid.snr_weight")?)?;
    let parts: Vec<Tensor> = draws
        .timesteps
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let time = same_timestep(*t as f64, 1, &Device::Cpu)?;
            let one = TextFeatures::of_states(condition.narrow(0, i, 1)?)?;
            let noisy = noisy.narrow(0, i, 1)?;
            denoiser
                .unet
                .forward(&noisy, &time, &one.states, Some(&one.pooled))
        })
        .collect::<Result<_, _>>()?;
    let want = nhwc(get(v, "mid.unet_pred")?)?;
    stage.close("unet_pred", &Tensor::cat(&parts, 0)?, &want)?;
    let unbounded = LossWeights {
        min_snr: f64::INFINITY,
        ..LossWeights::default()
    };
    let plain = image_loss(denoiser, &condition, &targets, draws, &unbounded)?;
    let want = get(v, "out.image_loss_without_snr_weighting")?;
    stage.close("image_loss_without_snr_weighting", &plain, want)
}

/// The recorded tensors whose names begin so, by the rest of their names.
fn starting<'a>(v: &'a Vectors, with: &str) -> Vec<(&'a str, &'a Tensor)> {
    v.iter()
        .filter_map(|(key, t)| Some((key.strip_prefix(with)?, t)))
        .collect()
}

/// Gradients by name, as the file has the parameters; those without are left out.
fn in_file_layout(loaded: &Loaded, grads: &GradStore) -> Result<HashMap<String, Tensor>, Error> {
    let vars = loaded.params.vars();
    let all: Vec<Tensor> = vars
        .iter()
        .map(|(_, var)| match grads.get(var) {
            Some(grad) => Ok(grad.clone()),
            None => var.zeros_like(),
        })
        .collect::<Result<_, _>>()?;
    let mut named = loaded.params.to_file_layout(Some(&all))?;
    for (name, var) in &vars {
        if grads.get(var).is_none() {
            named.remove(name);
        }
    }
    Ok(named)
}

/// The L2 norm of several tensors together, `[1]`.
fn norm(all: &[&Tensor]) -> Result<Tensor, Error> {
    let mut square = 0f64;
    for t in all {
        square += values(t)?
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>();
    }
    Ok(Tensor::new(&[square.sqrt() as f32], &Device::Cpu)?)
}

fn part(t: &Tensor, count: usize, tail: bool) -> Result<Tensor, Error> {
    let flat = t.flatten_all()?;
    let n = flat.elem_count();
    let from = if tail { n.saturating_sub(count) } else { 0 };
    Ok(flat.narrow(0, from, count.min(n))?)
}

fn gradients(loaded: &Loaded, grads: &GradStore, v: &Vectors, stage: &mut Stage) -> Outcome {
    let own = in_file_layout(loaded, grads)?;
    let find = |name: &str| -> Result<&Tensor, Error> {
        own.get(name)
            .ok_or_else(|| format!("{name} got no gradient").into())
    };
    let rows = loaded.model.vocabulary.added();
    let mut recorded: Vec<&str> = Vec::new();
    for (name, want) in starting(v, "grad.") {
        stage.within(GRADIENT_LIMIT, &format!("grad.{name}"), find(name)?, want)?;
    }
    for (name, want) in starting(v, "grad_l2.") {
        recorded.push(name);
        let got = norm(&[find(name)?])?;
        stage.within(GRADIENT_LIMIT, &format!("grad_l2.{name}"), &got, want)?;
    }
    for (kind, tail) in [("grad_head.", false), ("grad_tail.", true)] {
        for (name, want) in starting(v, kind) {
            let got = part(find(name)?, want.elem_count(), tail)?;
            stage.within(GRADIENT_LIMIT, &format!("{kind}{name}"), &got, want)?;
        }
    }
    for (name, want) in starting(v, "grad_new_rows.") {
        let got = find(name)?;
        let got = got.narrow(0, got.dim(0)? - rows, rows)?;
        stage.within(GRADIENT_LIMIT, &format!("grad_new_rows.{name}"), &got, want)?;
    }
    for (name, _) in starting(v, "grad_none.") {
        recorded.push(name);
        let none = !own.contains_key(name);
        stage.same(&format!("{name} without gradient"), &none, &true);
    }
    // Exactly the parameters that the reference trains.
    let mut trained: Vec<String> = loaded.params.vars().into_iter().map(|(n, _)| n).collect();
    let mut recorded: Vec<String> = recorded.into_iter().map(str::to_owned).collect();
    trained.sort();
    recorded.sort();
    stage.same("trained parameters", &trained, &recorded);
    let all: Vec<&Tensor> = own.values().collect();
    let want = get(v, "grad_total_l2_before_mask")?;
    stage.within(
        GRADIENT_LIMIT,
        "grad_total_l2_before_mask",
        &norm(&all)?,
        want,
    )
}

/// Some steps on the same gradients.
fn optimiser(
    said: &str,
    trained: Trained,
    loaded: &Loaded,
    grads: &GradStore,
    v: &Vectors,
    stage: &mut Stage,
) -> Outcome {
    let own = in_file_layout(loaded, grads)?;
    let training = match trained {
        Trained::First => Training::Align,
        Trained::Second => Training::Story,
    };
    let plan = said.split_once("warmup ").map_or("", |(_, rest)| rest);
    let (warmup, total) = (
        number(plan, "").unwrap_or(10.0) as u64,
        number(plan, " of ").unwrap_or(100.0) as u64,
    );
    let bases = get(v, "opt.group_lr_base")?.to_vec1::<f64>()?;
    let base = bases.iter().copied().fold(f64::INFINITY, f64::min);
    let steps = get(v, "opt.steps_same_grad")?.to_scalar::<i64>()? as u64;
    let rate =
        |step: u64, name: &str| linear_rate(base * training.rate_factor(name), step, warmup, total);
    let groups: &[&str] = match bases.len() {
        4 => &["model.", "fc.", "llm_to_t2i_mapping.", "t2i_decoder_prompt"],
        _ => &["model.", "llm_to_t2i_mapping."],
    };
    let recorded = get(v, "opt.lr_per_step")?.to_vec2::<f64>()?;
    for (step, recorded) in (0..steps).zip(&recorded) {
        for (group, want) in groups.iter().zip(recorded) {
            let off = (rate(step, group) - want).abs() <= 1e-9 * want.abs();
            stage.same(&format!("rate of {group} at step {step}"), &off, &true);
        }
    }

    let settings = AdamSettings::pytorch();
    let before = loaded.params.to_file_layout(None)?;
    // Deep copies: the optimiser works in place.
    let before: HashMap<String, Tensor> = before
        .into_iter()
        .map(|(name, t)| Ok((name, t.copy()?)))
        .collect::<Result<_, Error>>()?;
    let mut opt = AdamW::new(loaded.params.vars(), settings)?;
    for step in 0..steps {
        opt.step_each(std::slice::from_ref(grads), |name| rate(step, name))?;
    }
    let after = loaded.params.to_file_layout(None)?;
    let find = |name: &str| -> Result<&Tensor, Error> {
        after
            .get(name)
            .ok_or_else(|| format!("{name} is not trained").into())
    };
    for (kind, tail) in [
        ("opt.param_after_head.", false),
        ("opt.param_after_tail.", true),
    ] {
        for (name, want) in starting(v, kind) {
            let n = want.elem_count();
            let got = values(&part(find(name)?, n, tail)?)?;
            let grad = match own.get(name) {
                Some(grad) => values(&part(grad, n, tail)?)?,
                None => vec![0.0; n],
            };
            // Adam makes a full step of the tiniest gradient, rounding errors too.
            let reach = 2.0 * (0..steps).map(|step| rate(step, name)).sum::<f64>();
            let fine = got
                .iter()
                .zip(values(want)?)
                .zip(&grad)
                .all(|((got, want), grad)| {
                    let off = f64::from((got - want).abs());
                    off <= if grad.abs() < 1e-7 { reach } else { 1e-6 }
                });
            stage.same(&format!("{kind}{name} is close"), &fine, &true);
        }
    }
    for (name, want) in starting(v, "opt.param_delta_l2.") {
        let moved = (find(name)? - before.get(name).ok_or("a new parameter")?)?;
        let (got, want) = (values(&norm(&[&moved])?)?[0], values(want)?[0]);
        let close = (got - want).abs() <= DELTA_LIMIT * want.abs();
        stage.same(
            &format!("opt.param_delta_l2.{name} {got} {want}"),
            &close,
            &true,
        );
    }
    Ok(())
}
