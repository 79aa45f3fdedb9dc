//! Weights of one network of candle-transformers: what it asks for, and where in a file it lies.

use crate::diffusion::DiffusionError;
use crate::diffusion::error::sentence;
use crate::nn::TensorSource;
use crate::weights::{Checkpoint, StoredType, TensorSlice, TensorView};
use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Names and shapes that a network asks for.
type Shapes = BTreeMap<String, Vec<usize>>;

/// Stored tensors, or parts of them, that make one parameter when joined on their first axis.
pub(super) type Joined = Vec<(String, TensorSlice)>;

/// One stored tensor as it is.
pub(super) fn one(name: impl Into<String>) -> Joined {
    vec![(name.into(), TensorSlice::Whole)]
}

/// The type in which a parameter is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// All in the type that the network computes in.
    Computed,
    /// Matrices as the file has them, each widened when it is multiplied by; the rest in f32.
    /// candle's T5 can do so.
    Widened,
}

/// Where the parameters of a network lie; nothing of them is in memory.
#[derive(Clone)]
pub(super) struct Weights {
    path: PathBuf,
    view: TensorView,
    /// For each parameter its shape, and how many stored pieces it is joined of.
    places: BTreeMap<String, (Vec<usize>, usize)>,
    held: Held,
    /// The type of the largest stored tensor.
    stored: StoredType,
}

impl Weights {
    /// Finds all that `build` asks for in `file`, under the first of those `names` that are there.
    ///
    /// # Errors
    /// A configuration that the network can't be built from; a tensor that is missing or has another
    /// shape. `what` is the network.
    pub(super) fn find<M>(
        file: &Arc<Checkpoint>,
        what: &str,
        held: Held,
        build: impl FnOnce(VarBuilder) -> Result<M>,
        names: impl Fn(&str) -> Vec<Joined>,
    ) -> std::result::Result<Self, DiffusionError> {
        let path = file.path();
        let asked = asked(build).map_err(|e| DiffusionError::config(path, sentence(&e)))?;
        let mut view = TensorView::default();
        let mut places = BTreeMap::new();
        let mut largest = (0, StoredType::F32);
        for (name, shape) in asked {
            let candidates = names(&name);
            let there = |joined: &&Joined| joined.iter().all(|(stored, _)| file.contains(stored));
            let Some(joined) = candidates.iter().find(there) else {
                let stored = candidates.first().and_then(|joined| joined.first());
                let stored = stored.map_or(name.as_str(), |(stored, _)| stored);
                let why = format!("has no tensor {stored}, which {what} needs");
                return Err(DiffusionError::unfit(
                    path,
                    why,
                    "get the file again, or its other parts",
                ));
            };
            let mut found: Option<Vec<usize>> = None;
            for (i, (stored, taken)) in joined.iter().enumerate() {
                let piece = piece(&name, i);
                view.insert(piece.clone(), file, stored, taken.clone());
                let Some(info) = view.info(&piece) else {
                    continue;
                };
                largest = largest.max_by_count(info.count(), info.dtype);
                found = Some(match found {
                    None => info.shape,
                    Some(mut all) => {
                        if let (Some(rows), Some(more)) = (all.first_mut(), info.shape.first()) {
                            *rows += more;
                        }
                        all
                    }
                });
            }
            let found = found.unwrap_or_default();
            if found != shape {
                let stored = joined.first().map_or("", |(stored, _)| stored);
                let why = format!("has {stored} of shape {found:?} where {what} needs {shape:?}");
                let remedy = "use a file that belongs to this kind of model";
                return Err(DiffusionError::unfit(path, why, remedy));
            }
            places.insert(name, (shape, joined.len()));
        }
        Ok(Self {
            path: path.to_path_buf(),
            view,
            places,
            held,
            stored: largest.1,
        })
    }

    /// The type that the network computes in: f32 where the file has it, else bf16, which has the
    /// range that f16 lacks.
    pub(super) fn computes(&self) -> DType {
        match (self.held, self.stored) {
            (Held::Widened, _) | (Held::Computed, StoredType::F32 | StoredType::F64) => DType::F32,
            (Held::Computed, _) => DType::BF16,
        }
    }

    /// Bytes that the parameters take in memory.
    pub(super) fn bytes(&self) -> u64 {
        let one = |(name, (shape, _)): (&String, &(Vec<usize>, usize))| {
            let count = shape.iter().product::<usize>() as u64;
            count * self.type_of(name, shape).size_in_bytes() as u64
        };
        self.places.iter().map(one).sum()
    }

    fn type_of(&self, name: &str, shape: &[usize]) -> DType {
        let table = name.ends_with("shared.weight") || name.contains("relative_attention_bias");
        match (self.held, self.stored) {
            (Held::Computed, _) => self.computes(),
            (Held::Widened, _) if table || shape.len() < 2 => DType::F32,
            (Held::Widened, StoredType::F32 | StoredType::F64) => DType::F32,
            (Held::Widened, StoredType::BF16) => DType::BF16,
            (Held::Widened, _) => DType::F16,
        }
    }

    /// Builds the network on `device`.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among the weights.
    pub(super) fn load<M>(
        &self,
        device: &Device,
        build: impl FnOnce(VarBuilder) -> Result<M>,
    ) -> std::result::Result<M, DiffusionError> {
        let backend: Box<dyn SimpleBackend> = Box::new(self.clone());
        let built = build(VarBuilder::from_backend(
            backend,
            self.computes(),
            device.clone(),
        ));
        built.map_err(|error| {
            let sentence = sentence(&error);
            match sentence.starts_with(&*self.path.to_string_lossy()) {
                true => DiffusionError::Tensor(sentence),
                false => DiffusionError::misfit(&self.path, sentence),
            }
        })
    }
}

/// Of two counts with their types the larger.
trait Larger {
    fn max_by_count(self, count: usize, stored: StoredType) -> Self;
}

impl Larger for (usize, StoredType) {
    fn max_by_count(self, count: usize, stored: StoredType) -> Self {
        match count > self.0 {
            true => (count, stored),
            false => self,
        }
    }
}

fn piece(name: &str, i: usize) -> String {
    format!("{name}#{i}")
}

impl SimpleBackend for Weights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        _: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let Some((known, pieces)) = self.places.get(name) else {
            candle_core::bail!("parameter {name} is missing from the weights");
        };
        if *known != shape.dims() {
            candle_core::bail!("parameter {name} has shape {known:?}, not {shape:?}");
        }
        let held = self.type_of(name, known);
        let read = |i| self.view.tensor(&piece(name, i), device)?.to_dtype(held);
        match *pieces {
            1 => read(0),
            many => {
                let all = (0..many).map(read).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&all, 0)
            }
        }
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = self.places.get(name).map(|(shape, _)| shape.clone());
        let shape = Shape::from(shape.unwrap_or_default());
        self.get(shape, name, candle_nn::Init::Const(0.0), dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }
}

/// Notes what a network asks for, and gives it zeros that take no memory.
struct Probe(Arc<Mutex<Shapes>>);

impl SimpleBackend for Probe {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if let Ok(mut asked) = self.0.lock() {
            asked.insert(name.to_owned(), shape.dims().to_vec());
        }
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("the shape of {name} is not said")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// What a network asks for when it is built.
fn asked<M>(build: impl FnOnce(VarBuilder) -> Result<M>) -> Result<Shapes> {
    let asked = Arc::new(Mutex::new(Shapes::new()));
    let probe: Box<dyn SimpleBackend> = Box::new(Probe(asked.clone()));
    build(VarBuilder::from_backend(probe, DType::F32, Device::Cpu))?;
    let asked = asked.lock().map(|asked| asked.clone());
    Ok(asked.unwrap_or_default())
}
