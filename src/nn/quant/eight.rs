//! Activations rounded to 8 bits, for the formats whose weights are as wide that whole numbers
//! multiply them much faster: `Q8_0` (which gets a second such number for the rest), `Q4_K` and
//! `Q6_K`, as ggml does.
//!
//! Each 32 activations share a scale, a 127th of the largest of them, so that a rounded one is off
//! by at most half of that. ggml shares a scale among 256 for the K formats.

use super::BLOCK;

/// Floats that say how a block's numbers are scaled: one for each four of them.
pub(super) const SCALES: usize = BLOCK / 4;

/// Columns of activations as whole numbers from -127 to 127 and their scales.
#[derive(Default)]
pub(super) struct Rounded {
    cols: usize,
    numbers: Vec<i8>,
    scales: Vec<f32>,
    shares: Vec<f32>,
    sums: Vec<i32>,
}

/// One column of [`Rounded`], filled up with zeros to an even number of blocks.
#[derive(Clone, Copy)]
pub(super) struct RoundedColumn<'a> {
    /// 32 a block.
    pub numbers: &'a [i8],
    /// The block's scale, eight times over.
    pub scales: &'a [f32],
    /// One a block: the sum of its activations.
    pub shares: &'a [f32],
    /// Two a block: the sums of its first 16 numbers and of the others.
    pub sums: &'a [i32],
}

impl Rounded {
    /// `x` is `[columns, cols]`, `cols` a multiple of 32.
    pub fn of(x: &[f32], cols: usize) -> Rounded {
        let columns = x.len() / cols;
        let wide = cols.next_multiple_of(2 * BLOCK);
        let blocks = wide / BLOCK;
        let mut numbers = vec![0; columns * wide];
        let mut scales = vec![0.0; columns * blocks * SCALES];
        let mut shares = vec![0.0; columns * blocks];
        let mut sums = vec![0; columns * blocks * 2];
        for (column, x) in x.chunks_exact(cols).enumerate() {
            let numbers = &mut numbers[column * wide..][..wide];
            let scales = &mut scales[column * blocks * SCALES..][..blocks * SCALES];
            let shares = &mut shares[column * blocks..][..blocks];
            let sums = &mut sums[column * blocks * 2..][..blocks * 2];
            let (x, _) = x.as_chunks::<BLOCK>();
            let (numbers, _) = numbers.as_chunks_mut::<BLOCK>();
            for (i, (x, numbers)) in x.iter().zip(numbers).enumerate() {
                let scale = round(x, numbers);
                for (sum, half) in sums[2 * i..].iter_mut().zip(numbers.chunks(BLOCK / 2)) {
                    *sum = half.iter().map(|n| i32::from(*n)).sum();
                }
                scales[i * SCALES..][..SCALES].fill(scale);
                shares[i] = scale * (sums[2 * i] + sums[2 * i + 1]) as f32;
            }
        }
        Rounded {
            cols: wide,
            numbers,
            scales,
            shares,
            sums,
        }
    }

    /// What rounding took away from `x`, `[columns, cols]`.
    pub fn rest(&self, x: &[f32], cols: usize) -> Vec<f32> {
        let mut rest = Vec::with_capacity(x.len());
        for (index, x) in x.chunks_exact(cols).enumerate() {
            let column = self.column(index);
            for (i, x) in x.chunks(BLOCK).enumerate() {
                let scale = column.scales[i * SCALES];
                let numbers = &column.numbers[i * BLOCK..];
                let taken = x
                    .iter()
                    .zip(numbers)
                    .map(|(x, n)| x - scale * f32::from(*n));
                rest.extend(taken);
            }
        }
        rest
    }

    pub fn column(&self, index: usize) -> RoundedColumn<'_> {
        let blocks = self.cols / BLOCK;
        RoundedColumn {
            numbers: self.numbers.get(index * self.cols..).unwrap_or_default(),
            scales: self
                .scales
                .get(index * blocks * SCALES..)
                .unwrap_or_default(),
            shares: self.shares.get(index * blocks..).unwrap_or_default(),
            sums: self.sums.get(index * blocks * 2..).unwrap_or_default(),
        }
    }
}

/// The numbers of a block; the scale that they are to be multiplied by, NaN if one of the block is
/// no finite number.
fn round(x: &[f32; BLOCK], numbers: &mut [i8; BLOCK]) -> f32 {
    const LANES: usize = 8;
    /// Adding it rounds to the nearest whole number, which then lies in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let (mut largest, mut bad) = ([0.0f32; LANES], [0.0f32; LANES]);
    for x in x.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            let size = x[i].abs();
            largest[i] = if size > largest[i] { size } else { largest[i] };
            // Nothing for a number, NaN for what is none.
            // 0 where x is a number, NaN where it is none or infinite.
            bad[i] += x[i] * 0.0;
        }
    }
    let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
    // Neither zero nor the smallest numbers have an inverse: they round to nothing.
    let inverse = match 127.0 / largest {
        inverse if inverse.is_finite() => inverse,
        _ => 0.0,
    };
    for (number, x) in numbers.iter_mut().zip(x) {
        *number = (x * inverse + ROUND).to_bits() as i8;
    }
    largest / 127.0 + bad.iter().sum::<f32>()
}
