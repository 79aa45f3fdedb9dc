//! Texts as they are generated, and the pictures that they ask for.

use crate::fixture::{Fixture, Vectors, get, ids, nhwc, or_recorded};
use crate::language::prompt;
use crate::report::{Error, LIMIT, Outcome, Stage, values};
use candle_core::{Device, Tensor};
use std::ops::ControlFlow;
use vokenboard::diffusion::{DenoisingOptions, SchedulerKind, TextFeatures, to_picture};
use vokenboard::voken::{
    CachedLm, FeatureMapper, FloatCachedLm, GenerationConfig, GenerationStep, InterleavedText,
    SamplingParams, generate as run,
};

/// A reader all of whose logits are read, on a GPU as well.
struct AllLogits(FloatCachedLm);

impl CachedLm for AllLogits {
    fn begin(&mut self, prompt: &Tensor) -> candle_core::Result<Tensor> {
        self.0.begin(prompt)
    }

    fn embed(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        self.0.embed(ids)
    }

    fn read(&mut self, embeddings: &Tensor) -> candle_core::Result<Tensor> {
        self.0.read(embeddings)
    }

    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Vec<f32>> {
        self.0.logits(hidden)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn limit(&self) -> usize {
        self.0.limit()
    }

    fn device(&self) -> &Device {
        self.0.device()
    }
}

/// The number after `key` in the manifest's description.
pub fn number(description: &str, key: &str) -> Option<f64> {
    let rest = description.split_once(key)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    let digits = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
    digits.parse().ok()
}

/// Lists of ids such as `[[358], [53, 284]]` or `upstream [835],[2277,29937]`.
fn stop_sequences(description: &str) -> Vec<Vec<u32>> {
    let Some((_, rest)) = description.split_once("stops=") else {
        return Vec::new();
    };
    let lists = rest.split('|').next().unwrap_or_default();
    lists
        .split(']')
        .filter_map(|list| list.rsplit_once('[').map(|(_, ids)| ids))
        .map(|ids| {
            ids.split(',')
                .filter_map(|id| id.trim().parse().ok())
                .collect()
        })
        .filter(|ids: &Vec<u32>| !ids.is_empty())
        .collect()
}

pub fn generate(f: &Fixture, name: &str, stage: &mut Stage) -> Outcome {
    let v = f.vectors(name)?;
    let said = f.description(name);
    let mut model = f.loaded(f.trained(name), false)?.model;
    let config = f.llama_config()?;
    let text = InterleavedText::prompt(ids(get(&v, "prompt_ids")?)?);
    let want = get(&v, "prompt_inputs_embeds")?;
    let prompt = or_recorded(prompt(f, &model, &text, &v, "input_images"), want)?;
    stage.close("prompt_inputs_embeds", &prompt, want)?;

    f.move_to_gpu(&mut model)?;
    let wanted = ids(get(&v, "sequences")?)?;
    let default = SamplingParams::default();
    let setting = |key: &str, other: f32| number(said, key).map_or(other, |n| n as f32);
    let order = GenerationConfig {
        sampling: SamplingParams {
            temperature: setting("temperature=", default.temperature),
            repetition_penalty: setting("repetition_penalty=", default.repetition_penalty),
            top_k: setting("top_k=", default.top_k as f32) as usize,
            top_p: setting("top_p=", default.top_p),
        },
        seed: None,
        max_new_tokens: number(said, "max_new_tokens=").map_or(wanted.len() - 1, |n| n as usize),
        force_picture: said.contains("force_generation=True")
            || (said.is_empty() && name.ends_with("_forced")),
        suppress_tokens: Vec::new(),
        suppress_initially: Vec::new(),
        stop_sequences: stop_sequences(said),
        eos: number(said, "eos_token_id replaced by ").map_or(config.eos(), |n| Some(n as u32)),
        bos: config.bos().ok_or("config.json has no bos_token_id")?,
    };
    let mut calls = Calls::default();
    let mut reader = AllLogits(FloatCachedLm::new(model.llama.clone()));
    let mut trouble = None;
    let made = run(
        &mut reader,
        &prompt,
        &model.vocabulary,
        &order,
        &mut |step| {
            calls.read.push(step.read as u32);
            calls.kept.push((step.first + step.read) as u32);
            calls.first.push(step.first as u32);
            calls.last.push((step.first + step.read - 1) as u32);
            let at = calls.read.len() - 1;
            match compare_step(&v, at, step, stage) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    trouble = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    if let Some(error) = trouble {
        return Err(error);
    }
    let made = made.ok_or("generation was cancelled")?;
    stage.same("sequences", &made.sequence, &wanted);
    if reader.0.is_on_gpu() {
        // As generation is without a look at every logit: from the likeliest that come back.
        let go_on = &mut |_: &GenerationStep| ControlFlow::Continue(());
        let again = run(&mut reader.0, &prompt, &model.vocabulary, &order, go_on)?;
        let again = again.ok_or("generation was cancelled")?;
        stage.same("sequences of candidates", &again.sequence, &wanted);
    }
    for (key, got) in [
        ("step_query_len", &calls.read),
        ("step_kv_len", &calls.kept),
        ("step_first_position", &calls.first),
        ("step_last_position", &calls.last),
    ] {
        stage.same(key, got, &ids(get(&v, key)?)?);
    }
    if let Some(want) = v.get("t2i_input_embedding") {
        let states = made.voken_states.ok_or("no picture was asked for")?;
        stage.close("t2i_input_embedding", &states, want)?;
        let at = ids(get(&v, "voken_index_in_sequences")?)?[0] as usize;
        let first = wanted.get(at).copied();
        stage.same("voken_index", &first, &Some(model.vocabulary.first));
        picture(f, &model.mapper, &states, &v, said, stage)?;
    }
    Ok(())
}

/// What the model was called with, call by call.
#[derive(Default)]
struct Calls {
    read: Vec<u32>,
    kept: Vec<u32>,
    first: Vec<u32>,
    last: Vec<u32>,
}

fn compare_step(v: &Vectors, at: usize, step: &GenerationStep, stage: &mut Stage) -> Outcome {
    let row = |key: &str| -> Result<Vec<f32>, Error> {
        let all = get(v, key)?;
        match at < all.dim(0)? {
            true => Ok(values(&all.get(at)?)?),
            false => Err(format!("{key} has no step {at}").into()),
        }
    };
    let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
    stage.close(
        &format!("raw_logits.{at}"),
        &vector(step.logits)?,
        &vector(&row("raw_logits")?)?,
    )?;
    let want = row("processed_scores")?;
    let open = |s: &[f32]| -> Vec<usize> { (0..s.len()).filter(|i| s[*i].is_finite()).collect() };
    let left = open(&want);
    stage.same(&format!("processed_scores.{at}"), &open(step.scores), &left);
    let pick = |s: &[f32]| -> Vec<f32> { left.iter().filter_map(|i| s.get(*i).copied()).collect() };
    stage.close(
        &format!("processed_scores.{at}"),
        &vector(&pick(step.scores))?,
        &vector(&pick(&want))?,
    )?;
    let last = step.hidden.narrow(1, step.read - 1, 1)?.flatten_all()?;
    let want = vector(&row("last_position_hidden_per_step")?)?;
    stage.close(&format!("hidden.{at}"), &last, &want)?;
    if let Some(want) = v.get("hidden_forced_pass") {
        let index = ids(get(v, "voken_index_in_sequences")?)?[0] as usize;
        if at == index {
            stage.close("hidden_forced_pass", step.hidden, want)?;
        }
        if at + 1 == index {
            let last = step.hidden.narrow(1, step.read - 1, 1)?;
            stage.close("hidden_prev_last", &last, get(v, "hidden_prev_last")?)?;
        }
    }
    Ok(())
}

/// From the voken states to the picture, the whole trajectory.
fn picture(
    f: &Fixture,
    mapper: &FeatureMapper,
    states: &Tensor,
    v: &Vectors,
    said: &str,
    stage: &mut Stage,
) -> Outcome {
    let zeros = mapper.zeros(1, states.dim(1)?)?;
    for (kind, states) in [("cond", states), ("uncond", &zeros)] {
        let key = format!("fc_output_{kind}");
        if f.gpu.is_none() {
            stage.close(&key, &mapper.fc(states)?, get(v, &key)?)?;
        }
        let key = format!("mapping_feature_{kind}");
        stage.close(&key, &mapper.forward(states)?, get(v, &key)?)?;
    }
    let Some(want) = v.get("image_uint8") else {
        return Ok(());
    };
    let painter = f.painter()?;
    let how = DenoisingOptions {
        scheduler: SchedulerKind::Pndm,
        steps: number(said, "diffusion steps=").unwrap_or(50.0) as usize,
        guidance: 7.5,
    };
    let condition = TextFeatures::of_states(mapper.forward(states)?)?;
    let nothing = TextFeatures::of_states(mapper.forward(&zeros)?)?;
    let start = nhwc(get(v, "pndm_latents_init")?)?;
    let unused = |_| Ok(start.clone());
    let latents = painter
        .denoise(&start, [&condition, &nothing], how, &unused, &mut |_| {
            ControlFlow::Continue(())
        })?
        .ok_or("denoising was cancelled")?;
    let picture = to_picture(&painter.decode(&latents)?)?;
    grey_levels("image_uint8", &picture, want, stage)
}

/// Pictures may differ by one grey level, where a value lies between two.
pub fn grey_levels(
    what: &str,
    picture: &image::RgbaImage,
    want: &Tensor,
    stage: &mut Stage,
) -> Outcome {
    let want = want.flatten_all()?.to_vec1::<u8>()?;
    let size = picture.pixels().len() * 3;
    stage.same(what, &size, &want.len());
    let off = picture
        .pixels()
        .flat_map(|p| [p.0[0], p.0[1], p.0[2]])
        .zip(&want)
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    stage.same(
        &format!("{what}: grey levels off, at most 1"),
        &(off <= Some(1)),
        &true,
    );
    stage.error(LIMIT, what, 0.0);
    Ok(())
}
