//! Which variant of a kind of kernel is the quickest on a GPU: measured once, and kept on the disk.

use super::adapters::AdapterKind;
use super::device::Gpu;
use crate::nn::Result;
use std::time::Instant;

/// Times that every variant is measured, the quickest of which counts, and that those are which may
/// be the quickest.
const TIMES: usize = 3;
const MORE_TIMES: usize = 6;
/// A variant that takes so many times what the quickest does may not be it: other work of the machine
/// makes some of the times longer.
const NEAR: f64 = 1.5;
/// So many times as quick as the usual variant must another be.
const CLEARLY: f64 = 1.05;
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
    let (quickest, seconds) = quickest_of(gpu, variants.len(), CLEARLY, &|variant| {
        (0..runs.max(1)).try_for_each(|_| run(kind.all[variants[variant]], some))
    })?;
    let best = variants[quickest];
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

/// The quickest of so many variants, which `run` does, and its seconds; the first, unless another is
/// `clearly` times as quick.
pub(super) fn quickest_of(
    gpu: &Gpu,
    variants: usize,
    clearly: f64,
    run: &dyn Fn(usize) -> Result<()>,
) -> Result<(usize, f64)> {
    race(variants, clearly, &mut |variant| {
        let start = Instant::now();
        run(variant)?;
        gpu.finish()?;
        Ok(start.elapsed().as_secs_f64())
    })
}

/// The same by the seconds that `time` tells. Variants take turns, so that other work of the machine
/// meets all of them alike, and those that fall behind leave.
fn race(
    variants: usize,
    clearly: f64,
    time: &mut dyn FnMut(usize) -> Result<f64>,
) -> Result<(usize, f64)> {
    // The first turn compiles.
    for variant in 0..variants {
        time(variant)?;
    }
    let mut seconds = vec![f64::INFINITY; variants];
    let mut racing: Vec<usize> = (0..variants).collect();
    for turn in 1..=MORE_TIMES {
        for &variant in &racing {
            seconds[variant] = seconds[variant].min(time(variant)?);
        }
        if turn >= TIMES {
            let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
            racing.retain(|&variant| seconds[variant] < best * NEAR);
        }
        if turn >= TIMES && racing.len() == 1 {
            break;
        }
    }
    let all = seconds.into_iter().enumerate();
    let best = all.clone().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let best = best.unwrap_or((0, f64::INFINITY));
    let usual = all.take(1).find(|(_, usual)| *usual < best.1 * clearly);
    Ok(usual.unwrap_or(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a busy machine, where most times are longer than they had to be, up to three times.
    #[test]
    fn the_quickest_is_found_beside_other_work_and_the_usual_stays_where_it_is_as_good() {
        let mut noise = 7u64;
        let mut drawn = || {
            noise = noise
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (noise >> 40) as f64 / (1u64 << 24) as f64
        };
        let mut wrong = 0;
        for round in 0..200 {
            let quickest = round % 5;
            let times = [1.2, 1.5, 1.3, 2.0, 1.4];
            let mut asked = 0;
            let (found, seconds) = race(5, CLEARLY, &mut |variant| {
                asked += 1;
                let own = if variant == quickest {
                    1.0
                } else {
                    times[variant]
                };
                // Half of the time others work too.
                Ok(own * (1.0 + (4.0 * drawn() - 2.0).max(0.0)))
            })
            .unwrap();
            wrong += usize::from(found != quickest);
            assert!(seconds >= 1.0 && asked <= 5 * (1 + MORE_TIMES), "{asked}");
        }
        assert!(wrong <= 10, "{wrong} of 200");
        // Four per cent are noise, ten are not.
        for (other, wanted) in [(0.96, 0), (0.9, 1), (1.0, 0), (1.5, 0)] {
            let found = race(2, CLEARLY, &mut |variant| Ok([1.0, other][variant])).unwrap();
            assert_eq!(found.0, wanted, "{other}");
        }
        // What is far behind is not asked again.
        let mut asked = [0; 2];
        race(2, CLEARLY, &mut |variant| {
            asked[variant] += 1;
            Ok([1.0, 9.0][variant])
        })
        .unwrap();
        assert_eq!(asked, [1 + TIMES; 2]);
    }
}
