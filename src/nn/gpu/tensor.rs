//! Tensors on a GPU.

use super::device::Gpu;
use super::error::GpuError;
use super::pool::Buffer;
use crate::nn::Result;
use candle_core::{DType, Device, Tensor};
use half::slice::HalfFloatSliceExt;
use std::sync::Arc;

/// A tensor in a GPU's memory, contiguous, in f32 or (weights alone) stored in f16. Copies share
/// the memory; nothing is written into it once it is made, but for room of a [`super::GpuCache`].
#[derive(Clone)]
pub struct GpuTensor {
    gpu: Gpu,
    buffer: Arc<Buffer>,
    dims: Vec<usize>,
    half: bool,
}

impl std::fmt::Debug for GpuTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuTensor{:?}", self.dims)
    }
}

impl GpuTensor {
    /// Takes a copy of a tensor that changes no more.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn upload(gpu: &Gpu, t: &Tensor) -> Result<Self> {
        let values = host_values(t)?;
        Self::place(gpu, t.dims(), f32_bytes(&values), false, false)
    }

    /// The same for weights: what is held in half the width stays so, unless f16 can't hold it.
    ///
    /// # Errors
    /// As [`GpuTensor::upload`].
    pub fn upload_weight(gpu: &Gpu, t: &Tensor) -> Result<Self> {
        if gpu.counts_only() {
            let halved = matches!(t.dtype(), DType::F16 | DType::BF16);
            let half = halved || (gpu.ways().halved && t.dims().len() > 1);
            let bytes = t.elem_count() as u64 * if half { 2 } else { 4 };
            return Ok(Self {
                buffer: Arc::new(gpu.buffer(bytes, true)?),
                gpu: gpu.clone(),
                dims: t.dims().to_vec(),
                half,
            });
        }
        let halved = match t.dtype() {
            DType::F16 | DType::BF16 => in_half(t)?,
            _ => None,
        };
        match halved {
            Some(mut values) => {
                if values.len() % 2 == 1 {
                    values.push(half::f16::ZERO);
                }
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                Self::place(gpu, t.dims(), bytes, true, true)
            }
            None => {
                let values = host_values(t)?;
                Self::place(gpu, t.dims(), f32_bytes(&values), false, true)
            }
        }
    }

    fn place(gpu: &Gpu, dims: &[usize], bytes: Vec<u8>, half: bool, kept: bool) -> Result<Self> {
        let buffer = gpu.buffer(bytes.len() as u64, kept)?;
        gpu.write(&buffer, &bytes)?;
        Ok(Self {
            gpu: gpu.clone(),
            buffer: Arc::new(buffer),
            dims: dims.to_vec(),
            half,
        })
    }

    /// A new tensor in f32 that a kernel is to fill.
    pub(super) fn new(gpu: &Gpu, dims: Vec<usize>) -> Result<Self> {
        Self::with_room(gpu, dims, 0)
    }

    /// One with room for so many numbers behind it, which are no part of it.
    pub(super) fn with_room(gpu: &Gpu, dims: Vec<usize>, room: usize) -> Result<Self> {
        let count = dims.iter().product::<usize>() + room;
        // Kernels count in u32.
        if count > u32::MAX as usize {
            let wanted = super::error::readable(4 * count as u64);
            let most = super::error::readable(u64::from(u32::MAX) * 4);
            let name = gpu.info().name.clone();
            return Err(GpuError::TooLarge { name, most, wanted }.into());
        }
        Ok(Self {
            buffer: Arc::new(gpu.buffer(4 * count as u64, false)?),
            gpu: gpu.clone(),
            dims,
            half: false,
        })
    }

    /// Copies it back, in f32.
    ///
    /// # Errors
    /// A GPU that is lost.
    pub fn download(&self) -> Result<Tensor> {
        if self.half {
            candle_core::bail!("weights in f16 are not read back from a GPU");
        }
        let values = self.words()?.into_iter().map(f32::from_bits).collect();
        Tensor::from_vec(values, self.dims.as_slice(), &Device::Cpu)
    }

    /// Copies its numbers back as the words that they are.
    pub(super) fn words(&self) -> Result<Vec<u32>> {
        let bytes = match self.count() {
            0 => Vec::new(),
            count => self.gpu.read(&self.buffer, 4 * count as u64)?,
        };
        let words = bytes.chunks_exact(4);
        Ok(words
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// Sizes of the axes.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Where it lies.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn count(&self) -> usize {
        self.dims.iter().product()
    }

    pub(super) fn is_half(&self) -> bool {
        self.half
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Bytes that its numbers take.
    pub(super) fn bytes(&self) -> u64 {
        self.count() as u64 * if self.half { 2 } else { 4 }
    }

    /// The first rows of `[1,N,C]`, `[1,rows,C]`, in the same memory.
    pub(super) fn first_rows(&self, rows: usize) -> Result<Self> {
        match *self.dims() {
            [1, n, width] if rows <= n => Ok(Self {
                dims: vec![1, rows, width],
                ..self.clone()
            }),
            _ => candle_core::bail!("{rows} rows of {:?}", self.dims),
        }
    }

    /// The same numbers under another shape.
    ///
    /// # Errors
    /// A shape of another size.
    pub fn reshape(&self, dims: &[usize]) -> Result<Self> {
        if dims.iter().product::<usize>() != self.count() {
            candle_core::bail!("{:?} can't be read as {dims:?}", self.dims);
        }
        Ok(Self {
            dims: dims.to_vec(),
            ..self.clone()
        })
    }
}

/// Numbers in f32 on the processor.
fn host_values(t: &Tensor) -> Result<Vec<f32>> {
    t.to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Numbers in f16; none where one is too large for it. What is too small is rounded.
fn in_half(t: &Tensor) -> Result<Option<Vec<half::f16>>> {
    let flat = t.to_device(&Device::Cpu)?.flatten_all()?;
    if t.dtype() == DType::F16 {
        return Ok(Some(flat.to_vec1()?));
    }
    let wide = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let mut halves = vec![half::f16::ZERO; wide.len()];
    halves.convert_from_f32_slice(&wide);
    Ok(halves.iter().all(|v| v.is_finite()).then_some(halves))
}
