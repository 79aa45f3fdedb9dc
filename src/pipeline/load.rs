//! Which models are asked for, and the recipe that joins them.

use std::path::PathBuf;

use candle_core::Device;

use super::fallback::{with_fallback, without_gpu};
use super::recipe::{RecipeId, recipes};
use super::{Loader, PipelineError, RECIPES, VOKEN, voken, writer};
use crate::catalogue;
use crate::voken::VokenFolder;
use crate::weights::{self, ComputeDevices, DEFAULT_MODEL, DeviceChoice, Model};

/// The writer of a model that names none.
const DEFAULT_WRITER: &str = "smollm2";

/// Which models to load, and where to.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The folder of installed models where it is not the usual one.
    pub models: Option<PathBuf>,
    /// Who draws: an installed model's id or a model folder; `None` for the built-in one.
    pub model: Option<String>,
    /// Who writes, in the same way; `None` for the one that belongs to the model.
    pub writer: Option<String>,
    /// `None` for the usual one of the model.
    pub recipe: Option<RecipeId>,
    /// A voken folder in place of the model's own, as a training run leaves one.
    pub voken: Option<PathBuf>,
    /// The device that was asked for.
    pub device: DeviceChoice,
}

/// The models that were asked for, not yet loaded.
pub struct ResolvedModels {
    /// Who draws, or does both.
    pub model: Model,
    /// The writer where one was asked for.
    writer: Option<Model>,
    /// The folder of installed models.
    models: PathBuf,
    /// The device that works.
    pub place: ComputeDevices,
    /// The voken folder: the one that was named, or the model's own.
    pub voken: VokenFolder,
}

/// Whether a model writes for others.
pub fn is_writer(model: &Model) -> bool {
    writer::kind_of(model).is_some()
}

impl ResolvedModels {
    pub(super) fn new(options: &LoadOptions) -> Result<ResolvedModels, PipelineError> {
        let models = weights::models_dir(options.models.as_deref())?;
        let name = options.model.as_deref().unwrap_or(DEFAULT_MODEL);
        let model = catalogue::find(&models, name)?;
        let writer = options.writer.as_deref();
        let writer = writer.map(|name| catalogue::find(&models, name));
        let writer = writer.transpose()?;
        Ok(ResolvedModels {
            voken: match &options.voken {
                Some(folder) => VokenFolder::new(folder),
                None => voken::own_folder(&model),
            },
            place: match options.device {
                // Engines elsewhere compute for themselves: no GPU is looked for.
                DeviceChoice::Auto if is_elsewhere(&model, writer.as_ref()) => {
                    ComputeDevices::of(&Device::Cpu)
                }
                device => weights::select_device(device)?,
            },
            writer,
            model,
            models,
        })
    }

    /// The other models that are there.
    pub fn others(&self) -> Vec<Model> {
        let all = weights::installed(&self.models).map(|installed| installed.models);
        let mut all = all.unwrap_or_default();
        all.retain(|model| model.source != self.model.source);
        all
    }

    /// The model that writes: the one that was asked for, else the one that the manifest names,
    /// else the one that comes with the program. The files of both are looked at.
    ///
    /// # Errors
    /// When there is none, or a file is missing or of another size.
    pub fn writer(&self) -> Result<Model, PipelineError> {
        let named = self.model.manifest.language_model.as_deref();
        let writer = match &self.writer {
            Some(writer) => writer.clone(),
            None => catalogue::find(&self.models, named.unwrap_or(DEFAULT_WRITER))?,
        };
        for model in [&self.model, &writer] {
            model.verify_sizes()?;
        }
        Ok(writer)
    }

    /// The recipe to load: of those that the model is made for the one that was asked for, else
    /// the usual one, and where a writer was chosen one that leaves the words to it.
    fn recipe(&self, options: &LoadOptions) -> Result<RecipeId, PipelineError> {
        let id = &self.model.manifest.id;
        let known = match options.voken {
            // Whatever is missing there, loading names it.
            Some(_) => vec![VOKEN],
            None => recipes(&self.model),
        };
        let Some(&usual) = known.first() else {
            if is_writer(&self.model) {
                return Err(PipelineError::Request(format!(
                    "the model {id} writes and can't draw; name it with --writer, and with --model one that draws"
                )));
            }
            return Err(PipelineError::not_a_storyteller(&self.model.manifest));
        };
        let writes_itself = |recipe: RecipeId| recipe == VOKEN;
        let wanted = match options.recipe {
            Some(wanted) => wanted,
            None if self.writer.is_some() => {
                let joined = known.iter().find(|recipe| !writes_itself(**recipe));
                joined.copied().unwrap_or(usual)
            }
            None => usual,
        };
        if !known.contains(&wanted) {
            let names: Vec<&str> = known.iter().map(|recipe| recipe.as_str()).collect();
            return Err(PipelineError::Request(format!(
                "model {id} can't be used with the {wanted} pipeline; choose {}",
                names.join(" or ")
            )));
        }
        if self.writer.is_some() && writes_itself(wanted) {
            return Err(PipelineError::Request(format!(
                "with the {wanted} pipeline the model {id} writes its own words; leave --writer out"
            )));
        }
        Ok(wanted)
    }
}

/// Whether neither picture nor text is made on this machine.
fn is_elsewhere(model: &Model, writer: Option<&Model>) -> bool {
    let elsewhere = |model: &Model| model.source.path().is_none();
    elsewhere(model) && writer.is_some_and(elsewhere)
}

/// Loads the models that `options` name, with the recipe that joins them, on whatever thread
/// calls it.
pub fn loader(options: LoadOptions) -> Loader {
    Box::new(move |progress| {
        let chosen = ResolvedModels::new(&options)?;
        let wanted = chosen.recipe(&options)?;
        let unfit = || PipelineError::not_a_storyteller(&chosen.model.manifest);
        let recipe = RECIPES.iter().find(|recipe| recipe.id() == wanted);
        let loaded = recipe.ok_or_else(unfit)?.load(&chosen, progress);
        let place = &chosen.place;
        match &place.gpu {
            _ if !place.falls_back => loaded,
            Some(gpu) => with_fallback(loaded, gpu, &options, progress),
            None => loaded.map(|loaded| without_gpu(loaded, &place.why, &options)),
        }
    })
}
