//! The work between the products: attention over the cache, SwiGLU.
//!
//! Written as plain loops that the compiler turns into vector code once per instruction set.

use super::super::kernels::simd::FUSED;
#[cfg(target_arch = "x86_64")]
use super::InstructionSet;

const LANES: usize = 16;

/// Makes a function that runs `$body` compiled for the best instruction set there is.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) = $body:ident) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512($($arg: $type),*) { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) { $body::<true>($($arg),*) }
                match InstructionSet::best() {
                    // SAFETY (both): the processor has been asked for it.
                    InstructionSet::Avx512 => return unsafe { avx512($($arg),*) },
                    InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    InstructionSet::Portable => {}
                }
            }
            $body::<FUSED>($($arg),*)
        }
    };
}

dispatch! {
    /// One query's attention over the cache: `out = softmax(scale * q.k) v`.
    ///
    /// `query` and `out` are `[width]`, `keys` and `values` `[positions, width]`, `scores` at
    /// least `[positions]`; `width` is a multiple of 16.
    pub fn attend(query: &[f32], keys: &[f32], values: &[f32], scale: f32, scores: &mut [f32], out: &mut [f32]) = attend_body
}

#[inline(always)]
fn attend_body<const FMA: bool>(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let width = query.len();
    let scores = &mut scores[..keys.len() / width];
    let mut largest = f32::NEG_INFINITY;
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
        *score = scale * dot::<FMA>(query, key);
        largest = largest.max(*score);
    }
    for score in scores.iter_mut() {
        *score = exp::<FMA>(*score - largest);
    }
    let total: f32 = scores.iter().sum();
    out.fill(0.0);
    for (score, value) in scores.iter().zip(values.chunks_exact(width)) {
        let weight = score / total;
        for (out, value) in out.iter_mut().zip(value) {
            *out = fused::<FMA>(weight, *value, *out);
        }
    }
}

dispatch! {
    /// SwiGLU: `gate = silu(gate) * up`, element by element.
    pub fn swiglu(gate: &mut [f32], up: &[f32]) = swiglu_body
}

#[inline(always)]
fn swiglu_body<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<FMA>(-*gate)) * up;
    }
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a, _) = a.as_chunks::<LANES>();
    let (b, _) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = fused::<FMA>(a[lane], b[lane], sums[lane]);
        }
    }
    sums.iter().sum()
}

/// `a * b + c`; rounded once only where that is one instruction, since it is a slow call elsewhere.
#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e to the power of x within 2 units in the last place, without a branch or a call so that loops
/// over it become vector code. Cephes' `expf`: reduce by powers of two, then a polynomial.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let power = fused::<FMA>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let rest = fused::<FMA>(power, -0.693_359_4, x);
    let rest = fused::<FMA>(power, 2.121_944_4e-4, rest);
    let mut sum = 1.987_569_2e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = fused::<FMA>(sum, rest, coefficient);
    }
    let sum = fused::<FMA>(sum * rest, rest, rest + 1.0);
    sum * f32::from_bits((((power as i32) + 127) << 23).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_few_units_of_the_exact_one() {
        for i in -8600..8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            for found in [exp::<true>(x), exp::<false>(x)] {
                let error = (f64::from(found) - exact).abs() / exact;
                assert!(error < 3e-7, "exp({x}) = {found}, not {exact}");
            }
        }
    }

    #[test]
    fn attention_is_a_softmax_weighted_mean_of_the_values() {
        let width = 32;
        let positions = 7;
        let number = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        let query: Vec<f32> = (0..width).map(number).collect();
        let keys: Vec<f32> = (100..100 + width * positions).map(number).collect();
        let values: Vec<f32> = (900..900 + width * positions).map(number).collect();
        let mut out = vec![0.0; width];
        attend(&query, &keys, &values, 0.5, &mut [0.0; 9], &mut out);
        let weights: Vec<f64> = keys
            .chunks_exact(width)
            .map(|key| {
                let dot: f64 = key
                    .iter()
                    .zip(&query)
                    .map(|(k, q)| f64::from(*k) * f64::from(*q))
                    .sum();
                (0.5 * dot).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        for (i, found) in out.iter().enumerate() {
            let expected: f64 = weights
                .iter()
                .enumerate()
                .map(|(t, w)| w / total * f64::from(values[t * width + i]))
                .sum();
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
    }
}
