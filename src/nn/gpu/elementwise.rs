//! What is done number by number.

use super::device::{Gpu, Run};
use super::epilogue::{Gate, functions};
use super::product::MOST_GROUPS;
use super::tensor::GpuTensor;
use super::tune::{self, Kind};
use super::work::FLOPS_OF_BYTE;
use crate::nn::Result;

/// Invocations of a workgroup; the first is taken where nothing is measured.
const GROUPS: [usize; 3] = [256, 128, 64];
/// Names what is measured.
const KIND: &str = "element-wise kernels";

/// Kernels that make one number an invocation: what follows the kernel's name, the invocations of a
/// workgroup, and for `count` numbers the workgroups, along two axes where one is too short.
pub(super) struct Spread {
    pub name: String,
    threads: usize,
    pub groups: [u32; 3],
}

impl Spread {
    /// In workgroups as were measured to be the quickest.
    pub(super) fn of(gpu: &Gpu, count: usize) -> Self {
        let chosen = gpu.chosen(KIND).unwrap_or_else(|| {
            let kept = gpu.variant(KIND);
            let of = |group: &usize| kept.as_ref() == Some(&group.to_string());
            GROUPS.iter().position(of).unwrap_or(0)
        });
        Self::by(GROUPS[chosen], count)
    }

    fn by(threads: usize, count: usize) -> Self {
        let groups = count.div_ceil(threads);
        let across = groups.clamp(1, MOST_GROUPS);
        Self {
            name: format!(" for {threads}"),
            threads,
            groups: [across as u32, groups.div_ceil(across) as u32, 1],
        }
    }

    /// A kernel in WGSL for these workgroups.
    pub(super) fn source(&self, kernel: &str) -> String {
        kernel.replace("THREADS_VALUE", &self.threads.to_string())
    }
}

/// A kernel that makes each number of a new tensor from those at some place of one or two others.
pub(super) struct Elementwise<'a> {
    /// In WGSL: the value at `i`, from `x`, `z` and the sizes `s`.
    pub value: &'a str,
    /// Shape of the new tensor.
    pub dims: Vec<usize>,
    pub row: usize,
    pub each: usize,
    pub by: f32,
}

impl Elementwise<'_> {
    pub(super) fn of(self, x: &GpuTensor) -> Result<GpuTensor> {
        let bindings = "@group(0) @binding(2) var<storage, read_write> y: array<f32>;";
        self.run(&[x], bindings)
    }

    pub(super) fn of_two(self, x: &GpuTensor, z: &GpuTensor, item: &str) -> Result<GpuTensor> {
        let bindings = format!(
            "@group(0) @binding(2) var<storage, read> z: array<{item}>;
             @group(0) @binding(3) var<storage, read_write> y: array<f32>;"
        );
        self.run(&[x, z], &bindings)
    }

    fn run(self, from: &[&GpuTensor], bindings: &str) -> Result<GpuTensor> {
        let gpu = from[0].gpu();
        let y = GpuTensor::new(gpu, self.dims)?;
        if y.count() == 0 {
            return Ok(y);
        }
        let reads: Vec<_> = from.iter().map(|t| t.buffer()).collect();
        let bytes = from.iter().map(|t| t.bytes()).sum::<u64>() + y.bytes();
        let run = |threads: usize| -> Result<()> {
            let spread = Spread::by(threads, y.count());
            gpu.run(&Run {
                kernel: &format!("{}{}", self.value, spread.name),
                source: &|| {
                    spread
                        .source(include_str!("kernels/elementwise.wgsl"))
                        .replace("BINDINGS", bindings)
                        .replace("FUNCTIONS", &functions("f32"))
                        .replace("WRITTEN", self.value)
                },
                sizes: &[
                    y.count() as u32,
                    self.row as u32,
                    self.each as u32,
                    self.by.to_bits(),
                ],
                steps: 1,
                reads: &reads,
                writes: y.buffer(),
                groups: spread.groups,
                flops: 4 * y.count() as u64,
                bytes,
                moved: bytes,
            })?;
            Ok(())
        };
        let kind = Kind {
            name: KIND,
            all: &GROUPS,
            alike: true,
            fits: &|group| group <= gpu.ways().invocations as usize,
            named: &|group: usize| group.to_string(),
        };
        let cost = (FLOPS_OF_BYTE * bytes) as usize;
        run(tune::quickest(gpu, &kind, (cost, 1), &|group, _| {
            run(group)
        })?)?;
        Ok(y)
    }
}

/// A function of each number: `value` in WGSL, from `x[i]` and `s.by`.
pub(super) fn each(x: &GpuTensor, value: &str, by: f64) -> Result<GpuTensor> {
    Elementwise {
        value,
        dims: x.dims().to_vec(),
        row: 1,
        each: 1,
        by: by as f32,
    }
    .of(x)
}

/// `[.., 2C] -> [.., C]`: the first half times GELU of the second.
pub(super) fn geglu(x: &GpuTensor) -> Result<GpuTensor> {
    let mut dims = x.dims().to_vec();
    let Some(last) = dims.last_mut().filter(|last| last.is_multiple_of(2)) else {
        candle_core::bail!("{:?} has not two halves", x.dims());
    };
    *last /= 2;
    let row = *last;
    let value = "x[i / s.row * 2u * s.row + i % s.row] * gelu(x[(i / s.row * 2u + 1u) * s.row + i % s.row])";
    let by = 0.0;
    Elementwise {
        value,
        dims,
        row,
        each: 1,
        by,
    }
    .of(x)
}

/// `value` in WGSL at each place of `x`, with `z` seen at `at`: rows of `row` numbers, the next
/// one after `each` numbers of `x`.
fn with(x: &GpuTensor, z: &GpuTensor, sign: &str, row: usize, each: usize) -> Result<GpuTensor> {
    let value = format!("x[i] {sign} z[i / s.each * s.row + i % s.row]");
    Elementwise {
        value: &value,
        dims: x.dims().to_vec(),
        row,
        each,
        by: 0.0,
    }
    .of_two(x, z, "f32")
}

impl GpuTensor {
    /// This as a gate for `up`, of the same shape.
    ///
    /// # Errors
    /// Another shape, or a GPU that fails.
    pub fn gated(&self, up: &Self, how: Gate) -> Result<Self> {
        if self.dims() != up.dims() {
            candle_core::bail!("{:?} times {:?}", self.dims(), up.dims());
        }
        Elementwise {
            value: &how.value("x[i]", "z[i]"),
            dims: self.dims().to_vec(),
            row: 1,
            each: 1,
            by: 0.0,
        }
        .of_two(self, up, "f32")
    }
}

/// Adds or multiplies (`sign`) two tensors of one shape, or one whose shape is the end of the
/// other's but for leading ones.
pub(super) fn combine(x: &GpuTensor, z: &GpuTensor, sign: &str) -> Result<GpuTensor> {
    let shape = z.dims();
    let shape = &shape[shape.iter().take_while(|dim| **dim == 1).count()..];
    if !x.dims().ends_with(shape) {
        candle_core::bail!("{:?} can't be joined with {:?}", x.dims(), z.dims());
    }
    with(x, z, sign, z.count().max(1), x.count().max(1))
}

/// Adds `t [B,C]` to every place of `x [B,H,W,C]`.
pub(super) fn add_channels(x: &GpuTensor, t: &GpuTensor) -> Result<GpuTensor> {
    let (Some(&batch), Some(&channels)) = (x.dims().first(), x.dims().last()) else {
        candle_core::bail!("channels of {:?}", x.dims());
    };
    if t.dims() != [batch, channels] {
        candle_core::bail!(
            "{:?} can't be added to the channels of {:?}",
            t.dims(),
            x.dims()
        );
    }
    with(
        x,
        t,
        "+",
        channels.max(1),
        (x.count() / batch.max(1)).max(1),
    )
}
