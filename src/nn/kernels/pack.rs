//! Packing of a product's right operand into strips of [`NR`] columns.

use super::gemm::NR;
use super::lanes::LANES;
#[cfg(target_arch = "x86_64")]
use super::simd::{Isa, isa};

/// A packed strip: `k` rows of [`NR`] columns, the columns past the matrix's edge zero.
pub(super) fn pack_strip(
    src: &[f32],
    ld: usize,
    k: usize,
    n0: usize,
    n: usize,
    out: &mut Vec<f32>,
) {
    let width = NR.min(n - n0);
    out.resize(k * NR, 0.0);
    for (row, to) in out.chunks_exact_mut(NR).enumerate() {
        let from = &src[row * ld + n0..row * ld + n0 + width];
        match <&[f32; NR]>::try_from(from) {
            Ok(whole) => to.copy_from_slice(whole),
            Err(_) => {
                to[..width].copy_from_slice(from);
                to[width..].fill(0.0);
            }
        }
    }
}

/// The packed strip of the transpose: column `n0 + j` of the strip is row `n0 + j` of `src [n, k]`
/// with row stride `ld`.
pub(super) fn pack_strip_transposed(
    src: &[f32],
    ld: usize,
    k: usize,
    n0: usize,
    n: usize,
    out: &mut Vec<f32>,
) {
    let width = NR.min(n - n0);
    out.resize(k * NR, 0.0);
    if width < NR {
        out.fill(0.0);
    }
    for j0 in (0..width).step_by(LANES) {
        let rows = LANES.min(width - j0);
        let whole = if rows == LANES { k / LANES * LANES } else { 0 };
        let from = &src[(n0 + j0) * ld..];
        for i in (0..whole).step_by(LANES) {
            let block = &from[i..i + (LANES - 1) * ld + LANES];
            transpose(block, ld, &mut out[i * NR + j0..]);
        }
        for j in 0..rows {
            for i in whole..k {
                out[i * NR + j0 + j] = from[j * ld + i];
            }
        }
    }
}

/// Sixteen rows of sixteen floats, `ld` apart, to as many rows, [`NR`] apart.
fn transpose(src: &[f32], ld: usize, out: &mut [f32]) {
    assert!(src.len() >= (LANES - 1) * ld + LANES && out.len() >= (LANES - 1) * NR + LANES);
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        // SAFETY: the processor has AVX-512, the lengths were checked.
        return unsafe { transpose_avx512(src.as_ptr(), ld, out.as_mut_ptr()) };
    }
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx2 {
        for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            let (from, to) = (&src[i * ld + j..], &mut out[j * NR + i..]);
            // SAFETY: the processor has AVX2; quarters lie within what was checked.
            unsafe { transpose_avx2(from.as_ptr(), ld, to.as_mut_ptr()) };
        }
        return;
    }
    for i in 0..LANES {
        for j in 0..LANES {
            out[i * NR + j] = src[j * ld + i];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_avx512(src: *const f32, ld: usize, out: *mut f32) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        let mut a = [_mm512_setzero_ps(); 16];
        let mut b = [_mm512_setzero_ps(); 16];
        for i in 0..16 {
            a[i] = _mm512_loadu_ps(src.add(i * ld));
        }
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
        }
        // Lane of four l of `a[4 * i + j]` then holds column 4 l + j of rows 4 i to 4 i + 3.
        for i in 0..4 {
            let [b0, b1, b2, b3] = [0, 1, 2, 3].map(|j| _mm512_castps_pd(b[4 * i + j]));
            a[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(b0, b2));
            a[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(b0, b2));
            a[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b1, b3));
            a[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b1, b3));
        }
        for j in 0..4 {
            for half in [0, 8] {
                let (upper, lower) = (a[half + j], a[half + 4 + j]);
                b[half + j] = _mm512_shuffle_f32x4::<0x88>(upper, lower);
                b[half + 4 + j] = _mm512_shuffle_f32x4::<0xdd>(upper, lower);
            }
        }
        for j in 0..8 {
            let left = _mm512_shuffle_f32x4::<0x88>(b[j], b[8 + j]);
            let right = _mm512_shuffle_f32x4::<0xdd>(b[j], b[8 + j]);
            _mm512_storeu_ps(out.add(j * NR), left);
            _mm512_storeu_ps(out.add((8 + j) * NR), right);
        }
    }
}

/// Eight rows of eight floats.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_avx2(src: *const f32, ld: usize, out: *mut f32) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise.
    unsafe {
        // Each register holds four floats of a row and four of the one four further down, so that
        // what is left is to transpose fours.
        let four = |row: usize, column: usize| {
            let upper = _mm_loadu_ps(src.add(row * ld + column));
            let lower = _mm_loadu_ps(src.add((row + 4) * ld + column));
            _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(upper), lower)
        };
        for column in [0, 4] {
            let rows = [0, 1, 2, 3].map(|row| four(row, column));
            let low = [
                _mm256_unpacklo_ps(rows[0], rows[1]),
                _mm256_unpacklo_ps(rows[2], rows[3]),
            ];
            let high = [
                _mm256_unpackhi_ps(rows[0], rows[1]),
                _mm256_unpackhi_ps(rows[2], rows[3]),
            ];
            let to = out.add(column * NR);
            _mm256_storeu_ps(to, _mm256_shuffle_ps::<0x44>(low[0], low[1]));
            _mm256_storeu_ps(to.add(NR), _mm256_shuffle_ps::<0xee>(low[0], low[1]));
            _mm256_storeu_ps(to.add(2 * NR), _mm256_shuffle_ps::<0x44>(high[0], high[1]));
            _mm256_storeu_ps(to.add(3 * NR), _mm256_shuffle_ps::<0xee>(high[0], high[1]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernels::simd::on_every_isa;

    #[test]
    fn strips_hold_the_matrix_and_zeros() {
        on_every_isa(|| {
            let (rows, cols) = (70, 37);
            let src: Vec<f32> = (0..rows * cols).map(|i| i as f32 + 1.0).collect();
            let mut strip = vec![9.0; 5000];
            for n0 in [0, 32] {
                pack_strip(&src, cols, rows, n0, cols, &mut strip);
                for i in 0..rows * NR {
                    let (row, col) = (i / NR, n0 + i % NR);
                    let expected = if col < cols {
                        src[row * cols + col]
                    } else {
                        0.0
                    };
                    assert_eq!(strip[i], expected);
                }
            }
            for n0 in [0, 32, 64] {
                pack_strip_transposed(&src, cols, cols, n0, rows, &mut strip);
                for i in 0..cols * NR {
                    let (row, col) = (n0 + i % NR, i / NR);
                    let expected = if row < rows {
                        src[row * cols + col]
                    } else {
                        0.0
                    };
                    assert_eq!(strip[i], expected);
                }
            }
        });
    }
}
