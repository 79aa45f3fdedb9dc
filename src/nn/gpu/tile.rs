//! How products are cut into tiles: which cuts a GPU allows, and which was measured to be the
//! quickest there.

use super::adapters::AdapterKind;
use super::device::{Gpu, Ways};
use super::product;
use super::tensor::GpuTensor;
use crate::nn::Result;
use candle_core::{DType, Device, Tensor};
use std::time::Instant;

/// How a variant of the kernel cuts the output: `rows` x `columns` for a workgroup, `each` x 4 for
/// an invocation. All variants in f32 add up in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    pub each: usize,
    /// Whether it multiplies in f16.
    pub half: bool,
}

const fn tile(rows: usize, columns: usize, each: usize) -> Tile {
    Tile {
        rows,
        columns,
        each,
        half: false,
    }
}

/// For outputs of many tiles; the first is taken where nothing is measured.
const LARGE: [Tile; 4] = [
    tile(128, 64, 8),
    tile(64, 64, 8),
    tile(64, 128, 8),
    tile(128, 128, 8),
];
/// For outputs of few.
const SMALL: [Tile; 3] = [tile(32, 32, 4), tile(64, 32, 4), tile(32, 64, 4)];
/// With fewer large tiles than this a large GPU has nothing to do in most of its parts.
const ENOUGH_TILES: usize = 48;
/// Columns of A that are in workgroup memory at a time.
const DEPTH: usize = 16;
/// Times that a variant is measured; the quickest counts.
const TIMES: usize = 3;
/// By so much f16 must be quicker than f32 for its coarser numbers to be worth it.
const CLEARLY: f64 = 1.2;

impl Tile {
    /// Names the variant.
    pub(super) fn name(self) -> String {
        let half = if self.half { " in f16" } else { "" };
        format!("{}x{}x{}{half}", self.rows, self.columns, self.each)
    }

    pub(super) fn invocations(self) -> usize {
        self.columns / 4 * (self.rows / self.each)
    }

    /// Bytes of workgroup memory.
    fn shared(self) -> usize {
        let numbers = self.rows * (DEPTH + 4) + DEPTH * self.columns;
        // One flag more in f16.
        if self.half {
            2 * numbers + 16
        } else {
            4 * numbers
        }
    }

    fn fits(self, ways: Ways) -> bool {
        self.invocations() <= ways.invocations as usize && self.shared() <= ways.shared as usize
    }
}

/// The tiles for an output of `m` x `n`, each number a sum of `k`; `half` where the weights are
/// f16. Where none was measured yet and measurements are kept, `run`, which is asked for so many
/// rows, is timed with each.
pub(super) fn choose(
    gpu: &Gpu,
    (m, n, k): (usize, usize, usize),
    half: bool,
    run: &dyn Fn(Tile, usize) -> Result<()>,
) -> Result<Tile> {
    let large = m.div_ceil(LARGE[0].rows) * n.div_ceil(LARGE[0].columns) >= ENOUGH_TILES;
    let cuts: &[Tile] = if large { &LARGE } else { &SMALL };
    let ways = gpu.ways();
    let half = half && halves_are_quicker(gpu)?;
    let able = cuts.iter().map(|cut| Tile { half, ..*cut });
    let able: Vec<Tile> = able.filter(|tile| tile.fits(ways)).collect();
    // The first of each list fits every GPU.
    let usual = able.first().copied().unwrap_or(Tile { half, ..cuts[0] });
    if !gpu.measures() {
        return Ok(usual);
    }
    let kind = format!(
        "{} products{}",
        if large { "large" } else { "small" },
        if half { " in f16" } else { "" }
    );
    let known = gpu.variant(&kind);
    let known = able.iter().find(|tile| Some(tile.name()) == known);
    if let Some(known) = known {
        return Ok(*known);
    }
    let worth = worth_measuring(gpu);
    // What is soon done tells nothing.
    if 2 * m * n * k < worth / 4 {
        return Ok(usual);
    }
    let rows = (worth / (2 * n * k).max(1)).clamp(1, m);
    let mut best = (f64::INFINITY, usual);
    for tile in able {
        let seconds = timed(gpu, &|| run(tile, rows))?;
        if seconds < best.0 {
            best = (seconds, tile);
        }
    }
    tracing::info!(
        gpu = gpu.info().name,
        kind,
        tile = best.1.name(),
        "measured"
    );
    gpu.keep_variant(&kind, &best.1.name());
    Ok(best.1)
}

/// Floating point operations of a measurement.
fn worth_measuring(gpu: &Gpu) -> usize {
    match gpu.info().kind {
        AdapterKind::Software => 1 << 27,
        _ => 1 << 33,
    }
}

/// Seconds of the quickest of a few runs after one that compiles.
fn timed(gpu: &Gpu, run: &dyn Fn() -> Result<()>) -> Result<f64> {
    run()?;
    gpu.finish()?;
    let mut quickest = f64::INFINITY;
    for _ in 0..TIMES {
        let start = Instant::now();
        run()?;
        gpu.finish()?;
        quickest = quickest.min(start.elapsed().as_secs_f64());
    }
    Ok(quickest)
}

/// Whether products by f16 are computed in f16. It is decided once for a GPU, before the first of
/// them, so that a seed draws the same picture the first time and ever after.
fn halves_are_quicker(gpu: &Gpu) -> Result<bool> {
    const KIND: &str = "arithmetic of products by f16";
    const WIDTH: usize = 512;
    let ways = gpu.ways();
    if let Some(wanted) = ways.half {
        return Ok(wanted && ways.f16);
    }
    if !ways.f16 || !gpu.measures() {
        return Ok(false);
    }
    if let Some(known) = gpu.variant(KIND) {
        return Ok(known == "f16");
    }
    let rows = worth_measuring(gpu) / (2 * WIDTH * WIDTH);
    let x = GpuTensor::new(gpu, vec![rows, WIDTH])?;
    let w = Tensor::zeros((WIDTH, WIDTH), DType::F16, &Device::Cpu)?;
    let w = GpuTensor::upload_weight(gpu, &w)?;
    let seconds = |half: bool| {
        let tile = Tile { half, ..LARGE[0] };
        timed(gpu, &|| product::linear_by(&x, &w, tile).map(drop))
    };
    let (wide, narrow) = (seconds(false)?, seconds(true)?);
    let quicker = narrow * CLEARLY < wide;
    tracing::info!(gpu = gpu.info().name, wide, narrow, quicker, "f16 measured");
    gpu.keep_variant(KIND, if quicker { "f16" } else { "f32" });
    Ok(quicker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tiles_fit_every_gpu_and_all_are_whole() {
        let gpu = Gpu::counting(1 << 30, false);
        for cuts in [&LARGE[..], &SMALL[..]] {
            assert!(cuts[0].fits(gpu.ways()));
            for tile in cuts {
                // Each invocation stages as many quads of A and B as every other.
                let invocations = tile.invocations();
                assert_eq!(tile.rows * DEPTH / 4 % invocations, 0, "{}", tile.name());
                assert_eq!(DEPTH * tile.columns / 4 % invocations, 0, "{}", tile.name());
            }
        }
        let run = |_, _| -> Result<()> { panic!("nothing is measured where nothing is kept") };
        assert_eq!(
            choose(&gpu, (8192, 320, 320), true, &run).unwrap(),
            LARGE[0]
        );
        assert_eq!(choose(&gpu, (8, 320, 320), true, &run).unwrap(), SMALL[0]);
    }
}
