//! Which model is asked for, and which recipe it is for.

use std::path::PathBuf;

use candle_core::Device;

use super::{CaptionPipeline, Loader, PipelineError, VokenPipeline, caption, voken};
use crate::weights::{self, DEFAULT_MODEL, DeviceChoice, Model, WeightsError};

/// Which model to load, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder of installed models where it is not the usual one.
    pub models: Option<PathBuf>,
    /// An installed model's id or a model folder; `None` for the built-in one.
    pub model: Option<String>,
    pub device: DeviceChoice,
}

/// The model that was asked for, not yet loaded.
pub(super) struct Chosen {
    pub model: Model,
    /// The folder of installed models.
    pub models: PathBuf,
    pub device: Device,
}

impl Chosen {
    fn new(options: &Options) -> Result<Chosen, PipelineError> {
        let models = weights::models_dir(options.models.as_deref())?;
        let name = options.model.as_deref().unwrap_or(DEFAULT_MODEL);
        Ok(Chosen {
            model: weights::find(&models, name)?,
            device: weights::select_device(options.device)?,
            models,
        })
    }
}

/// Loads the model that `options` name, with the recipe that it is made for, on whatever thread
/// calls it.
pub fn loader(options: Options) -> Loader {
    Box::new(move |progress| {
        let chosen = Chosen::new(&options)?;
        let manifest = &chosen.model.manifest;
        match manifest.pipeline.as_str() {
            caption::NAME => Ok(Box::new(CaptionPipeline::load(&chosen, progress)?)),
            voken::NAME => Ok(Box::new(VokenPipeline::load(&chosen, progress)?)),
            other => Err(WeightsError::NotAStoryteller {
                id: manifest.id.clone(),
                pipeline: other.to_string(),
            }
            .into()),
        }
    })
}
