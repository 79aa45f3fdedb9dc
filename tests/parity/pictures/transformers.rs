//! FLUX.1 and Z-Image: the same contract, with what their pipelines have in place of a UNet's.

use super::{Told, cases_limit};
use crate::fixture::nhwc;
use crate::generation::grey_levels;
use crate::report::{Error, Outcome, Stage};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use vokenboard::diffusion::{Dit, DitPromptEmbeds, to_picture};

struct Case<'a> {
    told: &'a Told,
    vectors: HashMap<String, Tensor>,
    model: Dit,
}

struct DitStage {
    name: &'static str,
    covers: fn(&str) -> bool,
    run: fn(&Case, &mut Stage) -> Outcome,
}

const STAGES: [DitStage; 6] = [
    DitStage {
        name: "ids",
        covers: |vector| vector.starts_with("ids."),
        run: ids,
    },
    DitStage {
        name: "text",
        covers: |vector| vector.starts_with("text."),
        run: text,
    },
    DitStage {
        name: "scheduler",
        covers: |vector| matches!(vector, "timesteps" | "sigmas"),
        run: scheduler,
    },
    DitStage {
        name: "transformer",
        covers: |vector| vector.starts_with("pred."),
        run: transformer,
    },
    DitStage {
        name: "decoded",
        covers: |vector| vector == "decoded",
        run: decoded,
    },
    DitStage {
        name: "picture",
        covers: |vector| vector == "image" || vector.starts_with("latents."),
        run: picture,
    },
];

impl Case<'_> {
    fn get(&self, name: &str) -> Result<&Tensor, Error> {
        let found = self.vectors.get(name);
        found.ok_or_else(|| format!("{name} is not among the recorded values").into())
    }

    fn close(&self, stage: &mut Stage, what: &str, got: &Tensor, want: &Tensor) -> Outcome {
        stage.against(cases_limit(&self.told.family), what, got, want)
    }

    fn size(&self) -> (usize, usize) {
        (self.told.width, self.told.height)
    }

    /// The prompts in the order in which they were recorded, and whether the first is the negative.
    fn prompts(&self) -> (Vec<&str>, bool) {
        let guided = self.model.takes_negative() && self.told.guidance > 1.0;
        let negative = self.told.negative.as_deref().unwrap_or("");
        match guided {
            true => (vec![negative, &self.told.prompt], true),
            false => (vec![&self.told.prompt], false),
        }
    }

    /// What the transformer is told, from the recorded states.
    fn recorded(&self) -> Result<Vec<DitPromptEmbeds>, Error> {
        let told = |states: &Tensor| DitPromptEmbeds {
            states: states.clone(),
            pooled: self.vectors.get("text.pooled").cloned(),
        };
        if let Some(states) = self.vectors.get("text.states") {
            return Ok(vec![told(states)]);
        }
        let count = self.prompts().0.len();
        (1..=count)
            .map(|i| Ok(told(self.get(&format!("text.states.{i}"))?)))
            .collect()
    }

    fn sigmas(&self) -> Result<Vec<f64>, Error> {
        let tokens = self.model.tokens(self.size());
        Ok(self.model.flow().sigmas(self.told.steps, tokens)?)
    }
}

/// The prompt's state last, the negative prompt's before it.
fn split(told: &[DitPromptEmbeds]) -> (&DitPromptEmbeds, Option<&DitPromptEmbeds>) {
    match told {
        [negative, prompt] => (prompt, Some(negative)),
        _ => (&told[0], None),
    }
}

fn ids(case: &Case, stage: &mut Stage) -> Outcome {
    let (texts, _) = case.prompts();
    let mut all = Vec::new();
    for text in texts {
        all.extend(case.model.ids(text)?);
    }
    for (i, got) in all.iter().enumerate() {
        let name = format!("ids.{}", i + 1);
        let want = case.get(&name)?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        stage.same(&name, got, &want[0]);
    }
    Ok(())
}

fn text(case: &Case, stage: &mut Stage) -> Outcome {
    let (texts, _) = case.prompts();
    let got = case.model.encode_prompts(&texts)?;
    for (i, (got, want)) in got.iter().zip(case.recorded()?).enumerate() {
        let name = format!("text.states.{}", i + 1);
        case.close(stage, &name, &got.states, &want.states)?;
        if let (Some(got), Some(want)) = (&got.pooled, &want.pooled) {
            case.close(stage, "text.pooled", got, want)?;
        }
    }
    Ok(())
}

fn scheduler(case: &Case, stage: &mut Stage) -> Outcome {
    let sigmas = case.sigmas()?;
    let list = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        Tensor::new(values, &Device::Cpu)
    };
    case.close(stage, "sigmas", &list(&sigmas)?, case.get("sigmas")?)?;
    let (_, calls) = sigmas.split_last().ok_or("there are no steps")?;
    let times: Vec<f64> = calls
        .iter()
        .map(|s| case.model.flow().timestep(*s))
        .collect();
    case.close(stage, "timesteps", &list(&times)?, case.get("timesteps")?)
}

/// Each call from the recorded latents.
fn transformer(case: &Case, stage: &mut Stage) -> Outcome {
    let net = case.model.network()?;
    let told = case.recorded()?;
    let mut latents = nhwc(case.get("noise")?)?;
    for (i, sigma) in case.sigmas()?.iter().take(case.told.steps).enumerate() {
        let got = net.predict(&latents, *sigma, split(&told), case.told.guidance)?;
        let name = format!("pred.{i}");
        case.close(stage, &name, &got, &nhwc(case.get(&name)?)?)?;
        latents = nhwc(case.get(&format!("latents.{i}"))?)?;
    }
    Ok(())
}

fn decoded(case: &Case, stage: &mut Stage) -> Outcome {
    let latents = nhwc(case.get(&format!("latents.{}", case.told.steps - 1))?)?;
    let vae = case.model.vae()?;
    let got = vae.decode(&vae.from_unet(&latents)?)?;
    case.close(stage, "decoded", &got, &nhwc(case.get("decoded")?)?)
}

/// From the prompts to the picture: only noise is recorded.
fn picture(case: &Case, stage: &mut Stage) -> Outcome {
    let told = case.model.encode_prompts(&case.prompts().0)?;
    let net = case.model.network()?;
    let mut x = nhwc(case.get("noise")?)?;
    for (i, pair) in case.sigmas()?.windows(2).enumerate() {
        let velocity = net.predict(&x, pair[0], split(&told), case.told.guidance)?;
        x = (&x + (velocity * (pair[1] - pair[0]))?)?;
        let name = format!("latents.{i}");
        case.close(stage, &name, &x, &nhwc(case.get(&name)?)?)?;
    }
    let vae = case.model.vae()?;
    let decoded = vae.decode(&vae.from_unet(&x)?)?;
    grey_levels("image", &to_picture(&decoded)?, case.get("image")?, stage)
}

/// Whether a case is one of these.
pub fn is_one(told: &Told) -> bool {
    matches!(told.family.as_str(), "flux" | "z-image")
}

/// Runs the stages of the case whose line contains `wanted`; whether all of them passed.
pub fn run(name: &str, dir: &Path, told: &Told, wanted: &str) -> bool {
    let open = || -> Result<Case, Error> {
        let parts: Vec<PathBuf> = told.parts.iter().map(|part| dir.join(part)).collect();
        Ok(Case {
            told,
            vectors: candle_core::safetensors::load(dir.join("vectors.safetensors"), &Device::Cpu)?,
            model: Dit::open(&dir.join(&told.model), &parts, &Device::Cpu)?,
        })
    };
    let case = match open() {
        Ok(case) => case,
        Err(error) => {
            println!("{name}: fail ({error})");
            return false;
        }
    };
    let mut good = true;
    let mut left: BTreeSet<&str> = case.vectors.keys().map(String::as_str).collect();
    left.remove("noise");
    for stage in &STAGES {
        let before = left.len();
        left.retain(|vector| !(stage.covers)(vector));
        let line = format!("{name} {}", stage.name);
        if left.len() < before && line.contains(wanted) {
            good &= crate::report::line(&line, |found| (stage.run)(&case, found));
        }
    }
    if !left.is_empty() && wanted.is_empty() {
        println!("{name}: fail (no stage compares {left:?})");
        good = false;
    }
    good
}
