//! Activations rounded to 16 bits, for a single column of weights of 4 bits in blocks of 32: whole
//! numbers multiply those twice as fast as f32, and what is rounded away is a 65,000th of the
//! largest of 32 activations.

use super::super::kernels::simd::dispatch;
use super::BLOCK;

/// Columns of activations as whole numbers from -32767 to 32767.
#[derive(Default)]
pub(super) struct Sixteen {
    numbers: Vec<i16>,
    sides: Vec<[f32; 2]>,
}

/// One column of [`Sixteen`].
#[derive(Clone, Copy)]
pub(super) struct SixteenColumn<'a> {
    pub numbers: &'a [i16],
    /// Of each 32 numbers their scale, and the sum of the activations that they stand for.
    pub sides: &'a [[f32; 2]],
}

impl Sixteen {
    /// `x` is `[columns, cols]`, `cols` a multiple of 32.
    pub fn of(x: &[f32]) -> Self {
        let mut to = Self {
            numbers: vec![0; x.len()],
            sides: vec![[0.0; 2]; x.len() / BLOCK],
        };
        round(x, &mut to.numbers, &mut to.sides);
        to
    }

    pub fn column(&self, index: usize, cols: usize) -> SixteenColumn<'_> {
        let blocks = cols / BLOCK;
        SixteenColumn {
            numbers: self.numbers.get(index * cols..).unwrap_or_default(),
            sides: self.sides.get(index * blocks..).unwrap_or_default(),
        }
    }
}

/// Adding it rounds to the nearest whole number, which then lies in the lowest bits.
const ROUND: f32 = 12_582_912.0;
const LARGEST: f32 = i16::MAX as f32;

dispatch! {
    fn round(x: &[f32], numbers: &mut [i16], sides: &mut [[f32; 2]]) {
        let (x, numbers) = (x.as_chunks::<BLOCK>().0, numbers.as_chunks_mut::<BLOCK>().0);
        for ((x, numbers), side) in x.iter().zip(numbers).zip(sides) {
            let (mut largest, mut bad) = ([0.0f32; 8], [0.0f32; 8]);
            for x in x.as_chunks::<8>().0 {
                for i in 0..8 {
                    let size = x[i].abs();
                    largest[i] = if size > largest[i] { size } else { largest[i] };
                    // 0 where x is a number, NaN where it is none or infinite.
                    bad[i] += x[i] * 0.0;
                }
            }
            let largest = largest.iter().fold(0.0f32, |a, b| a.max(*b));
            let inverse = LARGEST / largest;
            // Neither zero nor the smallest numbers have an inverse: they round to nothing.
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            let mut sum = 0;
            for (number, x) in numbers.iter_mut().zip(x) {
                *number = (x * inverse + ROUND).to_bits() as i16;
                sum += i32::from(*number);
            }
            // NaN where one of them is no finite number, and with it all that is multiplied by it.
            let scale = largest / LARGEST + bad.iter().sum::<f32>();
            *side = [scale, scale * sum as f32];
        }
    }
}
