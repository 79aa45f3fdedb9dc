//! What every recipe says about itself and about what it made.

use std::time::{Instant, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

use super::painter::{Capabilities, own_schedulers};
use super::writer::WriterDescription;
use super::{Description, PipelineError, RecipeId, Request};
use crate::diffusion::DenoisingOptions;
use crate::story::{Record, SchedulerName, Settings, Size};
use crate::weights::Manifest;

/// Most pictures of the cast that are read before a story.
const MOST_SEEN: usize = 4;

/// What a voken model says of itself, writer and painter in one. `manifests` are those of all weights in it,
/// the model's first; `device` is what it draws on, and
/// `width` and `height` are pixels of its pictures.
pub(super) fn description(
    manifests: &[&Manifest],
    pipeline: RecipeId,
    device: String,
    (width, height): (u32, u32),
    defaults: Settings,
) -> Description {
    let hashes: Vec<String> = manifests.iter().map(|m| m.weights_hash()).collect();
    let model = manifests[0];
    let weights = hashes.join("+");
    Description {
        model: model.id.clone(),
        pipeline: pipeline.to_string(),
        writer: WriterDescription {
            model: model.id.clone(),
            weights: weights.clone(),
            device: device.clone(),
            instructs: false,
            sees: true,
        },
        at_once: 1,
        takes: Capabilities {
            size: Size { width, height },
            schedulers: own_schedulers(),
            references: MOST_SEEN,
            sees: true,
            ..Capabilities::default()
        },
        weights,
        device,
        characters: model.draws.characters.clone(),
        things: model.draws.things.clone(),
        places: model.draws.places.clone(),
        default_settings: default_settings(defaults, model),
    }
}

/// The record of something that `description`'s pipeline made for `request`.
pub(super) fn record(
    description: &Description,
    request: &Request,
    prompt: String,
    started: Instant,
) -> Record {
    Record {
        model: description.model.clone(),
        weights: description.weights.clone(),
        pipeline: description.pipeline.clone(),
        device: description.device.clone(),
        settings: request.settings.clone(),
        prompt,
        context: request.context.iter().map(|panel| panel.id).collect(),
        seconds: started.elapsed().as_secs_f32(),
        created: utc(SystemTime::now()),
        ..Record::default()
    }
}

/// How our own denoising loop is to run.
///
/// # Errors
/// When `scheduler` names one that it does not have.
pub fn denoising(
    scheduler: &SchedulerName,
    steps: u32,
    guidance: f32,
) -> Result<DenoisingOptions, PipelineError> {
    let scheduler = scheduler.as_str().parse();
    Ok(DenoisingOptions {
        scheduler: scheduler.map_err(PipelineError::Request)?,
        steps: steps as usize,
        guidance: f64::from(guidance),
    })
}

/// A recipe's defaults, overridden by the manifest's.
pub fn default_settings(defaults: Settings, manifest: &Manifest) -> Settings {
    let (Some(serde_json::Value::Object(wanted)), Ok(serde_json::Value::Object(mut all))) = (
        manifest.default_settings.clone(),
        serde_json::to_value(&defaults),
    ) else {
        return defaults;
    };
    all.extend(wanted);
    serde_json::from_value(all.into()).unwrap_or(defaults)
}

/// `time` as RFC 3339 in UTC, to the second.
fn utc(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(utc(time), text);
        }
    }

    #[test]
    fn a_manifest_changes_only_the_defaults_it_names() {
        let manifest = Manifest {
            default_settings: Some(serde_json::json!({"guidance": 2.25})),
            ..Manifest::default()
        };
        let settings = default_settings(Settings::default(), &manifest);
        assert_eq!(settings.guidance, 2.25);
        assert_eq!(settings.steps, Settings::default().steps);
    }
}
