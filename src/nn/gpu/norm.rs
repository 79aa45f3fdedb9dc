//! Group norm and layer norm.

use super::device::Run;
use super::elementwise::{Elementwise, Spread};
use super::product::{MOST_GROUPS, padded};
use super::tensor::GpuTensor;
use super::tune::{self, Kind};
use super::work::FLOPS_OF_BYTE;
use crate::nn::{Activation, Result};

/// Places that one invocation sums up at least.
const LEAST_PLACES: usize = 32;
/// Slices of a picture at most.
const MOST_SLICES: usize = 256;

/// How rows are cut: invocations for a row, and rows of a workgroup. All but those that add up by
/// subgroups do so in the same order.
#[derive(Clone, Copy)]
struct RowCut {
    subgroups: bool,
    lanes: usize,
    rows: usize,
}

const fn cut(subgroups: bool, lanes: usize, rows: usize) -> RowCut {
    RowCut {
        subgroups,
        lanes,
        rows,
    }
}

/// The first that a GPU has is taken where nothing is measured.
const ROW_CUTS: [RowCut; 6] = [
    cut(true, 64, 1),
    cut(false, 64, 1),
    cut(false, 64, 2),
    cut(false, 64, 4),
    cut(false, 128, 1),
    cut(false, 256, 1),
];
/// As many rows as keep a large GPU busy.
const MANY_ROWS: usize = 1024;

/// Normalises each group of channels of `x [B, .., C]` over all places of its sample.
pub(super) fn group_norm(
    x: &GpuTensor,
    gamma: &GpuTensor,
    beta: &GpuTensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<GpuTensor> {
    let (Some(&samples), Some(&channels)) = (x.dims().first(), x.dims().last()) else {
        candle_core::bail!("group norm of {:?}", x.dims());
    };
    let fits = groups > 0 && channels.is_multiple_of(groups);
    if x.dims().len() < 2 || !fits || gamma.dims() != [channels] || beta.dims() != [channels] {
        candle_core::bail!("group norm in {groups} groups of {:?}", x.dims());
    }
    let gpu = x.gpu();
    if x.count() == 0 {
        return Ok(x.clone());
    }
    let places = x.count() / samples / channels;
    let slices = (places / LEAST_PLACES).clamp(1, MOST_SLICES);
    let count = samples * slices * channels;
    let parts = GpuTensor::new(gpu, vec![count, 2])?;
    let spread = Spread::of(gpu, count);
    gpu.run(&Run {
        kernel: &format!("group norm, parts{}", spread.name),
        source: &|| spread.source(include_str!("kernels/group_parts.wgsl")),
        sizes: &[count, places, channels, slices].map(|size| size as u32),
        steps: 1,
        reads: &[x.buffer()],
        writes: parts.buffer(),
        groups: spread.groups,
        flops: 4 * x.count() as u64,
        bytes: x.bytes() + parts.bytes(),
        moved: x.bytes() + parts.bytes(),
    })?;
    let scales = GpuTensor::new(gpu, vec![samples, channels, 2])?;
    let mut sizes = [places, channels, slices, groups]
        .map(|size| size as u32)
        .to_vec();
    sizes.push((eps as f32).to_bits());
    gpu.run(&Run {
        kernel: "group norm, joined",
        source: &|| include_str!("kernels/group_join.wgsl").to_owned(),
        sizes: &padded(sizes),
        steps: 1,
        reads: &[parts.buffer(), gamma.buffer(), beta.buffer()],
        writes: scales.buffer(),
        groups: [groups as u32, samples as u32, 1],
        flops: 8 * count as u64,
        bytes: parts.bytes() + scales.bytes(),
        moved: parts.bytes() + scales.bytes(),
    })?;
    let scaled =
        "(x[i] * z[i / s.each * s.row + i % s.row].x + z[i / s.each * s.row + i % s.row].y)";
    let value = match act {
        Activation::None => scaled.to_owned(),
        Activation::Silu => format!("silu({scaled})"),
    };
    Elementwise {
        value: &value,
        dims: x.dims().to_vec(),
        row: channels,
        each: places * channels,
        by: 0.0,
    }
    .of_two(x, &scales, "vec2<f32>")
}

/// Normalises the last axis.
pub(super) fn layer_norm(
    x: &GpuTensor,
    gamma: &GpuTensor,
    beta: &GpuTensor,
    eps: f64,
) -> Result<GpuTensor> {
    rows(x, gamma, Some(beta), eps)
}

impl GpuTensor {
    /// Divides each `C` numbers in a row by their root mean square and multiplies them by
    /// `gamma [C]`.
    ///
    /// # Errors
    /// Rows that are no whole number of these, or a GPU that fails.
    pub fn rms_norm(&self, gamma: &Self, eps: f64) -> Result<Self> {
        rows(self, gamma, None, eps)
    }
}

fn rows(x: &GpuTensor, gamma: &GpuTensor, beta: Option<&GpuTensor>, eps: f64) -> Result<GpuTensor> {
    let width = gamma.count();
    let last = x.dims().last().copied().unwrap_or(0);
    // A norm of each head is narrower than a row.
    let fits = match beta {
        Some(beta) => last == width && beta.dims() == [width],
        None => width > 0 && last.is_multiple_of(width),
    };
    if !fits {
        candle_core::bail!("a norm of {width} numbers can't read {:?}", x.dims());
    }
    if x.count() == 0 {
        return Ok(x.clone());
    }
    let rows = x.count() / width;
    let y = GpuTensor::new(x.gpu(), x.dims().to_vec())?;
    let mut reads = vec![x.buffer(), gamma.buffer()];
    reads.extend(beta.map(GpuTensor::buffer));
    let bytes = x.bytes() + y.bytes();
    let kind = match beta {
        Some(_) => "layer norm",
        None => "RMS norm",
    };
    let run = |cut: RowCut| -> Result<()> {
        let groups = rows.div_ceil(cut.rows);
        let across = groups.min(MOST_GROUPS);
        x.gpu().run(&Run {
            kernel: &format!("{kind} {}", cut.name()),
            source: &|| cut.source(beta.is_some()),
            sizes: &[rows as u32, width as u32, (eps as f32).to_bits(), 0],
            steps: 1,
            reads: &reads,
            writes: y.buffer(),
            groups: [across as u32, groups.div_ceil(across) as u32, 1],
            flops: 8 * x.count() as u64,
            bytes,
            moved: bytes,
        })?;
        Ok(())
    };
    let ways = x.gpu().ways();
    let kind = Kind {
        // A few rows want many invocations each, many rows do not.
        name: match rows < MANY_ROWS {
            true => "norms of a few rows",
            false => "norms of many rows",
        },
        all: &ROW_CUTS,
        alike: false,
        fits: &|cut: RowCut| {
            (ways.subgroups || !cut.subgroups) && cut.lanes * cut.rows <= ways.invocations as usize
        },
        named: &RowCut::name,
    };
    let cost = (FLOPS_OF_BYTE * bytes) as usize;
    run(tune::quickest(x.gpu(), &kind, (cost, 1), &|cut, _| {
        run(cut)
    })?)?;
    Ok(y)
}

impl RowCut {
    fn name(self) -> String {
        match self.subgroups {
            true => "by subgroups".to_owned(),
            false => format!("by {} for {}", self.lanes, self.rows),
        }
    }

    fn source(self, centred: bool) -> String {
        let binding = "@group(0) @binding(3) var<storage, read> beta: array<f32>;";
        let (binding, at, mean, offset) = match centred {
            true => (binding, "4", "mean_of(first, width, lane)", "beta[i]"),
            false => ("", "3", "0.0", "0.0"),
        };
        let (sum, inputs, lane) = sum_of_all(self.subgroups);
        include_str!("kernels/rows.wgsl")
            .replace("SUM_OF_ALL", sum)
            .replace("LANE_INPUTS", inputs)
            .replace("THIS_LANE", lane)
            .replace("BETA_BINDING", binding)
            .replace("Y_BINDING", at)
            .replace("MEAN", mean)
            .replace("BETA", offset)
            .replace("LANES_VALUE", &self.lanes.to_string())
            .replace("ROWS_VALUE", &self.rows.to_string())
    }
}

/// How a kernel adds up over a workgroup, in WGSL: the function, what `main` takes for it, and what
/// it is given.
fn sum_of_all(subgroups: bool) -> (&'static str, &'static str, &'static str) {
    match subgroups {
        true => (
            include_str!("kernels/sum_subgroups.wgsl"),
            "
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) within: u32,",
            "Lane(thread, subgroup, subgroups, within)",
        ),
        false => (
            include_str!("kernels/sum.wgsl"),
            "",
            "Lane(thread / LANES, thread % LANES)",
        ),
    }
}
