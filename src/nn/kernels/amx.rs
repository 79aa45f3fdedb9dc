//! Products of matrices on the tile unit of newer x86 processors (AMX), to the precision of f32: each
//! number is the sum of three bf16, and six of their nine products are added up (the others are
//! below 2^-24 of the result). With two, the gradients behind a chain of norms were off by 1e-2. The
//! unit does some twenty times the work of AVX-512, which is left threefold.

use super::conv::OutPtr;
use super::linear::Matrix;
use super::simd::dispatch;
use rayon::prelude::*;
use std::arch::asm;

/// Rows and columns of a block of the result: two tiles each way.
const SIDE: usize = 32;
/// Terms of a product that a tile holds.
const STEP: usize = 32;
/// Bytes of a tile.
const TILE: usize = 1024;
/// Pairs of bf16 of a block's operand for one step: two tiles each of first, second and third parts.
const OPERAND: usize = 6 * TILE / 4;
/// Steps of columns that are packed together: with 128 columns they fill a quarter of the second
/// cache.
const DEEP: usize = 32;
/// Most columns packed together.
const WIDE: usize = 4 * SIDE;

/// `x` as three bf16 in the upper halves of words; what is not finite stays so in the first.
#[inline(always)]
fn parts(x: f32) -> [u32; 3] {
    let round = |x: f32| {
        let bits = x.to_bits();
        let up = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let nan = bits & 0x7fff_ffff > 0x7f80_0000;
        (if nan { bits | 0x40_0000 } else { up }) & 0xffff_0000
    };
    let first = round(x);
    let rest = x - f32::from_bits(first);
    let second = round(rest);
    [first, second, round(rest - f32::from_bits(second))]
}

/// Puts two neighbouring terms into word `at` of all three tiles.
#[inline(always)]
fn put(to: &mut [&mut [u32]; 3], at: usize, even: f32, odd: f32) {
    let (even, odd) = (parts(even), parts(odd));
    for part in 0..3 {
        to[part][at] = even[part] >> 16 | odd[part];
    }
}

/// The words `range` of each of the three parts of an operand.
#[inline(always)]
fn thirds(out: &mut [u32], range: std::ops::Range<usize>) -> [&mut [u32]; 3] {
    let (first, rest) = out.split_at_mut(OPERAND / 3);
    let (second, third) = rest.split_at_mut(OPERAND / 3);
    [first, second, third].map(|part| &mut part[range.clone()])
}

dispatch! {
    /// Packs the terms `k0 .. k0 + STEP` of 32 rows from `i0`; what lies outside is zero. A row of a
    /// tile is a row of the matrix.
    fn pack_rows(a: Matrix<'_>, m: usize, k: usize, i0: usize, k0: usize, out: &mut [u32]) {
        let Matrix(a, rs, cs) = a;
        let (rows, terms) = (SIDE.min(m - i0), STEP.min(k - k0));
        if rows < SIDE || terms < STEP {
            out.fill(0);
        }
        for i in 0..rows {
            let from = (i0 + i) * rs + k0 * cs;
            let mut to = thirds(out, i * 16..(i + 1) * 16);
            if cs == 1 && terms == STEP {
                let row: &[f32] = &a[from..from + STEP];
                for p in 0..16 {
                    put(&mut to, p, row[2 * p], row[2 * p + 1]);
                }
                continue;
            }
            for p in 0..terms.div_ceil(2) {
                let odd = match 2 * p + 1 < terms {
                    true => a[from + (2 * p + 1) * cs],
                    false => 0.0,
                };
                put(&mut to, p, a[from + 2 * p * cs], odd);
            }
        }
    }
}

dispatch! {
    /// Packs the terms `k0 .. k0 + STEP` of 32 columns from `j0`. A row of a tile holds two
    /// neighbouring terms of 16 columns.
    fn pack_columns(b: Matrix<'_>, k: usize, n: usize, k0: usize, j0: usize, out: &mut [u32]) {
        let Matrix(b, rs, cs) = b;
        let (terms, columns) = (STEP.min(k - k0), SIDE.min(n - j0));
        if terms < STEP || columns < SIDE {
            out.fill(0);
        }
        for half in 0..columns.div_ceil(16) {
            let width = (columns - 16 * half).min(16);
            let tile = half * TILE / 4;
            let first = k0 * rs + (j0 + 16 * half) * cs;
            for p in 0..terms.div_ceil(2) {
                let even = first + 2 * p * rs;
                let mut to = thirds(out, tile + p * 16..tile + p * 16 + width);
                if cs == 1 && 2 * p + 1 < terms {
                    let (x, y) = (&b[even..even + width], &b[even + rs..even + rs + width]);
                    for j in 0..width {
                        put(&mut to, j, x[j], y[j]);
                    }
                    continue;
                }
                for j in 0..width {
                    let odd = match 2 * p + 1 < terms {
                        true => b[even + rs + j * cs],
                        false => 0.0,
                    };
                    put(&mut to, j, b[even + j * cs], odd);
                }
            }
        }
    }
}

/// What the tiles look like: all eight of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shape([u8; 64]);

const SHAPE: Shape = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut i = 0;
    while i < 8 {
        bytes[16 + 2 * i] = 64;
        bytes[48 + i] = 16;
        i += 1;
    }
    Shape(bytes)
};

/// A block of the result.
#[repr(C, align(64))]
struct Block([f32; SIDE * SIDE]);

/// Adds the product of packed rows and columns to `block`.
fn multiply(a: &[u32], b: &[u32], block: &mut Block) {
    let steps = a.len() / OPERAND;
    assert!(steps > 0 && a.len() == steps * OPERAND && b.len() == a.len());
    // SAFETY: the caller has asked whether there is a tile unit. Every step reads `OPERAND` words
    // of both operands, of which there are `steps`; the block is as large as its four tiles. The
    // compiler keeps nothing in tiles, and they are released at the end.
    unsafe {
        asm!(
            "ldtilecfg [{shape}]",
            "tileloadd tmm0, [{c} + {wide}]",
            "tileloadd tmm1, [{c} + {wide} + 64]",
            "tileloadd tmm2, [{c} + {wide} + 2048]",
            "tileloadd tmm3, [{c} + {wide} + 2112]",
            "2:",
            "tileloadd tmm4, [{a} + {row}]",
            "tileloadd tmm5, [{a} + {row} + 1024]",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b} + {row} + 2048]",
            "tileloadd tmm7, [{b} + {row} + 3072]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b} + {row} + 4096]",
            "tileloadd tmm7, [{b} + {row} + 5120]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{a} + {row} + 2048]",
            "tileloadd tmm5, [{a} + {row} + 3072]",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm6, [{b} + {row} + 2048]",
            "tileloadd tmm7, [{b} + {row} + 3072]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "tileloadd tmm4, [{a} + {row} + 4096]",
            "tileloadd tmm5, [{a} + {row} + 5120]",
            "tileloadd tmm6, [{b} + {row}]",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 6144",
            "add {b}, 6144",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {wide}], tmm0",
            "tilestored [{c} + {wide} + 64], tmm1",
            "tilestored [{c} + {wide} + 2048], tmm2",
            "tilestored [{c} + {wide} + 2112], tmm3",
            "tilerelease",
            shape = in(reg) SHAPE.0.as_ptr(),
            c = in(reg) block.0.as_mut_ptr(),
            a = inout(reg) a.as_ptr() => _,
            b = inout(reg) b.as_ptr() => _,
            steps = inout(reg) steps => _,
            wide = in(reg) 128usize,
            row = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// `out [m, n] = a [m, k] * b [k, n]`, on top of what `out` holds with `add`.
///
/// # Safety
/// The processor has a tile unit and the system lets this program use it.
pub(super) unsafe fn product(
    (m, k, n): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    add: bool,
    out: &mut [f32],
) {
    assert!(out.len() == m * n && m > 0 && n > 0 && k > 0);
    let (blocks, steps) = (m.div_ceil(SIDE), k.div_ceil(STEP));
    let mut rows = vec![0u32; blocks * steps * OPERAND];
    rows.par_chunks_mut(OPERAND)
        .enumerate()
        .for_each(|(at, to)| {
            let (i, s) = (at / steps, at % steps);
            pack_rows(a, m, k, i * SIDE, s * STEP, to);
        });
    let share = n.div_ceil(rayon::current_num_threads()).div_ceil(SIDE) * SIDE;
    let wide = share.min(WIDE);
    let out = OutPtr(out.as_mut_ptr());
    (0..n.div_ceil(wide)).into_par_iter().for_each(|task| {
        let columns = task * wide..((task + 1) * wide).min(n);
        let strips = columns.len().div_ceil(SIDE);
        let mut packed = vec![0u32; strips * DEEP.min(steps) * OPERAND];
        let mut block = Block([0.0; SIDE * SIDE]);
        for s0 in (0..steps).step_by(DEEP) {
            let deep = DEEP.min(steps - s0);
            for (at, to) in packed
                .chunks_exact_mut(OPERAND)
                .take(strips * deep)
                .enumerate()
            {
                let (strip, s) = (at / deep, at % deep);
                pack_columns(b, k, n, (s0 + s) * STEP, columns.start + strip * SIDE, to);
            }
            for i in 0..blocks {
                let from = (i * steps + s0) * OPERAND;
                let a = &rows[from..from + deep * OPERAND];
                let height = SIDE.min(m - i * SIDE);
                for (strip, b) in packed.chunks_exact(deep * OPERAND).take(strips).enumerate() {
                    let j0 = columns.start + strip * SIDE;
                    let width = SIDE.min(n - j0);
                    let at = |row: usize| (i * SIDE + row) * n + j0;
                    let held = add || s0 > 0;
                    for row in 0..height {
                        let block = &mut block.0[row * SIDE..row * SIDE + width];
                        match held {
                            // SAFETY: rows and columns lie within `out`, and no other task has these
                            // columns.
                            true => block.copy_from_slice(unsafe {
                                std::slice::from_raw_parts(out.at(at(row)), width)
                            }),
                            false => block.fill(0.0),
                        }
                    }
                    multiply(a, b, &mut block);
                    for row in 0..height {
                        // SAFETY: as above.
                        let to = unsafe { std::slice::from_raw_parts_mut(out.at(at(row)), width) };
                        to.copy_from_slice(&block.0[row * SIDE..row * SIDE + width]);
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernels::simd::tiles;
    use crate::nn::noise;
    use candle_core::Device;

    fn draw(stream: u64, len: usize) -> Vec<f32> {
        let all = noise(3, stream, &[len], &Device::Cpu).unwrap();
        all.to_vec1().unwrap()
    }

    #[test]
    fn products_of_all_sizes_and_strides_are_those_of_f64() {
        if !tiles() {
            return eprintln!("this machine has no tile unit");
        }
        for (m, k, n) in [
            (1, 1, 1),
            (5, 33, 31),
            (32, 32, 32),
            (70, 1100, 45),
            (33, 64, 300),
        ] {
            let (a, b) = (draw(0, m * k), draw(1, k * n));
            for (ta, tb, add) in [
                (false, false, false),
                (true, false, true),
                (false, true, true),
            ] {
                let a = if ta {
                    Matrix(&a, 1, m)
                } else {
                    Matrix(&a, k, 1)
                };
                let b = if tb {
                    Matrix(&b, 1, k)
                } else {
                    Matrix(&b, n, 1)
                };
                let before = draw(2, m * n);
                let mut out = before.clone();
                // SAFETY: there is a tile unit.
                unsafe { product((m, k, n), a, b, add, &mut out) };
                let mut furthest = 0f64;
                for (at, got) in out.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let term = |t: usize| {
                        f64::from(a.0[i * a.1 + t * a.2]) * f64::from(b.0[t * b.1 + j * b.2])
                    };
                    let held = if add { f64::from(before[at]) } else { 0.0 };
                    let exact = held + (0..k).map(term).sum::<f64>();
                    furthest = furthest.max((exact - f64::from(*got)).abs());
                }
                let scale = (k as f64).sqrt().max(1.0);
                assert!(
                    furthest < 4e-6 * scale,
                    "{m} {k} {n}: {furthest} of {scale}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for bad in [
            f32::NAN,
            -f32::NAN,
            f32::from_bits(0x7fff_ffff),
            f32::INFINITY,
        ] {
            assert!(!f32::from_bits(parts(bad)[0]).is_finite());
        }
        for x in [1.0, -3.333_333_3, 1e-30, 65_504.1, 0.0] {
            let sum: f32 = parts(x).into_iter().rev().map(f32::from_bits).sum();
            assert_eq!(sum, x);
        }
    }
}
