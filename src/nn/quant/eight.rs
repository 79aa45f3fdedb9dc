//! Activations rounded to 8 bits, for the formats whose weights are as wide that whole numbers
//! multiply them much faster: `Q8_0` (which gets a second such number for the rest), `Q4_K` and
//! `Q6_K`, as ggml does.
//!
//! Each 32 activations share a scale, a 127th of the largest of them, so that a rounded one is off
//! by at most half of that. ggml shares a scale among 256 for the K formats.

use rayon::prelude::*;

use super::super::kernels::simd::dispatch;
use super::BLOCK;

/// Floats that say how a block's numbers are scaled: one for each four of them.
pub(super) const SCALES: usize = BLOCK / 4;

/// What the numbers that say what rounding took away are finer by.
const FINER: f32 = 256.0;

/// Columns of activations as whole numbers from -127 to 127 and their scales.
#[derive(Default)]
pub(super) struct Rounded {
    cols: usize,
    numbers: Vec<i8>,
    scales: Vec<f32>,
    each: Vec<f32>,
    shares: Vec<f32>,
    sums: Vec<i32>,
}

/// One column of [`Rounded`], filled up with zeros to an even number of blocks.
#[derive(Clone, Copy)]
pub(super) struct RoundedColumn<'a> {
    /// 32 a block.
    pub numbers: &'a [i8],
    /// The block's scale, eight times over.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only AVX reads eight at a time")
    )]
    pub scales: &'a [f32],
    /// The block's scale, once.
    pub each: &'a [f32],
    /// One a block: the sum of its activations.
    pub shares: &'a [f32],
    /// Two a block: the sums of its first 16 numbers and of the others.
    pub sums: &'a [i32],
}

/// A column that is being written, as [`RoundedColumn`].
struct ColumnMut<'a> {
    numbers: &'a mut [i8],
    scales: &'a mut [f32],
    each: &'a mut [f32],
    shares: &'a mut [f32],
    sums: &'a mut [i32],
}

impl Rounded {
    /// `x` is `[columns, cols]`, `cols` a multiple of 32.
    pub(super) fn of(x: &[f32], cols: usize) -> Rounded {
        Rounded::by(x, cols, |_, x, column| round_column(x, column))
    }

    /// What rounding took away from `x`, `[columns, cols]`, rounded to a 256th of the same scale:
    /// both numbers together have 16 bits.
    pub(super) fn rest(&self, x: &[f32], cols: usize) -> Rounded {
        Rounded::by(x, cols, |index, x, column| {
            rest_column(x, &self.column(index), column);
        })
    }

    fn by(x: &[f32], cols: usize, write: impl Fn(usize, &[f32], &mut ColumnMut) + Sync) -> Rounded {
        let columns = x.len() / cols;
        let wide = cols.next_multiple_of(2 * BLOCK);
        let blocks = wide / BLOCK;
        let mut to = Rounded {
            cols: wide,
            numbers: vec![0; columns * wide],
            scales: vec![0.0; columns * blocks * SCALES],
            each: vec![0.0; columns * blocks],
            shares: vec![0.0; columns * blocks],
            sums: vec![0; columns * blocks * 2],
        };
        if columns == 1 {
            // As when a text is written: handing out work would take longer than doing it.
            let mut column = ColumnMut {
                numbers: &mut to.numbers,
                scales: &mut to.scales,
                each: &mut to.each,
                shares: &mut to.shares,
                sums: &mut to.sums,
            };
            write(0, x, &mut column);
            finish(&mut column);
            return to;
        }
        let parts = to.numbers.par_chunks_mut(wide);
        let parts = parts.zip(to.scales.par_chunks_mut(blocks * SCALES));
        let parts = parts.zip(to.each.par_chunks_mut(blocks));
        let parts = parts.zip(to.shares.par_chunks_mut(blocks));
        let parts = parts.zip(to.sums.par_chunks_mut(blocks * 2));
        let one = |(index, ((((numbers, scales), each), shares), sums))| {
            let mut column = ColumnMut {
                numbers,
                scales,
                each,
                shares,
                sums,
            };
            write(index, &x[index * cols..][..cols], &mut column);
            finish(&mut column);
        };
        parts.enumerate().with_min_len(4).for_each(one);
        to
    }

    /// The activations that the numbers stand for, `[columns, cols]`, together with what `rest` says
    /// was taken away from them.
    pub(super) fn values(&self, rest: Option<&Rounded>, columns: usize, cols: usize) -> Vec<f32> {
        let mut all = vec![0.0; columns * cols];
        let one = |(index, to): (usize, &mut [f32])| {
            let (column, rest) = (self.column(index), rest.map(|rest| rest.column(index)));
            for (i, to) in to.iter_mut().enumerate() {
                let number = f32::from(column.numbers[i]);
                *to = match rest {
                    None => number * column.each[i / BLOCK],
                    Some(rest) => {
                        (FINER * number + f32::from(rest.numbers[i])) * rest.each[i / BLOCK]
                    }
                };
            }
        };
        all.par_chunks_mut(cols)
            .enumerate()
            .with_min_len(4)
            .for_each(one);
        all
    }

    pub(super) fn column(&self, index: usize) -> RoundedColumn<'_> {
        let blocks = self.cols / BLOCK;
        RoundedColumn {
            numbers: self.numbers.get(index * self.cols..).unwrap_or_default(),
            scales: self
                .scales
                .get(index * blocks * SCALES..)
                .unwrap_or_default(),
            each: self.each.get(index * blocks..).unwrap_or_default(),
            shares: self.shares.get(index * blocks..).unwrap_or_default(),
            sums: self.sums.get(index * blocks * 2..).unwrap_or_default(),
        }
    }
}

dispatch! {
    fn round_column(x: &[f32], to: &mut ColumnMut<'_>) {
        let (x, numbers) = (x.as_chunks::<BLOCK>().0, to.numbers.as_chunks_mut::<BLOCK>().0);
        for ((x, numbers), each) in x.iter().zip(numbers).zip(to.each.iter_mut()) {
            *each = round(x, numbers);
        }
    }
}

dispatch! {
    fn rest_column(x: &[f32], first: &RoundedColumn<'_>, to: &mut ColumnMut<'_>) {
        let (x, numbers) = (x.as_chunks::<BLOCK>().0, to.numbers.as_chunks_mut::<BLOCK>().0);
        let first = first.numbers.as_chunks::<BLOCK>().0.iter().zip(first.each);
        for (((x, (first, scale)), numbers), each) in
            x.iter().zip(first).zip(numbers).zip(to.each.iter_mut())
        {
            let inverse = finite(1.0 / scale);
            for i in 0..BLOCK {
                let rest = FINER * (x[i] * inverse - f32::from(first[i]));
                // Half a step is 128, and a byte ends at 127.
                let rest = if rest > 127.0 { 127.0 } else { rest };
                let rest = if rest < -127.0 { -127.0 } else { rest };
                numbers[i] = (rest + ROUND).to_bits() as i8;
            }
            *each = scale / FINER;
        }
    }
}

dispatch! {
    /// Writes what follows from numbers and scales.
    fn finish(to: &mut ColumnMut<'_>) {
        let numbers = to.numbers.as_chunks::<BLOCK>().0;
        for (i, (numbers, scale)) in numbers.iter().zip(to.each.iter()).enumerate() {
            for half in 0..2 {
                let half_of = &numbers[half * BLOCK / 2..][..BLOCK / 2];
                to.sums[2 * i + half] = half_of.iter().map(|n| i32::from(*n)).sum();
            }
            to.scales[i * SCALES..][..SCALES].fill(*scale);
            to.shares[i] = scale * (to.sums[2 * i] + to.sums[2 * i + 1]) as f32;
        }
    }
}

/// Adding it rounds to the nearest whole number, which then lies in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Neither zero nor the smallest numbers have an inverse: they round to nothing.
#[inline(always)]
fn finite(inverse: f32) -> f32 {
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The numbers of a block; the scale that they are to be multiplied by, NaN if one of the block is
/// no finite number.
#[inline(always)]
fn round(x: &[f32; BLOCK], numbers: &mut [i8; BLOCK]) -> f32 {
    const LANES: usize = 8;
    let (mut largest, mut bad) = ([0.0f32; LANES], [0.0f32; LANES]);
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let size = x[i].abs();
            largest[i] = if size > largest[i] { size } else { largest[i] };
            // 0 where x is a number, NaN where it is none or infinite.
            bad[i] += x[i] * 0.0;
        }
    }
    let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
    let inverse = finite(127.0 / largest);
    for (number, x) in numbers.iter_mut().zip(x) {
        *number = (x * inverse + ROUND).to_bits() as i8;
    }
    largest / 127.0 + bad.iter().sum::<f32>()
}
