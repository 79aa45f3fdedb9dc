//! Weights of one network: what it asks for, and where in a file it lies.

use super::layers::Layers;
use crate::diffusion::DiffusionError;
use crate::diffusion::error::sentence;
use crate::diffusion::stable::checkpoint;
use crate::nn::quant::QuantMatrix;
use crate::nn::{Params, TensorSource};
use crate::weights::{Checkpoint, GgufTensors, StoredType, TensorSlice};
use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Names and shapes that a network asks for.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// Stored tensors, or parts of them, that make one parameter when joined on their first axis.
pub(super) type Joined = Vec<(String, TensorSlice)>;

/// One stored tensor as it is.
pub(super) fn one(name: impl Into<String>) -> Joined {
    vec![(name.into(), TensorSlice::Whole)]
}

/// A file of weights that is open.
#[derive(Clone)]
pub(super) enum WeightsFile {
    /// safetensors or a pickle.
    Checkpoint(Arc<Checkpoint>),
    /// A GGUF file, whose matrices stay as they lie in it.
    Gguf(PathBuf, Arc<GgufTensors>),
}

impl WeightsFile {
    /// # Errors
    /// A file that is missing or damaged.
    pub(super) fn open(path: &Path) -> std::result::Result<Self, DiffusionError> {
        if !is_gguf(path) {
            return Ok(WeightsFile::Checkpoint(checkpoint(path)?));
        }
        let tensors = GgufTensors::open(path);
        let tensors = tensors.map_err(|e| DiffusionError::Settings(e.into()))?;
        Ok(WeightsFile::Gguf(path.to_path_buf(), Arc::new(tensors)))
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        match self {
            WeightsFile::Checkpoint(file) => file.path(),
            WeightsFile::Gguf(path, _) => path,
        }
    }

    /// Whether there is a tensor of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            WeightsFile::Checkpoint(file) => file.contains(name),
            WeightsFile::Gguf(_, file) => file.contains(name),
        }
    }

    /// Shape and type of a stored tensor; a quantised one counts as f16.
    fn info(&self, name: &str) -> Option<(Vec<usize>, StoredType)> {
        match self {
            WeightsFile::Checkpoint(file) => {
                let info = file.info(name)?;
                Some((info.shape.clone(), info.dtype))
            }
            WeightsFile::Gguf(_, file) => Some((file.shape(name)?, StoredType::F16)),
        }
    }

    fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        match self {
            WeightsFile::Checkpoint(file) => file
                .stored_tensor(name, device)
                .map_err(|error| candle_core::Error::Msg(error.to_string())),
            WeightsFile::Gguf(path, file) => file.tensor(name, device).map_err(|error| {
                let why = sentence(&error);
                candle_core::Error::Msg(format!("{}: {why}", path.display()))
            }),
        }
    }
}

fn is_gguf(path: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 4];
    let read = crate::files::open_file(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"GGUF"
}

/// The type in which a parameter is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StorageType {
    /// All in the type that the network computes in: f32 where the file has it, else bf16, which has
    /// the range that f16 lacks. For candle's networks.
    Computed,
    /// Matrices in half precision where the file has them so, each widened when it is multiplied
    /// by; the rest in f32.
    Widened,
}

/// Where the parameters of a network lie; nothing of them is in memory.
#[derive(Clone)]
pub(super) struct Weights {
    file: WeightsFile,
    /// For each parameter its shape, and the stored pieces that it is joined of.
    places: BTreeMap<String, (Vec<usize>, Joined)>,
    held: StorageType,
    /// The type of the largest stored tensor.
    stored: StoredType,
}

impl Weights {
    /// Finds all that is `asked` for in `file`, under the first of those `names` that are there.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape. `what` is the network.
    pub(super) fn find(
        file: &WeightsFile,
        what: &str,
        held: StorageType,
        asked: Shapes,
        names: impl Fn(&str) -> Vec<Joined>,
    ) -> std::result::Result<Self, DiffusionError> {
        let path = file.path();
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
            for (stored, taken) in joined {
                let Some((whole, dtype)) = file.info(stored) else {
                    continue;
                };
                let piece = taken.shape(&whole);
                let count = piece.iter().product();
                if count > largest.0 {
                    largest = (count, dtype);
                }
                found = Some(match found {
                    None => piece,
                    Some(mut all) => {
                        if let (Some(rows), Some(more)) = (all.first_mut(), piece.first()) {
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
            places.insert(name, (shape, joined.clone()));
        }
        Ok(Self {
            file: file.clone(),
            places,
            held,
            stored: largest.1,
        })
    }

    /// The type that one of candle's networks computes in.
    fn computes(&self) -> DType {
        match (self.held, self.stored) {
            (StorageType::Widened, _)
            | (StorageType::Computed, StoredType::F32 | StoredType::F64) => DType::F32,
            (StorageType::Computed, _) => DType::BF16,
        }
    }

    /// The type in which matrices are held.
    fn matrices(&self) -> DType {
        match (self.held, self.stored) {
            (StorageType::Computed, _) => self.computes(),
            (StorageType::Widened, StoredType::F32 | StoredType::F64) => DType::F32,
            (StorageType::Widened, StoredType::F16) => DType::F16,
            // Has room for all that fp8 has.
            (StorageType::Widened, _) => DType::BF16,
        }
    }

    fn type_of(&self, name: &str, shape: &[usize]) -> DType {
        // candle's T5 takes these as they are.
        let table = name.ends_with("shared.weight") || name.contains("relative_attention_bias");
        match self.held {
            StorageType::Widened if table || shape.len() < 2 => DType::F32,
            StorageType::Widened | StorageType::Computed => self.matrices(),
        }
    }

    /// Bytes that the parameters take in memory.
    pub(super) fn bytes(&self) -> u64 {
        let one = |(name, (shape, joined)): (&String, &(Vec<usize>, Joined))| {
            let count = shape.iter().product::<usize>() as u64;
            let packed = self.packed(shape, joined);
            let packed = packed.and_then(|(file, name, _)| file.header().tensors.get(name));
            match packed {
                Some(tensor) => {
                    let all = tensor.shape.iter().product::<usize>().max(1) as u64;
                    tensor.bytes as u64 * count / all
                }
                None => count * self.type_of(name, shape).size_in_bytes() as u64,
            }
        };
        self.places.iter().map(one).sum()
    }

    /// Numbers of its largest matrix, which is widened while it is multiplied by.
    pub(super) fn widest(&self) -> u64 {
        let wide = self.places.values().filter(|(shape, _)| shape.len() > 1);
        let counts = wide.map(|(shape, _)| shape.iter().product::<usize>() as u64);
        match self.matrices() {
            DType::F32 => 0,
            _ => counts.max().unwrap_or(0),
        }
    }

    /// Where a matrix lies that stays in its GGUF file.
    fn packed<'a>(
        &'a self,
        shape: &[usize],
        joined: &'a Joined,
    ) -> Option<(&'a GgufTensors, &'a str, &'a TensorSlice)> {
        match (&self.file, joined.as_slice()) {
            (WeightsFile::Gguf(_, file), [(name, taken)]) if shape.len() == 2 => {
                let slice = matches!(taken, TensorSlice::Whole | TensorSlice::Rows(_));
                slice.then_some((&**file, name.as_str(), taken))
            }
            _ => None,
        }
    }

    /// The matrix `name`, where it stays as it lies in a GGUF file.
    ///
    /// # Errors
    /// A type that is not read, or a file that was changed.
    pub(super) fn matrix(&self, name: &str) -> Result<Option<QuantMatrix>> {
        let place = self.places.get(name);
        let place = place.and_then(|(shape, joined)| self.packed(shape, joined));
        let Some((file, stored, taken)) = place else {
            return Ok(None);
        };
        let matrix = file.matrix(stored)?;
        Ok(Some(match taken {
            TensorSlice::Rows(rows) => matrix.some_rows(rows.clone()),
            _ => matrix,
        }))
    }

    /// Builds one of candle's networks on `device`.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among the weights.
    pub(super) fn load<M>(
        &self,
        device: &Device,
        build: impl FnOnce(VarBuilder) -> Result<M>,
    ) -> std::result::Result<M, DiffusionError> {
        let backend: Box<dyn SimpleBackend> = Box::new(self.clone());
        let builder = VarBuilder::from_backend(backend, self.computes(), device.clone());
        build(builder).map_err(|error| DiffusionError::of_tensors(self.file.path(), error))
    }

    /// Builds one of our networks on `device`.
    ///
    /// # Errors
    /// As for [`Weights::load`].
    pub(super) fn load_layers<M>(
        &self,
        device: &Device,
        build: impl FnOnce(&Layers) -> Result<M>,
    ) -> std::result::Result<M, DiffusionError> {
        let source = Arc::new(self.clone());
        let params = match self.matrices() {
            DType::F32 => Params::from_source(source, false, device),
            held => Params::held_as(source, held, device),
        };
        build(&Layers::new(params, Some(self.clone())))
            .map_err(|error| DiffusionError::of_tensors(self.file.path(), error))
    }

    fn read(&self, name: &str, held: Option<DType>, device: &Device) -> Result<Tensor> {
        let Some((shape, joined)) = self.places.get(name) else {
            candle_core::bail!("parameter {name} is missing from the weights");
        };
        let held = held.unwrap_or_else(|| self.type_of(name, shape));
        let pieces = joined.iter().map(|(stored, taken)| {
            let whole = self.file.tensor(stored, device)?;
            taken.of(whole)?.to_dtype(held)
        });
        let pieces = pieces.collect::<Result<Vec<_>>>()?;
        match pieces.as_slice() {
            [only] => Ok(only.clone()),
            several => Tensor::cat(several, 0),
        }
    }
}

impl TensorSource for Weights {
    fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.places.get(name).map(|(shape, _)| shape.clone())
    }

    fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        self.read(name, None, device)
    }
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
        let known = self.shape(name);
        if known.as_deref() != Some(shape.dims()) {
            candle_core::bail!("parameter {name} has shape {known:?}, not {shape:?}");
        }
        self.read(name, None, device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.read(name, Some(dtype), device)
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

/// What one of candle's networks asks for when it is built; `path` is named where it can't be.
///
/// # Errors
/// A configuration that it can't be built from.
pub(super) fn asked_of_candle<M>(
    path: &Path,
    build: impl FnOnce(VarBuilder) -> Result<M>,
) -> std::result::Result<Shapes, DiffusionError> {
    let asked = Arc::new(Mutex::new(Shapes::new()));
    let probe: Box<dyn SimpleBackend> = Box::new(Probe(asked.clone()));
    build(VarBuilder::from_backend(probe, DType::F32, Device::Cpu))
        .map_err(|error| DiffusionError::config(path, error))?;
    let asked = asked.lock().map(|asked| asked.clone());
    Ok(asked.unwrap_or_default())
}

/// The same of one of ours.
///
/// # Errors
/// As there.
pub(super) fn asked_of_ours<M>(
    path: &Path,
    build: impl FnOnce(&Layers) -> Result<M>,
) -> std::result::Result<Shapes, DiffusionError> {
    let probe = Params::probe(BTreeMap::new());
    build(&Layers::new(probe.clone(), None))
        .map_err(|error| DiffusionError::config(path, error))?;
    Ok(probe.required_tensors())
}
