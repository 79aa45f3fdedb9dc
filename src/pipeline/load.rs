//! Which model is asked for, and which recipe it is for.

use std::path::PathBuf;

use candle_core::Device;

use super::{CaptionPipeline, Loader, PipelineError, VokenPipeline, caption, voken};
use crate::voken::VokenFolder;
use crate::weights::{self, DEFAULT_MODEL, DeviceChoice, Model, WeightsError};

/// Which model to load, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The folder of installed models where it is not the usual one.
    pub models: Option<PathBuf>,
    /// An installed model's id or a model folder; `None` for the built-in one. With `:caption` or
    /// `:voken` behind it, that recipe of a model that is made for both.
    pub model: Option<String>,
    /// A voken folder in place of the model's own, as a training run leaves one.
    pub voken: Option<PathBuf>,
    pub device: DeviceChoice,
}

/// The model that was asked for, not yet loaded.
pub(super) struct Chosen {
    pub model: Model,
    /// The folder of installed models.
    models: PathBuf,
    pub device: Device,
    pub voken: VokenFolder,
    recipe: Option<String>,
}

/// A model's name without the recipe behind it, and the recipe.
fn with_recipe(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((name, recipe)) if [caption::NAME, voken::NAME].contains(&recipe) => {
            (name, Some(recipe))
        }
        _ => (name, None),
    }
}

/// The recipes that a model is made for, the usual one first.
pub fn recipes(model: &Model) -> Vec<&'static str> {
    let own = own_voken(model).is_whole();
    match model.manifest.pipeline.as_str() {
        caption::NAME if own => vec![voken::NAME, caption::NAME],
        caption::NAME => vec![caption::NAME],
        voken::NAME => vec![voken::NAME],
        _ => Vec::new(),
    }
}

fn own_voken(model: &Model) -> VokenFolder {
    VokenFolder::new(model.dir.join(voken::FOLDER))
}

impl Chosen {
    fn new(options: &Options) -> Result<Chosen, PipelineError> {
        let models = weights::models_dir(options.models.as_deref())?;
        let name = options.model.as_deref().unwrap_or(DEFAULT_MODEL);
        let (name, recipe) = with_recipe(name);
        let model = weights::find(&models, name)?;
        Ok(Chosen {
            voken: match &options.voken {
                Some(folder) => VokenFolder::new(folder),
                None => own_voken(&model),
            },
            model,
            device: weights::select_device(options.device)?,
            models,
            recipe: recipe.map(str::to_owned),
        })
    }

    /// The language model that writes for a model of our own. The files of both are looked at.
    ///
    /// # Errors
    /// When the model has none, or a file is missing or of another size.
    pub fn writer(&self) -> Result<Model, PipelineError> {
        let manifest = &self.model.manifest;
        let Some(writer) = &manifest.language_model else {
            return Err(WeightsError::NotAStoryteller {
                id: manifest.id.clone(),
                pipeline: manifest.pipeline.clone(),
            }
            .into());
        };
        let writer = weights::find(&self.models, writer)?;
        for model in [&self.model, &writer] {
            model.verify_sizes()?;
        }
        Ok(writer)
    }
}

/// Loads the model that `options` name, with the recipe that it is made for, on whatever thread
/// calls it.
pub fn loader(options: Options) -> Loader {
    Box::new(move |progress| {
        let chosen = Chosen::new(&options)?;
        let manifest = &chosen.model.manifest;
        let known = match options.voken {
            // Whatever is missing there, loading names it.
            Some(_) => vec![voken::NAME],
            None => recipes(&chosen.model),
        };
        let recipe = match &chosen.recipe {
            Some(wanted) => known.iter().find(|known| **known == wanted.as_str()),
            None => known.first(),
        };
        match (recipe.copied(), manifest.pipeline.as_str()) {
            (Some(caption::NAME), _) => Ok(Box::new(CaptionPipeline::load(&chosen, progress)?)),
            (Some(_), caption::NAME) => Ok(Box::new(VokenPipeline::load_own(&chosen, progress)?)),
            (Some(_), _) => Ok(Box::new(VokenPipeline::load(&chosen, progress)?)),
            (None, other) => match &chosen.recipe {
                Some(wanted) if !known.is_empty() => Err(PipelineError::Request(format!(
                    "model {} can't be used with the {wanted} pipeline; choose {}",
                    manifest.id,
                    known.join(" or ")
                ))),
                _ => Err(WeightsError::NotAStoryteller {
                    id: manifest.id.clone(),
                    pipeline: other.to_string(),
                }
                .into()),
            },
        }
    })
}
