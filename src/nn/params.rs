//! Named parameters: read from safetensors in PyTorch's layout, or drawn anew for training.

use super::gpu::Gpu;
use super::relayout::relaid;
use super::weight::Weight;
use super::widen::widened;
use super::{
    Conv2d, ConvOptions, Embedding, GroupNorm, LayerNorm, Linear, NoiseSource, Result, RmsNorm,
};
use crate::cause::Cause;
use candle_core::{DType, Device, Tensor, Var, safetensors::MmapedSafetensors};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What can be wrong with a parameter file.
#[derive(Debug, thiserror::Error)]
pub enum ParamError {
    /// A file is not valid safetensors, or cannot be opened.
    #[error("{path} can't be read as safetensors ({why}); get the file again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        why: Cause,
    },
    /// A file cannot be written: the file, and why.
    #[error("{0} can't be written ({1}); check the folder and the free space on its disk")]
    Unwritable(PathBuf, String),
    /// A tensor is missing, has another shape, or cannot be loaded.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// How a new parameter begins.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Normally distributed with this standard deviation.
    Normal(f64),
}

/// How a parameter lies in memory, seen from how it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    AsFile,
    /// As in the file; rows of it are looked up.
    Rows,
    /// File `[out,in]`, memory `[in,out]`.
    Transposed,
    /// File `[out,in,kh,kw]`, memory `[kh,kw,in,out]`.
    Hwio,
}

impl Layout {
    fn read(self, t: Tensor) -> Result<Tensor> {
        match self {
            Layout::AsFile | Layout::Rows => Ok(t),
            Layout::Transposed | Layout::Hwio => relaid(&t),
        }
    }

    /// The shape in memory of what has `shape` in the file.
    fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Layout::Transposed, &[out, inp]) => vec![inp, out],
            (Layout::Hwio, &[out, inp, height, width]) => vec![height, width, inp, out],
            _ => shape.to_vec(),
        }
    }

    fn write(self, t: &Tensor) -> Result<Tensor> {
        match self {
            Layout::AsFile | Layout::Rows => Ok(t.clone()),
            Layout::Transposed => t.t()?.contiguous(),
            Layout::Hwio => t.permute((3, 2, 0, 1))?.contiguous(),
        }
    }
}

/// Named tensors in the file layout, loaded one at a time.
pub trait TensorSource: Send + Sync {
    /// Whether there is a tensor of this name.
    fn contains(&self, name: &str) -> bool;
    /// Shape of a tensor in the file layout; `None` where there is none of that name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;
    /// The tensor in whatever type it is stored.
    ///
    /// # Errors
    /// When there is none of that name or it cannot be loaded.
    fn tensor(&self, name: &str, device: &Device) -> Result<Tensor>;
}

enum ParamSource {
    Files(MmapedSafetensors),
    Other(Arc<dyn TensorSource>),
    Tensors(HashMap<String, Tensor>),
    New(Box<Mutex<NoiseSource>>),
    Shapes(Box<ShapeProbe>),
}

/// Notes what a network asks for, to compare it with the names and shapes that a file has.
#[derive(Default)]
struct ShapeProbe {
    known: BTreeMap<String, Vec<usize>>,
    asked: Mutex<BTreeMap<String, Vec<usize>>>,
}

struct ParamStore {
    device: Device,
    source: ParamSource,
    trainable: bool,
    /// The type in which matrices, kernels and tables are held.
    held: DType,
    vars: Mutex<BTreeMap<String, (Var, Layout)>>,
}

/// A scope in a store of parameters; `pp` goes one name deeper.
#[derive(Clone)]
pub struct Params {
    store: Arc<ParamStore>,
    prefix: String,
    /// Where layers are to compute, if that is no device of candle's.
    gpu: Option<Gpu>,
    /// Whether matrices are to be multiplied in bf16.
    bf16: bool,
}

impl Params {
    fn with(source: ParamSource, trainable: bool, device: &Device) -> Self {
        let store = ParamStore {
            device: device.clone(),
            source,
            trainable,
            held: DType::F32,
            vars: Mutex::default(),
        };
        Self {
            store: Arc::new(store),
            prefix: String::new(),
            gpu: None,
            bf16: false,
        }
    }

    /// Frozen parameters from safetensors files, memory-mapped.
    pub fn from_safetensors(
        files: &[PathBuf],
        device: &Device,
    ) -> std::result::Result<Self, ParamError> {
        for path in files {
            // Mapping alone would not notice a file cut short.
            check_header(path)?;
        }
        // SAFETY: the mapping is only unsound if another program changes the file meanwhile, the
        // same contract every memory-mapping loader of model weights has.
        let files_map =
            unsafe { MmapedSafetensors::multi(files) }.map_err(|e| ParamError::Unreadable {
                path: files.first().cloned().unwrap_or_default(),
                why: e.into(),
            })?;
        Ok(Self::with(ParamSource::Files(files_map), false, device))
    }

    /// Parameters from tensors in the file layout; trainable ones become variables.
    pub fn from_tensors(
        tensors: HashMap<String, Tensor>,
        trainable: bool,
        device: &Device,
    ) -> Self {
        Self::with(ParamSource::Tensors(tensors), trainable, device)
    }

    /// Parameters from any other source, each loaded when a layer asks for it; trainable ones
    /// become variables.
    pub fn from_source(source: Arc<dyn TensorSource>, trainable: bool, device: &Device) -> Self {
        Self::with(ParamSource::Other(source), trainable, device)
    }

    /// Frozen parameters from any source whose matrices, kernels and tables are held as `held`,
    /// such as f16 for half the memory. Everything is computed in f32: a layer's weights are
    /// widened while it works.
    pub fn held_as(source: Arc<dyn TensorSource>, held: DType, device: &Device) -> Self {
        let store = ParamStore {
            device: device.clone(),
            source: ParamSource::Other(source),
            trainable: false,
            held,
            vars: Mutex::default(),
        };
        Self {
            store: Arc::new(store),
            prefix: String::new(),
            gpu: None,
            bf16: false,
        }
    }

    /// New trainable parameters, drawn from `seed`.
    pub fn init(seed: u64, device: &Device) -> Self {
        Self::with(
            ParamSource::New(Box::new(Mutex::new(NoiseSource::new(seed, 0)))),
            true,
            device,
        )
    }

    /// Parameters without values, which take no memory: a network that is built from them tells
    /// what it needs ([`Params::required_tensors`]). `known` are names and shapes that the file has,
    /// which decide where networks read files of more than one kind.
    pub fn probe(known: BTreeMap<String, Vec<usize>>) -> Self {
        let probe = ShapeProbe {
            known,
            asked: Mutex::default(),
        };
        Self::with(ParamSource::Shapes(Box::new(probe)), false, &Device::Cpu)
    }

    /// Names and file shapes of what was asked of a [`Params::probe`] so far.
    pub fn required_tensors(&self) -> BTreeMap<String, Vec<usize>> {
        match &self.store.source {
            ParamSource::Shapes(probe) => probe
                .asked
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Frozen parameters drawn from `seed`, to measure a network of which there are no weights.
    pub fn random(seed: u64, device: &Device) -> Self {
        let source = ParamSource::New(Box::new(Mutex::new(NoiseSource::new(seed, 0))));
        Self::with(source, false, device)
    }

    /// The scope `name` within this one, as in PyTorch's dotted names.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        let prefix = match self.prefix.as_str() {
            "" => name.to_string(),
            p => format!("{p}.{name}"),
        };
        Self {
            store: self.store.clone(),
            prefix,
            gpu: self.gpu.clone(),
            bf16: self.bf16,
        }
    }

    /// Has the layers that are built from now on lie on a GPU, where there is one. Trainable
    /// parameters, and tensors that are asked for alone, stay.
    #[must_use]
    pub fn on(self, gpu: Option<&Gpu>) -> Self {
        Self {
            gpu: gpu.cloned(),
            ..self
        }
    }

    /// Has the linear layers and 1x1 convolutions that are built from now on multiply in bf16, with
    /// sums in f32, where the processor does that and they don't learn: their weights are rounded
    /// and packed when they are loaded, and their inputs are rounded.
    #[must_use]
    pub fn in_bf16(self, bf16: bool) -> Self {
        Self { bf16, ..self }
    }

    /// Where the layers lie, if that is a GPU through wgpu.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }

    /// A layer's parameter, where the layer is to compute.
    fn weight(
        &self,
        file_shape: &[usize],
        name: &str,
        init: Init,
        layout: Layout,
    ) -> Result<Weight> {
        let host = self.get(file_shape, name, init, layout)?;
        let probed = matches!(self.store.source, ParamSource::Shapes(_));
        let matrix = matches!(layout, Layout::Transposed | Layout::Hwio);
        if self.bf16 && matrix && self.gpu.is_none() && !probed && !self.store.trainable {
            return Weight::rounded(host);
        }
        let gpu = self
            .gpu
            .as_ref()
            .filter(|gpu| !self.store.trainable && (!probed || gpu.counts_only()));
        Weight::placed(host, gpu)
    }

    /// Device that the parameters lie on.
    pub fn device(&self) -> &Device {
        &self.store.device
    }

    fn path(&self, name: &str) -> String {
        self.pp(name).prefix
    }

    /// Whether the files hold this name; always true for new parameters.
    pub fn contains(&self, name: &str) -> bool {
        let name = self.path(name);
        match &self.store.source {
            ParamSource::Files(f) => f.get(&name).is_ok(),
            ParamSource::Other(source) => source.contains(&name),
            ParamSource::Tensors(t) => t.contains_key(&name),
            ParamSource::New(_) => true,
            ParamSource::Shapes(probe) => probe.known.contains_key(&name),
        }
    }

    /// The shape that the file gives a tensor; `None` for new parameters and for names that it
    /// does not hold.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let name = self.path(name);
        match &self.store.source {
            ParamSource::Files(f) => f.get(&name).ok().map(|t| t.shape().to_vec()),
            ParamSource::Other(source) => source.shape(&name),
            ParamSource::Tensors(t) => t.get(&name).map(|t| t.dims().to_vec()),
            ParamSource::New(_) => None,
            ParamSource::Shapes(probe) => probe.known.get(&name).cloned(),
        }
    }

    fn get(&self, file_shape: &[usize], name: &str, init: Init, layout: Layout) -> Result<Tensor> {
        let name = self.path(name);
        let store = &self.store;
        let missing = || {
            candle_core::Error::Msg(format!("parameter {name} is missing from the weights file"))
        };
        let raw = match &store.source {
            ParamSource::Files(f) => f.load(&name, &store.device).map_err(|_| missing())?,
            ParamSource::Other(source) if !source.contains(&name) => return Err(missing()),
            ParamSource::Other(source) => source.tensor(&name, &store.device)?,
            ParamSource::Tensors(t) => {
                t.get(&name).ok_or_else(missing)?.to_device(&store.device)?
            }
            ParamSource::Shapes(probe) => {
                let zero = Tensor::zeros((), DType::F32, &store.device)?;
                let mut asked = probe
                    .asked
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                asked.insert(name, file_shape.to_vec());
                // One number seen everywhere, whatever the shape.
                return zero.broadcast_as(layout.shape(file_shape));
            }
            ParamSource::New(rng) => match init {
                Init::Zeros => Tensor::zeros(file_shape, DType::F32, &store.device)?,
                Init::Ones => Tensor::ones(file_shape, DType::F32, &store.device)?,
                Init::Normal(std) => {
                    let mut rng = rng
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    (rng.tensor(file_shape, &store.device)? * std)?
                }
            },
        };
        if raw.dims() != file_shape {
            candle_core::bail!(
                "parameter {name} has shape {:?} in the weights file where the configuration says {file_shape:?}",
                raw.dims()
            );
        }
        let dtype = match layout {
            Layout::AsFile => DType::F32,
            Layout::Rows | Layout::Transposed | Layout::Hwio => store.held,
        };
        let t = layout.read(raw.to_dtype(dtype)?)?;
        if !store.trainable {
            return Ok(t);
        }
        let var = Var::from_tensor(&t)?;
        let t = var.as_tensor().clone();
        let mut vars = store
            .vars
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        vars.insert(name, (var, layout));
        Ok(t)
    }

    /// A parameter used as it lies in the file.
    pub fn tensor(&self, shape: &[usize], name: &str, init: Init) -> Result<Tensor> {
        self.get(shape, name, init, Layout::AsFile)
    }

    /// A linear layer, `weight [out,inp]` and perhaps `bias [out]` in the file.
    pub fn linear(&self, inp: usize, out: usize, bias: bool) -> Result<Linear> {
        self.linear_init(
            inp,
            out,
            bias,
            Init::Normal((1.0 / (3.0 * inp as f64)).sqrt()),
        )
    }

    /// A linear layer whose weight begins as `init`.
    pub fn linear_init(&self, inp: usize, out: usize, bias: bool, init: Init) -> Result<Linear> {
        let weight = self.weight(&[out, inp], "weight", init, Layout::Transposed)?;
        let bias = match bias {
            true => Some(self.weight(&[out], "bias", Init::Zeros, Layout::AsFile)?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    /// A linear layer whose tensors have other names than `weight` and `bias`, as the packed
    /// projections of PyTorch's attention have.
    pub fn linear_named(
        &self,
        inp: usize,
        out: usize,
        (weight, bias): (&str, &str),
        init: Init,
    ) -> Result<Linear> {
        let weight = self.weight(&[out, inp], weight, init, Layout::Transposed)?;
        let bias = Some(self.weight(&[out], bias, Init::Zeros, Layout::AsFile)?);
        Ok(Linear { weight, bias })
    }

    /// A convolution with a bias, `weight [cout,cin,kernel,kernel]` in the file.
    pub fn conv2d(&self, cin: usize, cout: usize, kernel: usize, o: ConvOptions) -> Result<Conv2d> {
        let fan = (cin * kernel * kernel) as f64;
        self.conv2d_init(
            cin,
            cout,
            kernel,
            o,
            Init::Normal((1.0 / (3.0 * fan)).sqrt()),
        )
    }

    /// A convolution whose weight begins as `init`.
    pub fn conv2d_init(
        &self,
        cin: usize,
        cout: usize,
        kernel: usize,
        o: ConvOptions,
        init: Init,
    ) -> Result<Conv2d> {
        let shape = [cout, cin, kernel, kernel];
        Ok(Conv2d {
            weight: self.weight(&shape, "weight", init, Layout::Hwio)?,
            bias: Some(self.weight(&[cout], "bias", Init::Zeros, Layout::AsFile)?),
            options: o,
        })
    }

    /// Group norm, `weight` and `bias` `[channels]`; fails where `groups` does not divide
    /// `channels`.
    pub fn group_norm(&self, groups: usize, channels: usize, eps: f64) -> Result<GroupNorm> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            candle_core::bail!(
                "{}: {channels} channels can't be split into {groups} norm groups",
                self.prefix
            );
        }
        let gamma = self.weight(&[channels], "weight", Init::Ones, Layout::AsFile)?;
        let beta = self.weight(&[channels], "bias", Init::Zeros, Layout::AsFile)?;
        Ok(GroupNorm {
            gamma,
            beta,
            groups,
            eps,
        })
    }

    /// Layer norm, `weight` and `bias` `[dim]`.
    pub fn layer_norm(&self, dim: usize, eps: f64) -> Result<LayerNorm> {
        let gamma = self.weight(&[dim], "weight", Init::Ones, Layout::AsFile)?;
        let beta = self.weight(&[dim], "bias", Init::Zeros, Layout::AsFile)?;
        Ok(LayerNorm { gamma, beta, eps })
    }

    /// RMS norm, `weight [dim]`.
    pub fn rms_norm(&self, dim: usize, eps: f64) -> Result<RmsNorm> {
        let gamma = self.tensor(&[dim], "weight", Init::Ones)?;
        Ok(RmsNorm { gamma, eps })
    }

    /// An embedding table, `weight [rows,dim]`.
    pub fn embedding(&self, rows: usize, dim: usize) -> Result<Embedding> {
        let table = self.get(&[rows, dim], "weight", Init::Normal(0.02), Layout::Rows)?;
        Ok(Embedding { table })
    }

    /// Every trainable parameter below this store, by name.
    pub fn vars(&self) -> Vec<(String, Var)> {
        let vars = self
            .store
            .vars
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        vars.iter()
            .map(|(n, (v, _))| (n.clone(), v.clone()))
            .collect()
    }

    /// Sets those trainable parameters below this scope that `file` holds under the same name, in
    /// the same shape, for a fraction of the channels or as the first rows of a table; returns how many of how many. A network
    /// can so be made larger without unlearning: channels begin as copies (with convolutions,
    /// linear layers and norms of as many groups nothing changes), and a residual block
    /// (`resnets.N`) that `file` lacks as the identity, its second convolution being zero.
    pub fn adopt(&self, file: &Path) -> std::result::Result<(usize, usize), ParamError> {
        check_header(file)?;
        let saved = candle_core::safetensors::load(file, &Device::Cpu)?;
        let vars = self
            .store
            .vars
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let scope = match self.prefix.as_str() {
            "" => String::new(),
            p => format!("{p}."),
        };
        let (mut adopted, mut all) = (0, 0);
        for (name, (var, layout)) in vars.iter() {
            let Some(name) = name.strip_prefix(&scope) else {
                continue;
            };
            all += 1;
            let Some(t) = saved.get(name) else {
                let block = name.rsplit_once(".conv2.").map(|(block, _)| block);
                if block.is_some_and(|b| !saved.contains_key(&format!("{b}.conv1.weight"))) {
                    var.set(&var.zeros_like()?)?;
                }
                continue;
            };
            let shape = layout.write(var.as_tensor())?.dims().to_vec();
            if *layout == Layout::Rows && t.dims().get(1) == shape.get(1) && t.dim(0)? < shape[0] {
                let (rows, more) = (t.dim(0)?, shape[0] - t.dim(0)?);
                let new = var.narrow(0, rows, more)?;
                let old = t.to_dtype(DType::F32)?.to_device(var.device())?;
                var.set(&Tensor::cat(&[&old, &new], 0)?)?;
                adopted += 1;
                continue;
            }
            if let Some(t) = widened(&t.to_dtype(DType::F32)?, &shape, all as u64)? {
                var.set(&layout.read(t)?.to_device(var.device())?)?;
                adopted += 1;
            }
        }
        Ok((adopted, all))
    }

    /// The trainable parameters below this scope in the file layout, named from the scope on;
    /// `values` (same order and memory layout as [`Params::vars`]) stand in for the variables'
    /// own, as for an exponential moving average.
    pub fn to_file_layout(&self, values: Option<&[Tensor]>) -> Result<HashMap<String, Tensor>> {
        let vars = self
            .store
            .vars
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let scope = match self.prefix.as_str() {
            "" => String::new(),
            p => format!("{p}."),
        };
        vars.iter()
            .enumerate()
            .filter_map(|(i, (name, entry))| name.strip_prefix(&scope).map(|n| (i, n, entry)))
            .map(|(i, name, (var, layout))| {
                let t = values.map_or(var.as_tensor(), |v| &v[i]);
                Ok((name.to_owned(), layout.write(t)?))
            })
            .collect()
    }
}

/// Reads a safetensors header and compares it with the file's length.
fn check_header(path: &Path) -> std::result::Result<(), ParamError> {
    let unreadable = |why: Cause| ParamError::Unreadable {
        path: path.to_owned(),
        why,
    };
    let file = crate::files::open_file(path).map_err(|e| unreadable(e.into()))?;
    // SAFETY: as for the mapping in `from_safetensors`.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| unreadable(e.into()))?;
    safetensors::SafeTensors::deserialize(&map).map_err(|e| unreadable(e.into()))?;
    Ok(())
}
