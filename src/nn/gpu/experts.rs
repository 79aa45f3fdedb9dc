//! Mixtures of experts: each token goes through the best of them, which are chosen on the GPU.

use super::device::{Gpu, Run};
use super::elementwise::Elementwise;
use super::product::MOST_GROUPS;
use super::quant::{GpuQuantMatrix, loader};
use super::tensor::GpuTensor;
use crate::nn::Result;
use crate::nn::quant::QuantMatrix;

/// Rows of a workgroup.
const ROWS: usize = 4;
/// Tokens of a workgroup that chooses.
const CHOOSERS: usize = 64;

/// Which experts each token goes through, and how much each of them counts.
pub struct ChosenExperts {
    /// Numbers, `[tokens, used]`, and behind them the bits of the shares.
    chosen: GpuTensor,
    tokens: usize,
    used: usize,
}

impl ChosenExperts {
    /// The `used` best by the router's `logits [tokens, experts]`.
    ///
    /// # Errors
    /// More than there are, or a GPU that fails; so for all that follow.
    pub fn best(logits: &GpuTensor, used: usize) -> Result<Self> {
        let experts = logits.dims().last().copied().unwrap_or(0);
        if used == 0 || used > experts {
            candle_core::bail!("{used} of {experts} experts");
        }
        let tokens = logits.count() / experts;
        let chosen = GpuTensor::new(logits.gpu(), vec![2, tokens, used])?;
        logits.gpu().run(&Run {
            kernel: "choice of experts",
            source: &|| include_str!("kernels/choose_experts.wgsl").to_owned(),
            sizes: &[tokens as u32, experts as u32, used as u32, 0],
            steps: 1,
            reads: &[logits.buffer()],
            writes: chosen.buffer(),
            groups: [tokens.div_ceil(CHOOSERS) as u32, 1, 1],
            flops: (tokens * experts * used) as u64,
            bytes: logits.bytes() + chosen.bytes(),
            moved: logits.bytes() + chosen.bytes(),
        })?;
        Ok(Self {
            chosen,
            tokens,
            used,
        })
    }

    /// What the experts made, `[tokens * used, C]`, added up by their shares: `[tokens, C]`.
    pub fn joined(&self, made: &GpuTensor) -> Result<GpuTensor> {
        let width = made.dims().last().copied().unwrap_or(0);
        if made.count() != self.tokens * self.used * width {
            candle_core::bail!("{:?} of {} experts each", made.dims(), self.used);
        }
        let shares = self.tokens * self.used;
        let terms: Vec<String> = (0..self.used)
            .map(|slot| {
                let row = format!("i / s.row * {0}u + {slot}u", self.used);
                format!("bitcast<f32>(z[s.each + {row}]) * x[({row}) * s.row + i % s.row]")
            })
            .collect();
        Elementwise {
            value: &terms.join(" + "),
            dims: vec![self.tokens, width],
            row: width,
            each: shares,
            by: 0.0,
        }
        .of_two(made, &self.chosen, "u32")
    }
}

/// One matrix of each expert, all of one shape and type.
#[derive(Clone)]
pub struct GpuExperts {
    all: GpuQuantMatrix,
    rows: usize,
}

impl GpuExperts {
    /// Copies them there, with their biases where they have some.
    pub fn upload(gpu: &Gpu, experts: &[(&QuantMatrix, Option<&[f32]>)]) -> Result<Self> {
        let Some((first, _)) = experts.first() else {
            candle_core::bail!("no experts");
        };
        let alike = |(matrix, _): &(&QuantMatrix, _)| {
            let of = |m: &QuantMatrix| (m.rows(), m.cols(), m.kind());
            of(matrix) == of(first)
        };
        if !experts.iter().all(alike) {
            candle_core::bail!("experts of unlike matrices");
        }
        let biases: Option<Vec<&[f32]>> = experts.iter().map(|(_, bias)| *bias).collect();
        let biases = biases.map(|all| all.concat());
        let matrices: Vec<&QuantMatrix> = experts.iter().map(|(matrix, _)| *matrix).collect();
        Ok(Self {
            all: GpuQuantMatrix::upload_all(gpu, &matrices, biases.as_deref())?,
            rows: first.rows(),
        })
    }

    /// `x [tokens, columns]`, or one row for each expert chosen, `[tokens * used, columns]`, times
    /// the matrices of the experts chosen: `[tokens * used, rows]`.
    pub fn multiply(&self, x: &GpuTensor, chosen: &ChosenExperts) -> Result<GpuTensor> {
        let columns = self.all.columns();
        let products = chosen.tokens * chosen.used;
        let tokens = x.count() / columns;
        let share = match tokens {
            n if n == products => 1,
            n if n == chosen.tokens => chosen.used,
            _ => candle_core::bail!("{:?} for {products} products with experts", x.dims()),
        };
        let gpu = x.gpu();
        let y = GpuTensor::new(gpu, vec![products, self.rows])?;
        let groups = self.rows.div_ceil(ROWS);
        let across = groups.min(MOST_GROUPS);
        let (numbers, scales, bias) = self.all.buffers();
        let sizes = [
            self.rows,
            columns,
            products,
            usize::from(bias.is_some()),
            across,
            share,
            0,
            0,
        ];
        let experts = self.all.rows() / self.rows;
        // At least each that was chosen, at most all of them.
        let read = self.all.bytes() * products.min(experts) as u64 / experts as u64;
        gpu.run(&Run {
            kernel: &format!("products of experts of {} bits", self.all.bits()),
            source: &|| {
                let loader = loader(self.all.bits());
                include_str!("kernels/experts.wgsl").replace("LOADER", &loader)
            },
            sizes: &sizes.map(|size| size as u32),
            steps: 1,
            reads: &[
                numbers,
                scales,
                x.buffer(),
                chosen.chosen.buffer(),
                bias.unwrap_or(scales),
            ],
            writes: y.buffer(),
            // Products with the same rows follow each other, so that an expert that several tokens
            // go through is read once.
            groups: [products, across, groups.div_ceil(across)].map(|groups| groups as u32),
            flops: 2 * (self.rows * columns * products) as u64,
            bytes: read + x.bytes() + y.bytes(),
            moved: read + x.bytes() + y.bytes(),
        })?;
        Ok(y)
    }
}
