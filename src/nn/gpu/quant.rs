//! Products of quantised matrices, which stay packed in the GPU's memory.
//!
//! All formats of ggml become one of two layouts that hold the same numbers: four bits with a scale
//! and a minimum for each 32 weights, or eight bits with both for each 16. What is not quantised is
//! held in f16, or in f32 where f16 can't hold it.

use super::device::{Gpu, Run};
use super::epilogue::{Epilogue, Gate, functions};
use super::pool::Buffer;
use super::product::{MOST_GROUPS, Right, product};
use super::tensor::GpuTensor;
use super::tune::{self, Kind};
use super::work::FLOPS_OF_BYTE;
use crate::nn::Result;
use crate::nn::quant::{QuantMatrix, packed};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// Rows of a workgroup; the first is taken where nothing is measured.
const ROWS: [usize; 3] = [4, 8, 16];
/// Tokens of a workgroup.
const TOKENS: usize = 4;
/// Tokens that are multiplied with a few rows at a time; more are with tiles of many.
const MOST_BY_ROWS: usize = 8;

/// A quantised matrix with its bias, if it has one, on a GPU.
#[derive(Clone)]
pub struct GpuQuantMatrix {
    gpu: Gpu,
    numbers: Arc<Buffer>,
    scales: Arc<Buffer>,
    bias: Option<GpuTensor>,
    bits: u32,
    rows: usize,
    columns: usize,
    bytes: u64,
}

impl GpuQuantMatrix {
    /// Copies it there.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory, or rows that are no whole number of eights.
    pub fn upload(gpu: &Gpu, matrix: &QuantMatrix, bias: Option<&[f32]>) -> Result<Self> {
        Self::upload_all(gpu, &[matrix], bias)
    }

    /// Matrices of one width and type, one below the other.
    pub(super) fn upload_all(
        gpu: &Gpu,
        matrices: &[&QuantMatrix],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let columns = matrices.first().map_or(0, |matrix| matrix.cols());
        let rows = matrices.iter().map(|matrix| matrix.rows()).sum();
        if !Self::takes(columns) {
            candle_core::bail!("a row of {columns} weights is no whole number of eights");
        }
        let (mut numbers, mut scales, mut bits) = (Vec::new(), Vec::<u8>::new(), None);
        for matrix in matrices {
            let packed = packed(matrix);
            // Floats that f16 can't hold in one of them are held in f32.
            if *bits.get_or_insert(packed.bits) != packed.bits {
                candle_core::bail!("matrices of unlike numbers can't be held as one");
            }
            numbers.extend(packed.numbers);
            scales.extend(packed.scales.iter().flat_map(|v| v.to_le_bytes()));
        }
        if scales.is_empty() {
            scales = vec![0; 8];
        }
        let put = |bytes: &[u8]| -> Result<Arc<Buffer>> {
            let buffer = gpu.buffer(bytes.len() as u64, true)?;
            gpu.write(&buffer, bytes)?;
            Ok(Arc::new(buffer))
        };
        let bias = bias.map(|bias| GpuTensor::upload(gpu, &Tensor::new(bias, &Device::Cpu)?));
        Ok(Self {
            gpu: gpu.clone(),
            bytes: (numbers.len() + scales.len()) as u64,
            numbers: put(&numbers)?,
            scales: put(&scales)?,
            bias: bias.transpose()?,
            bits: bits.unwrap_or(32),
            rows,
            columns,
        })
    }

    /// Whether rows of so many weights can be read.
    pub fn takes(columns: usize) -> bool {
        columns.is_multiple_of(8)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Numbers, scales and biases.
    pub(super) fn buffers(&self) -> (&Buffer, &Buffer, Option<&Buffer>) {
        let bias = self.bias.as_ref().map(GpuTensor::buffer);
        (&self.numbers, &self.scales, bias)
    }

    /// `x [.., columns]` -> `[.., rows]`.
    ///
    /// # Errors
    /// Another width, or a GPU that fails.
    pub fn multiply(&self, x: &GpuTensor) -> Result<GpuTensor> {
        self.product(x, Epilogue::Nothing)
    }

    /// The same, and `more`, `[.., rows]`.
    ///
    /// # Errors
    /// Another shape, or a GPU that fails.
    pub fn multiply_plus(&self, x: &GpuTensor, more: &GpuTensor) -> Result<GpuTensor> {
        self.product(x, Epilogue::Plus(more))
    }

    /// The same with a gate, `[.., rows]`.
    ///
    /// # Errors
    /// Another shape, or a GPU that fails.
    pub fn multiply_gated(&self, x: &GpuTensor, gate: &GpuTensor, how: Gate) -> Result<GpuTensor> {
        self.product(x, Epilogue::Gated(gate, how))
    }

    fn product(&self, x: &GpuTensor, epilogue: Epilogue) -> Result<GpuTensor> {
        let mut dims = x.dims().to_vec();
        match dims.last_mut() {
            Some(width) if *width == self.columns => *width = self.rows,
            _ => candle_core::bail!(
                "a matrix of {} columns can't read {:?}",
                self.columns,
                x.dims()
            ),
        }
        let tokens = x.count() / self.columns;
        if tokens > MOST_BY_ROWS {
            let right = Right::Packed {
                numbers: &self.numbers,
                scales: &self.scales,
                bits: self.bits,
                bytes: self.bytes,
            };
            let bias = self.bias.as_ref();
            return product(x, &right, (bias, epilogue), dims, (None, None));
        }
        let (more, _) = epilogue.reads(&dims)?;
        let y = GpuTensor::new(&self.gpu, dims)?;
        if y.count() == 0 {
            return Ok(y);
        }
        let passes = tokens.div_ceil(TOKENS);
        let bias = self.bias.as_ref().map_or(&*self.scales, GpuTensor::buffer);
        let mut reads = vec![&*self.numbers, &*self.scales, x.buffer(), bias];
        reads.extend(more.map(GpuTensor::buffer));
        let bytes = self.bytes + x.bytes() + y.bytes() + more.map_or(0, GpuTensor::bytes);
        let flops = 2 * (self.rows * self.columns * tokens) as u64;
        let run = |rows: usize| -> Result<()> {
            let groups = self.rows.div_ceil(rows);
            let across = groups.min(MOST_GROUPS);
            self.gpu.run(&Run {
                kernel: &format!(
                    "quantised product of {} bits{} by {rows} rows",
                    self.bits,
                    epilogue.name()
                ),
                source: &|| {
                    let binding = "@group(0) @binding(5) var<storage, read> more: array<f32>;";
                    let (binding, y) = match more {
                        Some(_) => (binding, "6"),
                        None => ("", "5"),
                    };
                    include_str!("kernels/quant.wgsl")
                        .replace("LOADER", &loader(self.bits))
                        .replace("MORE_BINDING", binding)
                        .replace("Y_BINDING", y)
                        .replace("FUNCTIONS", &functions("f32"))
                        .replace("AFTERWARDS", &epilogue.value("v", "more[at]"))
                        .replace("ROWS_VALUE", &rows.to_string())
                },
                sizes: &[
                    self.rows as u32,
                    self.columns as u32,
                    tokens as u32,
                    u32::from(self.bias.is_some()),
                    across as u32,
                    0,
                    0,
                    0,
                ],
                steps: 1,
                reads: &reads,
                writes: y.buffer(),
                // Passes over the same rows follow each other, so that these are read once.
                groups: [passes as u32, across as u32, groups.div_ceil(across) as u32],
                flops,
                bytes,
                moved: bytes,
            })?;
            Ok(())
        };
        let kind = Kind {
            name: match self.bits {
                4 => "quantised products of 4 bits",
                8 => "quantised products of 8 bits",
                16 => "quantised products of 16 bits",
                _ => "quantised products of 32 bits",
            },
            all: &ROWS,
            alike: true,
            fits: &|rows| 16 * rows <= self.gpu.ways().invocations as usize,
            named: &|rows| format!("{rows} rows"),
        };
        let cost = (flops + FLOPS_OF_BYTE * bytes) as usize;
        run(tune::quickest(&self.gpu, &kind, (cost, 1), &|rows, _| {
            run(rows)
        })?)?;
        Ok(y)
    }
}

/// In WGSL: eight weights of a quantised matrix as numbers.
pub(super) fn loader(bits: u32) -> String {
    let eight = match bits {
        4 => {
            "fn eight(octet: u32) -> Eight {
                let all = numbers[octet];
                let scale = scales[octet / 4u];
                let low = vec4<u32>(all, all >> 4u, all >> 8u, all >> 12u) & vec4<u32>(15u);
                let high = vec4<u32>(all >> 16u, all >> 20u, all >> 24u, all >> 28u) & vec4<u32>(15u);
                return Eight(
                    vec4<f32>(low) * scale.x + vec4<f32>(scale.y),
                    vec4<f32>(high) * scale.x + vec4<f32>(scale.y),
                );
            }"
        }
        8 => {
            "fn bytes(all: u32) -> vec4<f32> {
                let each = vec4<i32>(vec4<u32>(all << 24u, all << 16u, all << 8u, all));
                return vec4<f32>(each >> vec4<u32>(24u));
            }
            fn eight(octet: u32) -> Eight {
                let scale = scales[octet / 2u];
                return Eight(
                    bytes(numbers[octet * 2u]) * scale.x + vec4<f32>(scale.y),
                    bytes(numbers[octet * 2u + 1u]) * scale.x + vec4<f32>(scale.y),
                );
            }"
        }
        16 => {
            "fn eight(octet: u32) -> Eight {
                let at = octet * 4u;
                return Eight(
                    vec4<f32>(unpack2x16float(numbers[at]), unpack2x16float(numbers[at + 1u])),
                    vec4<f32>(unpack2x16float(numbers[at + 2u]), unpack2x16float(numbers[at + 3u])),
                );
            }"
        }
        _ => {
            "fn four(at: u32) -> vec4<f32> {
                return bitcast<vec4<f32>>(
                    vec4<u32>(numbers[at], numbers[at + 1u], numbers[at + 2u], numbers[at + 3u]));
            }
            fn eight(octet: u32) -> Eight { return Eight(four(octet * 8u), four(octet * 8u + 4u)); }"
        }
    };
    format!("struct Eight {{ a: vec4<f32>, b: vec4<f32> }}\n{eight}")
}
