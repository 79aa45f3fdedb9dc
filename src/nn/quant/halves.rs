//! Attention over keys and values that are kept as f16: they are widened in registers, once for all
//! queries that share them.

use half::f16;

#[cfg(target_arch = "x86_64")]
use super::InstructionSet;

/// Numbers that a register holds.
const LANES: usize = 16;

/// Whether there are kernels here for heads of this width.
pub fn suits(width: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    let there = InstructionSet::best() == InstructionSet::Avx512;
    #[cfg(not(target_arch = "x86_64"))]
    let there = false;
    there && width.is_multiple_of(LANES)
}

/// `scale * q.k` of each of `queries`, `[n, width]`, with each of `keys`, `[positions, width]`; the
/// results of a query begin `stride` numbers behind those of the one before.
///
/// # Panics
/// Where the lengths do not fit, or [`suits`] is false for the width.
pub fn scores(
    queries: &[f32],
    keys: &[f16],
    width: usize,
    scale: f32,
    scores: &mut [f32],
    stride: usize,
) {
    let (count, positions) = (queries.len() / width, keys.len() / width);
    assert!(suits(width) && queries.len() == count * width);
    assert!(positions <= stride && scores.len() + stride >= count * stride + positions);
    #[cfg(target_arch = "x86_64")]
    x86::in_fours(count, |first, some| {
        let queries = &queries[first * width..][..some * width];
        let scores = &mut scores[first * stride..];
        // SAFETY: the processor has AVX-512 (`suits`), and all lengths were looked at above.
        unsafe {
            match some {
                1 => x86::scores::<1>(queries, keys, width, scale, scores, stride),
                2 => x86::scores::<2>(queries, keys, width, scale, scores, stride),
                3 => x86::scores::<3>(queries, keys, width, scale, scores, stride),
                _ => x86::scores::<4>(queries, keys, width, scale, scores, stride),
            }
        }
    });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = scale;
}

/// Adds `values`, `[positions, width]`, to each of `out`, `[n, width]`, times its weight; the weights of
/// each begin `stride` numbers behind those of the one before.
///
/// # Panics
/// As [`scores`].
pub fn mix(weights: &[f32], stride: usize, values: &[f16], width: usize, out: &mut [f32]) {
    let (count, positions) = (out.len() / width, values.len() / width);
    assert!(suits(width) && out.len() == count * width);
    assert!(positions <= stride && weights.len() + stride >= count * stride + positions);
    #[cfg(target_arch = "x86_64")]
    x86::in_fours(count, |first, some| {
        let weights = &weights[first * stride..];
        let out = &mut out[first * width..][..some * width];
        // SAFETY: as in `scores`.
        unsafe {
            match some {
                1 => x86::mix::<1>(weights, stride, values, width, out),
                2 => x86::mix::<2>(weights, stride, values, width, out),
                3 => x86::mix::<3>(weights, stride, values, width, out),
                _ => x86::mix::<4>(weights, stride, values, width, out),
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::f16;

    use super::LANES;

    /// Keys whose products are summed together.
    const KEYS: usize = 4;
    /// Registers of a value that are summed together.
    const PARTS: usize = 4;

    /// Calls `f` with the first and the number of up to four items at a time.
    pub(super) fn in_fours(count: usize, mut f: impl FnMut(usize, usize)) {
        for first in (0..count).step_by(4) {
            f(first, (count - first).min(4));
        }
    }

    /// The sum of each of four registers.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    #[inline]
    fn sums(x: [__m512; KEYS]) -> __m128 {
        let a = _mm512_add_ps(
            _mm512_unpacklo_ps(x[0], x[1]),
            _mm512_unpackhi_ps(x[0], x[1]),
        );
        let b = _mm512_add_ps(
            _mm512_unpacklo_ps(x[2], x[3]),
            _mm512_unpackhi_ps(x[2], x[3]),
        );
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        let all = _mm512_add_ps(
            _mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)),
        );
        let upper = _mm512_shuffle_f32x4::<0b_01_00_11_10>(all, all);
        let half = _mm512_castps512_ps256(_mm512_add_ps(all, upper));
        _mm_add_ps(
            _mm256_castps256_ps128(half),
            _mm256_extractf128_ps::<1>(half),
        )
    }

    /// # Safety
    /// Sixteen numbers lie there.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    #[inline]
    unsafe fn widened(from: *const f16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    /// # Safety
    /// The processor has AVX-512F; `width` is a multiple of 16; `queries` are `G`, and `scores` has
    /// room for as many numbers as there are keys at each of `G` strides.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn scores<const G: usize>(
        queries: &[f32],
        keys: &[f16],
        width: usize,
        scale: f32,
        scores: &mut [f32],
        stride: usize,
    ) {
        let count = keys.len() / width;
        let (queries, keys, scores) = (queries.as_ptr(), keys.as_ptr(), scores.as_mut_ptr());
        let mut at = 0;
        while at + KEYS <= count {
            let mut all = [[_mm512_setzero_ps(); KEYS]; G];
            for part in (0..width).step_by(LANES) {
                // SAFETY: key, query and score are among those there are (the caller's promise).
                unsafe {
                    let k: [__m512; KEYS] =
                        std::array::from_fn(|i| widened(keys.add((at + i) * width + part)));
                    for (g, all) in all.iter_mut().enumerate() {
                        let q = _mm512_loadu_ps(queries.add(g * width + part));
                        for i in 0..KEYS {
                            all[i] = _mm512_fmadd_ps(q, k[i], all[i]);
                        }
                    }
                }
            }
            for (g, all) in all.into_iter().enumerate() {
                // SAFETY: as above.
                unsafe {
                    let four = _mm_mul_ps(sums(all), _mm_set1_ps(scale));
                    _mm_storeu_ps(scores.add(g * stride + at), four);
                }
            }
            at += KEYS;
        }
        for at in at..count {
            for g in 0..G {
                let mut sum = _mm512_setzero_ps();
                for part in (0..width).step_by(LANES) {
                    // SAFETY: as above.
                    unsafe {
                        let q = _mm512_loadu_ps(queries.add(g * width + part));
                        sum = _mm512_fmadd_ps(q, widened(keys.add(at * width + part)), sum);
                    }
                }
                let zero = _mm512_setzero_ps();
                // SAFETY: as above.
                unsafe {
                    let one = _mm_cvtss_f32(sums([sum, zero, zero, zero]));
                    *scores.add(g * stride + at) = scale * one;
                }
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512F; `width` is a multiple of 16; `out` is `[G, width]`, and `weights` has
    /// as many numbers as there are values at each of `G` strides.
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn mix<const G: usize>(
        weights: &[f32],
        stride: usize,
        values: &[f16],
        width: usize,
        out: &mut [f32],
    ) {
        let count = values.len() / width;
        let (weights, values, out) = (weights.as_ptr(), values.as_ptr(), out.as_mut_ptr());
        let mut part = 0;
        while part + PARTS * LANES <= width {
            // SAFETY: the parts are within the width.
            unsafe { mix_parts::<G, PARTS>(weights, stride, values, count, width, part, out) };
            part += PARTS * LANES;
        }
        while part < width {
            // SAFETY: as above, since the width is whole registers.
            unsafe { mix_parts::<G, 1>(weights, stride, values, count, width, part, out) };
            part += LANES;
        }
    }

    /// [`mix`] of `N` registers of each value, from number `part` on.
    ///
    /// # Safety
    /// As [`mix`], and the registers are within the width.
    #[allow(clippy::too_many_arguments, reason = "pieces of what `mix` is given")]
    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    #[inline]
    unsafe fn mix_parts<const G: usize, const N: usize>(
        weights: *const f32,
        stride: usize,
        values: *const f16,
        count: usize,
        width: usize,
        part: usize,
        out: *mut f32,
    ) {
        // SAFETY: the promise of `mix`.
        unsafe {
            let at = |g: usize, n: usize| out.add(g * width + part + n * LANES);
            let mut sums: [[__m512; N]; G] = std::array::from_fn(|g| {
                std::array::from_fn(|n| _mm512_loadu_ps(at(g, n).cast_const()))
            });
            for i in 0..count {
                let v: [__m512; N] =
                    std::array::from_fn(|n| widened(values.add(i * width + part + n * LANES)));
                for (g, sums) in sums.iter_mut().enumerate() {
                    let weight = _mm512_set1_ps(*weights.add(g * stride + i));
                    for n in 0..N {
                        sums[n] = _mm512_fmadd_ps(weight, v[n], sums[n]);
                    }
                }
            }
            for (g, sums) in sums.iter().enumerate() {
                for (n, sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(at(g, n), *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0
    }

    #[test]
    fn scores_and_mixtures_are_those_of_their_formulas() {
        for (width, count, positions) in
            [(32, 1, 9), (64, 3, 6), (80, 4, 3), (128, 7, 5), (256, 5, 8)]
        {
            if !suits(width) {
                continue;
            }
            let stride = positions + 2;
            let queries: Vec<f32> = (0..count * width).map(number).collect();
            let rows: Vec<f16> = (0..positions * width)
                .map(|i| f16::from_f32(number(i + 77)))
                .collect();
            let mut found = vec![-9.0; count * stride];
            scores(&queries, &rows, width, 0.5, &mut found, stride);
            let mut out = vec![0.25; count * width];
            mix(&found, stride, &rows, width, &mut out);
            for g in 0..count {
                for p in 0..positions {
                    let dot: f64 = (0..width)
                        .map(|i| f64::from(queries[g * width + i]) * rows[p * width + i].to_f64())
                        .sum();
                    let error = f64::from(found[g * stride + p]) - 0.5 * dot;
                    assert!(error.abs() < 1e-4, "{width} {error}");
                }
                for i in 0..width {
                    let mixed: f64 = (0..positions)
                        .map(|p| f64::from(found[g * stride + p]) * rows[p * width + i].to_f64())
                        .sum();
                    let error = f64::from(out[g * width + i]) - mixed - 0.25;
                    assert!(error.abs() < 1e-4, "{width} {error}");
                }
                let untouched = &found[g * stride + positions..(g + 1) * stride];
                assert!(untouched.iter().all(|x| *x == -9.0));
            }
        }
    }
}
