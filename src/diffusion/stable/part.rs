//! One network of a model: its configuration, and where its weights lie.

use super::StableDiffusionOptions;
use super::patched::Patched;
use crate::diffusion::DiffusionError;
use crate::nn::{Params, Result as TensorResult};
use crate::weights::{Checkpoint, TensorSlice, TensorView};
use candle_core::{DType, Device};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names and shapes under diffusers' names.
pub(in crate::diffusion) type Shapes = BTreeMap<String, Vec<usize>>;

/// A network that can be loaded and dropped.
#[derive(Clone)]
pub(in crate::diffusion) struct LoadablePart<C> {
    /// What errors name: the file, or the folder of this part.
    pub path: PathBuf,
    /// Configuration of the network.
    pub config: C,
    /// Tensors that the network needs.
    pub asked: Shapes,
    /// Where they come from, with LoRAs merged in.
    pub source: Patched,
}

/// What a network asks for when it is built.
///
/// # Errors
/// A configuration that it can't be built from.
pub(super) fn required_tensors<M>(
    path: &Path,
    build: impl FnOnce(Params) -> TensorResult<M>,
) -> Result<Shapes, DiffusionError> {
    let probe = Params::probe(BTreeMap::new());
    build(probe.clone()).map_err(|error| DiffusionError::config(path, error))?;
    Ok(probe.required_tensors())
}

/// Finds all that is asked for in `checkpoint`, under the first name there of those that `names`
/// gives.
///
/// # Errors
/// A tensor that is missing or has another shape; `what` is the network.
pub(super) fn find(
    checkpoint: &Arc<Checkpoint>,
    asked: &Shapes,
    what: &str,
    names: impl Fn(&str) -> Vec<(String, TensorSlice)>,
) -> Result<TensorView, DiffusionError> {
    let path = checkpoint.path();
    let mut view = TensorView::default();
    for (name, shape) in asked {
        let candidates = names(name);
        let there = candidates
            .iter()
            .find(|(stored, _)| checkpoint.contains(stored));
        let Some((stored, taken)) = there else {
            let stored = candidates
                .first()
                .map_or(name.as_str(), |(stored, _)| stored);
            let why = format!("has no tensor {stored}, which {what} needs");
            return Err(DiffusionError::unfit(
                path,
                why,
                "get the file again, or its other parts",
            ));
        };
        view.insert(name.clone(), checkpoint, stored, taken.clone());
        let found = view.info(name).map(|info| info.shape).unwrap_or_default();
        if found != *shape {
            let why = format!("has {stored} of shape {found:?} where {what} needs {shape:?}");
            let remedy = "use a file that belongs to this kind of model";
            return Err(DiffusionError::unfit(path, why, remedy));
        }
    }
    Ok(view)
}

impl<C> LoadablePart<C> {
    /// # Errors
    /// As for [`find`].
    pub(in crate::diffusion) fn new(
        checkpoint: &Arc<Checkpoint>,
        config: C,
        asked: Shapes,
        what: &str,
        names: impl Fn(&str) -> Vec<(String, TensorSlice)>,
    ) -> Result<Self, DiffusionError> {
        Ok(Self {
            path: checkpoint.path().to_path_buf(),
            config,
            source: Patched {
                view: find(checkpoint, &asked, what, names)?,
                ..Patched::default()
            },
            asked,
        })
    }

    /// Bytes that its weights take in memory, held as `held` or as they are stored.
    pub(in crate::diffusion) fn bytes(&self, held: Option<DType>) -> u64 {
        let held = held.unwrap_or_else(|| self.source.stored());
        let one = |shape: &Vec<usize>| {
            let count = shape.iter().product::<usize>() as u64;
            // Norms and biases are widened.
            let size = if shape.len() > 1 {
                held.size_in_bytes()
            } else {
                4
            };
            count * size as u64
        };
        self.asked.values().map(one).sum()
    }

    /// Loads it.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among the weights.
    pub(in crate::diffusion) fn load<M>(
        &self,
        held: Option<DType>,
        device: &Device,
        build: impl FnOnce(Params) -> TensorResult<M>,
    ) -> Result<M, DiffusionError> {
        let options = StableDiffusionOptions {
            held,
            ..StableDiffusionOptions::on(device)
        };
        self.load_with(&options, build)
    }

    /// The same as the options of its model say.
    ///
    /// # Errors
    /// As there, or a GPU that fails.
    pub(in crate::diffusion) fn load_with<M>(
        &self,
        options: &StableDiffusionOptions,
        build: impl FnOnce(Params) -> TensorResult<M>,
    ) -> Result<M, DiffusionError> {
        let source = Arc::new(self.source.clone());
        let (device, gpu) = (&options.device, options.gpu.as_ref());
        let params = match options.held.unwrap_or_else(|| self.source.stored()) {
            DType::F32 => Params::from_source(source, false, device),
            held => Params::held_as(source, held, device),
        };
        build(params.on(gpu).in_bf16(options.bf16))
            .map_err(|error| DiffusionError::of_tensors(&self.path, error))
    }
}
