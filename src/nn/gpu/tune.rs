//! Which variant of a kind of kernel is the quickest on a GPU: measured once, and kept on the disk.

use super::adapters::AdapterKind;
use super::device::Gpu;
use crate::nn::Result;
use std::time::Instant;

/// Times that a variant is measured; the quickest counts.
const TIMES: usize = 3;
/// Runs of a measurement at most.
const MOST_RUNS: usize = 64;

/// The variants of a kind of kernel.
pub(super) struct Kind<'a, T> {
    /// Names it in what is kept.
    pub name: &'a str,
    /// All, the first of which that fits is taken where nothing can be known.
    pub all: &'a [T],
    /// Whether all give the same numbers. Where they do not, runs that are too short to be measured
    /// take the first, so that it does not depend on what ran before which one they take.
    pub alike: bool,
    /// Whether a GPU allows it.
    pub fits: &'a dyn Fn(T) -> bool,
    /// As it is named in what is kept.
    pub named: &'a dyn Fn(T) -> String,
}

/// The quickest variant of a kind, for a run that costs so many floating point operations and comes
/// in so many units, which `run` does some of. Where none was measured yet and measurements are
/// kept, each is timed.
///
/// # Errors
/// No variant at all, or a GPU that fails.
pub(super) fn quickest<T: Copy>(
    gpu: &Gpu,
    kind: &Kind<T>,
    (cost, units): (usize, usize),
    run: &dyn Fn(T, usize) -> Result<()>,
) -> Result<T> {
    let worth = worth_measuring(gpu);
    let runs = worth / cost.max(1);
    let short = runs > MOST_RUNS;
    #[cfg(test)]
    let short = short && !gpu.short_too();
    // What was chosen before is known by its number: names are made once a kind.
    if (kind.alike || !short)
        && let Some(known) = gpu.chosen(kind.name)
        && let Some(known) = kind.all.get(known)
    {
        return Ok(*known);
    }
    let mut fitting = (0..kind.all.len()).filter(|&at| (kind.fits)(kind.all[at]));
    let Some(usual) = fitting.next() else {
        candle_core::bail!("no variant of {} fits this GPU", kind.name);
    };
    if short && !kind.alike {
        return Ok(kind.all[usual]);
    }
    let variants: Vec<usize> = std::iter::once(usual).chain(fitting).collect();
    if variants.len() == 1 || !gpu.measures() {
        gpu.choose(kind.name, usual);
        return Ok(kind.all[usual]);
    }
    if let Some(kept) = gpu.variant(kind.name) {
        let named = |at: &&usize| (kind.named)(kind.all[**at]) == kept;
        if let Some(&known) = variants.iter().find(named) {
            gpu.choose(kind.name, known);
            return Ok(kind.all[known]);
        }
    }
    // What is soon done tells nothing.
    if short {
        return Ok(kind.all[usual]);
    }
    let some = (units as f64 * worth as f64 / cost.max(1) as f64) as usize;
    let some = some.clamp(1, units.max(1));
    let seconds = in_turn(gpu, variants.len(), &|variant| {
        (0..runs.max(1)).try_for_each(|_| run(kind.all[variants[variant]], some))
    })?;
    let (seconds, best) = seconds
        .into_iter()
        .zip(variants)
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .unwrap_or((f64::INFINITY, usual));
    let variant = (kind.named)(kind.all[best]);
    tracing::info!(
        gpu = gpu.info().name,
        kind = kind.name,
        variant,
        seconds,
        "measured"
    );
    gpu.keep_variant(kind.name, &variant);
    gpu.choose(kind.name, best);
    Ok(kind.all[best])
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
    Ok(in_turn(gpu, 1, &|_| run())?[0])
}

/// The same of each of so many variants, which take turns, so that other work of the machine meets all
/// of them alike.
fn in_turn(gpu: &Gpu, variants: usize, run: &dyn Fn(usize) -> Result<()>) -> Result<Vec<f64>> {
    let mut quickest = vec![f64::INFINITY; variants];
    for turn in 0..=TIMES {
        for (variant, quickest) in quickest.iter_mut().enumerate() {
            let start = Instant::now();
            run(variant)?;
            gpu.finish()?;
            // The first turn compiles.
            if turn > 0 {
                *quickest = quickest.min(start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(quickest)
}
