//! How products are cut into tiles: which cuts a GPU allows, and which was measured to be the
//! quickest there.

use super::device::{Gpu, Ways};
use super::product;
use super::tensor::GpuTensor;
use super::tune::{self, Kind, quickest_of, worth_measuring};
use crate::nn::{Result, noise};
use candle_core::{DType, Device, Tensor};

/// How products with weights in f16 are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// In f32.
    F32,
    /// Sixteen products are added up in f16, all further in f32.
    F16,
    /// By cooperative matrices: f16 on both sides, sums in f32.
    Matrices,
}

impl Arithmetic {
    /// As it is named in tables and in what is kept.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::F16 => "f16",
            Arithmetic::Matrices => "cooperative matrices",
        }
    }
}

/// How a variant of the kernel cuts the output: `rows` x `columns` for a workgroup, `each` x 4 for
/// an invocation. All variants in f32 add up in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    pub each: usize,
    pub arithmetic: Arithmetic,
    /// Of cooperative matrices: numbers of a side, and invocations of the smallest subgroup.
    pub side: usize,
    pub subgroup: usize,
}

const fn tile(rows: usize, columns: usize, each: usize) -> Tile {
    Tile {
        rows,
        columns,
        each,
        arithmetic: Arithmetic::F32,
        side: 0,
        subgroup: 1,
    }
}

/// For outputs of many tiles; the first is taken where nothing is measured.
const LARGE: [Tile; 4] = [
    tile(128, 64, 8),
    tile(64, 64, 8),
    tile(64, 128, 8),
    tile(128, 128, 8),
];
/// By cooperative matrices, for outputs of many tiles and of few.
const LARGE_MATRICES: [Tile; 3] = [tile(64, 64, 8), tile(128, 64, 16), tile(128, 128, 16)];
const SMALL_MATRICES: [Tile; 2] = [tile(32, 32, 4), tile(64, 32, 4)];
/// For outputs of few.
const SMALL: [Tile; 3] = [tile(32, 32, 4), tile(64, 32, 4), tile(32, 64, 4)];
/// With fewer large tiles than this a large GPU has nothing to do in most of its parts.
const ENOUGH_TILES: usize = 48;
/// Columns of A that are in workgroup memory at a time.
pub(super) const DEPTH: usize = 16;
/// Such parts after which a product by matrices may pause.
pub(super) const MATRIX_STEP: usize = 8;
/// By so much f16 must be quicker than f32 for its coarser numbers to be worth it.
const CLEARLY: f64 = 1.2;

impl Tile {
    /// Names the variant.
    pub(super) fn name(self) -> String {
        let cut = format!("{}x{}x{}", self.rows, self.columns, self.each);
        match self.arithmetic {
            Arithmetic::F32 => cut,
            Arithmetic::F16 => format!("{cut} in f16"),
            Arithmetic::Matrices => {
                format!("{cut} by matrices of {} for {}", self.side, self.subgroup)
            }
        }
    }

    pub(super) fn invocations(self) -> usize {
        self.columns / 4 * (self.rows / self.each)
    }

    /// Columns of A after which a workgroup may pause.
    pub(super) fn step(self) -> usize {
        match self.arithmetic {
            Arithmetic::Matrices => MATRIX_STEP * DEPTH,
            _ => DEPTH,
        }
    }

    /// Bytes of workgroup memory, with those that GEGLU takes.
    fn shared(self) -> usize {
        let halves = 4 * 4 * self.invocations() / 2;
        let numbers = self.rows * (DEPTH + 4) + DEPTH * self.columns;
        match self.arithmetic {
            Arithmetic::F32 => 4 * numbers + halves,
            // One flag more.
            Arithmetic::F16 => 2 * numbers + halves + 16,
            Arithmetic::Matrices => {
                let staged = self.rows * (DEPTH + 8) + DEPTH * (self.columns + 8);
                2 * staged + 4 * self.units() * self.side * self.side + 32
            }
        }
    }

    /// Subgroups of a workgroup, each of which makes a part of the output.
    pub(super) fn units(self) -> usize {
        (self.invocations() / self.subgroup).max(1)
    }

    /// Matrices of such a part, down and across: as near to a square as can be.
    pub(super) fn of_unit(self) -> (usize, usize) {
        let (down, across) = (
            self.rows / self.side.max(1),
            self.columns / self.side.max(1),
        );
        let each = (down * across / self.units()).max(1);
        let wide = 1 << (each.ilog2() / 2);
        (each / wide, wide)
    }

    fn fits(self, ways: Ways) -> bool {
        let whole = self.arithmetic != Arithmetic::Matrices || {
            let (down, across) = self.of_unit();
            self.invocations() >= self.subgroup
                && self.units() * down * across * self.side * self.side == self.rows * self.columns
                && self.rows.is_multiple_of(down * self.side)
                && self.columns.is_multiple_of(across * self.side)
        };
        whole
            && self.invocations() <= ways.invocations as usize
            && self.shared() <= ways.shared as usize
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
    // Rows that one of the smallest tiles holds would leave most of another empty.
    let low = m <= SMALL[0].rows;
    let tiles = m.div_ceil(LARGE[0].rows) * n.div_ceil(LARGE[0].columns);
    let large = !low && tiles >= ENOUGH_TILES;
    let arithmetic = match half {
        true => best_arithmetic(gpu)?,
        false => Arithmetic::F32,
    };
    let mut all = able(gpu, large, arithmetic);
    if low {
        all.retain(|tile| tile.rows <= SMALL[0].rows);
    }
    if all.is_empty() {
        // The first of each list in f32 fits every GPU.
        all.push(if large { LARGE[0] } else { SMALL[0] });
    }
    let size = match (large, low) {
        (true, _) => "large",
        (_, true) => "low",
        _ => "small",
    };
    let name = match arithmetic {
        Arithmetic::F32 => format!("{size} products"),
        Arithmetic::F16 => format!("{size} products in f16"),
        Arithmetic::Matrices => format!("{size} products by matrices"),
    };
    let kind = Kind {
        name: &name,
        all: &all,
        alike: true,
        fits: &|_| true,
        named: &Tile::name,
    };
    tune::quickest(gpu, &kind, (2 * m * n * k, m), run)
}

/// The cuts that a GPU can have with this arithmetic.
fn able(gpu: &Gpu, large: bool, arithmetic: Arithmetic) -> Vec<Tile> {
    let ways = gpu.ways();
    let (cuts, (side, subgroup)): (&[Tile], _) = match (arithmetic, ways.matrices) {
        (Arithmetic::Matrices, Some(matrices)) if large => (&LARGE_MATRICES, matrices),
        (Arithmetic::Matrices, Some(matrices)) => (&SMALL_MATRICES, matrices),
        (_, _) if large => (&LARGE, (0, 1)),
        (_, _) => (&SMALL, (0, 1)),
    };
    let cuts = cuts.iter().map(|cut| Tile {
        arithmetic,
        side,
        subgroup,
        ..*cut
    });
    cuts.filter(|tile| tile.fits(ways)).collect()
}

/// How products by f16 are computed. It is decided once for a GPU, before the first of them, so that
/// a seed draws the same picture the first time and ever after. What computes in f16 is only taken
/// where its products are those of f32, and where it is clearly quicker.
fn best_arithmetic(gpu: &Gpu) -> Result<Arithmetic> {
    const KIND: &str = "arithmetic of products by f16";
    const BEGUN: &str = "begun";
    let ways = gpu.ways();
    let can = [
        (Arithmetic::F16, ways.f16),
        (Arithmetic::Matrices, ways.f16 && ways.matrices.is_some()),
    ];
    let can = can.into_iter().filter(|(_, can)| *can);
    let can: Vec<Arithmetic> = can.map(|(arithmetic, _)| arithmetic).collect();
    if let Some(wanted) = ways.arithmetic {
        return Ok(match can.contains(&wanted) {
            true => wanted,
            false => Arithmetic::F32,
        });
    }
    if can.is_empty() || !gpu.measures() {
        return Ok(Arithmetic::F32);
    }
    if let Some(known) = gpu.variant(KIND) {
        let known = can.into_iter().find(|way| way.name() == known);
        return Ok(known.unwrap_or(Arithmetic::F32));
    }
    let mut right = vec![Arithmetic::F32];
    for arithmetic in can {
        // A driver that broke down over it in an earlier run is not asked again.
        let trial = format!("trial of {}", arithmetic.name());
        if gpu.variant(&trial).as_deref() == Some(BEGUN) {
            continue;
        }
        gpu.keep_variant(&trial, BEGUN);
        gpu.keep();
        let same = multiplies_rightly(gpu, arithmetic);
        gpu.keep_variant(&trial, "done");
        let same = match same {
            // A driver that does not take the kernel.
            Err(_) if gpu.fault().is_none() => {
                gpu.take_failure();
                false
            }
            same => same?,
        };
        if same {
            right.push(arithmetic);
        } else {
            tracing::warn!(
                gpu = gpu.info().name,
                arithmetic = arithmetic.name(),
                "products are wrong or not possible, and not used"
            );
        }
    }
    let (quickest, seconds) = timed_with(gpu, &right)?;
    let best = right[quickest];
    tracing::info!(
        gpu = gpu.info().name,
        arithmetic = best.name(),
        seconds,
        "measured"
    );
    gpu.keep_variant(KIND, best.name());
    Ok(best)
}

/// Which of these ways does a product of middling size by its first cut the quickest, and the seconds
/// it takes.
fn timed_with(gpu: &Gpu, ways: &[Arithmetic]) -> Result<(usize, f64)> {
    const WIDTH: usize = 512;
    let first = |way: &Arithmetic| able(gpu, true, *way).first().copied();
    let tiles: Vec<Tile> = ways.iter().map_while(first).collect();
    let rows = worth_measuring(gpu) / (2 * WIDTH * WIDTH);
    let x = GpuTensor::new(gpu, vec![rows, WIDTH])?;
    let w = Tensor::zeros((WIDTH, WIDTH), DType::F16, &Device::Cpu)?;
    let w = GpuTensor::upload_weight(gpu, &w)?;
    quickest_of(gpu, tiles.len(), CLEARLY, &|way| {
        product::linear_by(&x, &w, tiles[way]).map(drop)
    })
}

/// Whether every cut with this arithmetic gives the products of f32, on sizes that nothing divides
/// too and beyond what f16 holds.
fn multiplies_rightly(gpu: &Gpu, arithmetic: Arithmetic) -> Result<bool> {
    const LIMIT: f32 = 4e-3;
    let cuts = [true, false]
        .map(|large| able(gpu, large, arithmetic))
        .concat();
    for (m, k, n, scale) in [(150, 96, 136, 1.0), (37, 21, 43, 1.0), (64, 32, 64, 1e6)] {
        let draw = |stream, shape: &[usize]| noise(0x11, stream, shape, &Device::Cpu);
        let x = GpuTensor::upload(gpu, &(draw(0, &[m, k])? * scale)?)?;
        let w = draw(1, &[k, n])?.to_dtype(DType::F16)?;
        let w = GpuTensor::upload_weight(gpu, &w)?;
        let want = product::linear_by(&x, &w, SMALL[0])?.download()?;
        let largest = want.abs()?.max_all()?.to_scalar::<f32>()?;
        for tile in &cuts {
            let got = product::linear_by(&x, &w, *tile)?.download()?;
            let off = (got - &want)?.abs()?.max_all()?.to_scalar::<f32>()?;
            if off.is_nan() || off >= LIMIT * largest {
                return Ok(false);
            }
        }
    }
    Ok(true)
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
                // Each invocation stages as many quads of A and B as every other, and of A always the
                // same of a step's columns.
                let invocations = tile.invocations();
                assert_eq!(invocations % (DEPTH / 4), 0, "{}", tile.name());
                assert_eq!(tile.rows * DEPTH / 4 % invocations, 0, "{}", tile.name());
                assert_eq!(DEPTH * tile.columns / 4 % invocations, 0, "{}", tile.name());
            }
        }
        // Of matrices as GPUs have them: some cut is whole, and each stages evenly.
        for (side, subgroup) in [(8, 8), (16, 16), (16, 32), (8, 32), (16, 64)] {
            for cuts in [&LARGE_MATRICES[..], &SMALL_MATRICES[..]] {
                let cuts = cuts.iter().map(|cut| Tile {
                    arithmetic: Arithmetic::Matrices,
                    side,
                    subgroup,
                    ..*cut
                });
                let ways = Ways {
                    shared: 32768,
                    ..gpu.ways()
                };
                let whole: Vec<Tile> = cuts.filter(|tile| tile.fits(ways)).collect();
                assert!(!whole.is_empty(), "{side} {subgroup}");
                for tile in whole {
                    let invocations = tile.invocations();
                    assert_eq!(tile.rows * DEPTH / 4 % invocations, 0, "{}", tile.name());
                    assert_eq!(DEPTH * tile.columns / 4 % invocations, 0, "{}", tile.name());
                }
            }
        }
        // With GEGLU none can pause: 25 ms at 1.9 GFLOP/s, of which a slow GPU does sixteen at a time.
        for tile in LARGE.iter().chain(&SMALL) {
            let flops = 2 * tile.rows * tile.columns * product::LONGEST_GEGLU;
            assert!(flops as f64 / 1.9e9 < 0.025, "{}", tile.name());
        }
        let run = |_, _| -> Result<()> { panic!("nothing is measured where nothing is kept") };
        assert_eq!(
            choose(&gpu, (8192, 320, 320), true, &run).unwrap(),
            LARGE[0]
        );
        assert_eq!(choose(&gpu, (8, 320, 320), true, &run).unwrap(), SMALL[0]);
    }
}
