//! What every recipe says about itself and about what it made.

use std::time::{Instant, SystemTime};

use super::painter::{Capabilities, own_schedulers};
use super::writer::WriterDescription;
use super::{Description, PipelineError, RecipeId, Request};
use crate::diffusion::DenoisingOptions;
use crate::story::{Record, Settings, Size};
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
/// When the settings name a scheduler that it does not have.
pub(super) fn denoising(settings: &Settings) -> Result<DenoisingOptions, PipelineError> {
    let scheduler = settings.scheduler.as_str().parse();
    Ok(DenoisingOptions {
        scheduler: scheduler.map_err(PipelineError::Request)?,
        steps: settings.steps as usize,
        guidance: f64::from(settings.guidance),
    })
}

/// A recipe's defaults with what the manifest says of them.
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

/// `time` as RFC 3339 in UTC, to the second. The date is computed by Howard Hinnant's
/// `civil_from_days`.
fn utc(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
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
