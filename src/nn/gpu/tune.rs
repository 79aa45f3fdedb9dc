//! Which variant of a kind of kernel is the quickest on a GPU: measured once, and kept on the disk.

use super::adapters::AdapterKind;
use super::device::Gpu;
use crate::nn::Result;
use std::time::Instant;

/// Times that a variant is measured; the quickest counts.
const TIMES: usize = 3;
/// Runs of a measurement at most.
const MOST_RUNS: usize = 64;

/// The quickest of a kind's `variants`, each with its name, for a run that costs so many floating
/// point operations and comes in so many units, which `run` does some of. Where none was measured
/// yet and measurements are kept, each is timed. The first is taken where nothing can be known.
///
/// # Errors
/// No variant at all, or a GPU that fails.
pub(super) fn quickest<T: Copy>(
    gpu: &Gpu,
    kind: &str,
    variants: &[(String, T)],
    (cost, units): (usize, usize),
    run: &dyn Fn(T, usize) -> Result<()>,
) -> Result<T> {
    let Some((_, usual)) = variants.first() else {
        candle_core::bail!("no variant of {kind} fits this GPU");
    };
    if variants.len() == 1 || !gpu.measures() {
        return Ok(*usual);
    }
    let known = gpu.variant(kind);
    if let Some((_, known)) = variants
        .iter()
        .find(|(name, _)| Some(name) == known.as_ref())
    {
        return Ok(*known);
    }
    let worth = worth_measuring(gpu);
    let runs = worth / cost.max(1);
    // What is soon done tells nothing.
    if runs > MOST_RUNS {
        return Ok(*usual);
    }
    let some = (units as f64 * worth as f64 / cost.max(1) as f64) as usize;
    let some = some.clamp(1, units.max(1));
    let mut best: Option<(f64, &(String, T))> = None;
    for variant in variants {
        let seconds = timed(gpu, &|| {
            (0..runs.max(1)).try_for_each(|_| run(variant.1, some))
        })?;
        if best.is_none_or(|(quickest, _)| seconds < quickest) {
            best = Some((seconds, variant));
        }
    }
    let Some((seconds, (name, best))) = best else {
        return Ok(*usual);
    };
    tracing::info!(
        gpu = gpu.info().name,
        kind,
        variant = name,
        seconds,
        "measured"
    );
    gpu.keep_variant(kind, name);
    Ok(*best)
}

/// Floating point operations of a measurement: some milliseconds.
pub(super) fn worth_measuring(gpu: &Gpu) -> usize {
    match gpu.info().kind {
        AdapterKind::Software => 1 << 26,
        AdapterKind::Discrete => 1 << 33,
        _ => 1 << 30,
    }
}

/// Seconds of the quickest of a few runs after one that compiles.
pub(super) fn timed(gpu: &Gpu, run: &dyn Fn() -> Result<()>) -> Result<f64> {
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
