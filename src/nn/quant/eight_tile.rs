//! Many columns of 8-bit activations at once, with AVX-512: the weights of sixteen rows are laid
//! side by side, four bytes of each, so that one instruction multiplies four activations with all
//! sixteen rows, and scales are applied once for 32 weights instead of once for four.

use std::arch::x86_64::*;

use super::BLOCK;
use super::eight::{RoundedColumn, SCALES};
use super::eight_avx512::Format;
use super::unpack::{self, Group, Unpack, group};

/// Rows of a tile.
pub(super) const ROWS: usize = 16;

/// Sixteen rows of weights, block after block of 32.
#[derive(Default)]
pub(super) struct Tile {
    /// Eight times four weights of each row, a block.
    numbers: Vec<[u32; ROWS]>,
    /// Two a block: of its first 16 weights and of the others.
    scales: Vec<[f32; ROWS]>,
    /// Two a block: what is taken away from each of those weights after scaling.
    minima: Vec<[f32; ROWS]>,
}

/// What the weights in a [`Tile`] have.
pub(super) trait Kind {
    /// What is to be taken away from each weight's byte.
    const OFFSET: i8;
    /// Whether each 16 weights have a scale of their own.
    const HALVES: bool;
    /// Whether there are minima.
    const MINIMA: bool;
}

/// The [`Kind`] of a [`Format`].
pub(super) struct Packed<F>(std::marker::PhantomData<F>);
/// The [`Kind`] of an [`Unpack`].
pub(super) struct Unpacked<F>(std::marker::PhantomData<F>);

impl<F: Format> Kind for Packed<F> {
    const OFFSET: i8 = F::OFFSET;
    const HALVES: bool = F::HALVES;
    const MINIMA: bool = F::MINIMA;
}

impl<F: Unpack> Kind for Unpacked<F> {
    const OFFSET: i8 = -128;
    const HALVES: bool = F::HALVES;
    const MINIMA: bool = F::MINIMA;
}

impl Tile {
    /// Lays out the weights of these rows.
    ///
    /// # Safety
    /// The processor has AVX-512F, BW, VL, VNNI, AVX2 and F16C; the rows are as long as each
    /// other and hold whole blocks of the format.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn pack<F: Format>(&mut self, rows: &[&[u8]; ROWS]) {
        let whole = rows[0].len() / F::BYTES;
        let rest = !rows[0].len().is_multiple_of(F::BYTES);
        let blocks = whole * F::PARTS + if rest { 2 } else { 0 };
        self.resize(blocks);
        // SAFETY: the rows hold these blocks; the vectors were made large enough.
        unsafe {
            for index in 0..whole {
                let block: [*const u8; ROWS] =
                    std::array::from_fn(|r| rows[r].as_ptr().wrapping_add(index * F::BYTES));
                let mut heads = [F::head(block[0]); ROWS];
                for r in 1..ROWS {
                    heads[r] = F::head(block[r]);
                }
                for (i, &(first, second)) in F::PAIRS.iter().enumerate() {
                    let mut pairs = [(_mm512_setzero_si512(), _mm512_setzero_ps()); ROWS];
                    for r in 0..ROWS {
                        pairs[r] = F::pair(block[r], heads[r], i);
                    }
                    let at = index * F::PARTS;
                    self.put(&pairs, at + first, at + second);
                }
                if F::MINIMA {
                    let mut minima = [_mm512_setzero_si512(); ROWS];
                    for r in 0..ROWS {
                        if let Some(own) = F::minima(heads[r]) {
                            minima[r] = _mm512_castps_si512(own);
                        }
                    }
                    transpose(&mut minima);
                    for part in 0..F::PARTS {
                        for half in 0..2 {
                            let at = 2 * (index * F::PARTS + part) + half;
                            let to = self.minima[at].as_mut_ptr();
                            _mm512_storeu_si512(to.cast(), minima[part]);
                        }
                    }
                }
            }
            if rest {
                let mut pairs = [(_mm512_setzero_si512(), _mm512_setzero_ps()); ROWS];
                for r in 0..ROWS {
                    pairs[r] = F::last(rows[r].as_ptr().wrapping_add(whole * F::BYTES));
                }
                let at = whole * F::PARTS;
                self.put(&pairs, at, at + 1);
            }
        }
    }

    fn resize(&mut self, blocks: usize) {
        self.numbers.resize(blocks * SCALES, [0; ROWS]);
        self.scales.resize(blocks * 2, [0.0; ROWS]);
        self.minima.resize(blocks * 2, [0.0; ROWS]);
    }

    /// Lays out the weights of these rows, whose blocks are unpacked to bytes.
    ///
    /// # Safety
    /// As [`Tile::pack`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn pack_unpacked<F: Unpack>(&mut self, rows: &[&[u8]; ROWS]) {
        let parts = rows[0].len() / F::BYTES * F::PARTS;
        self.resize(parts.next_multiple_of(2));
        let mut groups = [Group::EMPTY; ROWS];
        for first in (0..parts).step_by(unpack::PARTS) {
            let count = unpack::PARTS.min(parts - first);
            for r in 0..ROWS {
                group::<F>(rows[r], first, count, &mut groups[r]);
                if F::MINIMA {
                    for half in 0..2 * count {
                        self.minima[2 * first + half][r] = groups[r].minima[half];
                    }
                }
            }
            for pair in 0..count.div_ceil(2) {
                let fours = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
                let which = _mm512_add_epi32(fours, _mm512_set1_epi32(4 * pair as i32));
                let mut pairs = [(_mm512_setzero_si512(), _mm512_setzero_ps()); ROWS];
                // SAFETY: groups have room for eight parts; the vectors were made large enough.
                unsafe {
                    for r in 0..ROWS {
                        let bytes = groups[r].numbers.as_ptr().add(2 * pair * BLOCK);
                        let bytes = _mm512_load_si512(bytes.cast());
                        let scales = _mm512_load_ps(groups[r].scales.as_ptr());
                        pairs[r] = (
                            _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)),
                            _mm512_permutexvar_ps(which, scales),
                        );
                    }
                    self.put(&pairs, first + 2 * pair, first + 2 * pair + 1);
                }
            }
        }
    }

    /// Puts two parts of all rows where they belong.
    ///
    /// # Safety
    /// As [`Tile::pack`].
    #[inline(always)]
    unsafe fn put(&mut self, pairs: &[(__m512i, __m512); ROWS], first: usize, second: usize) {
        // SAFETY: as for this function; each array holds a register's lanes.
        unsafe {
            let mut fours = [pairs[0].0; ROWS];
            let mut scales = [_mm512_castps_si512(pairs[0].1); ROWS];
            for r in 1..ROWS {
                fours[r] = pairs[r].0;
                scales[r] = _mm512_castps_si512(pairs[r].1);
            }
            transpose(&mut fours);
            transpose(&mut scales);
            for (half, part) in [first, second].into_iter().enumerate() {
                for i in 0..SCALES {
                    let to = self.numbers[part * SCALES + i].as_mut_ptr();
                    _mm512_storeu_si512(to.cast(), fours[half * SCALES + i]);
                }
                for i in 0..2 {
                    let to = self.scales[2 * part + i].as_mut_ptr();
                    let own = scales[half * SCALES + i * SCALES / 2];
                    _mm512_storeu_si512(to.cast(), own);
                }
            }
        }
    }

    /// The products of the rows with each column.
    ///
    /// # Safety
    /// As [`Tile::pack`], which was called for the same format; columns are as long as its rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(super) unsafe fn multiply<F: Kind, const N: usize>(
        &self,
        columns: &[RoundedColumn; N],
    ) -> [[f32; ROWS]; N] {
        let mut sums = [_mm512_setzero_ps(); N];
        for block in 0..self.scales.len() / 2 {
            // SAFETY: columns hold the block.
            unsafe {
                let numbers = self.numbers.as_ptr().add(block * SCALES);
                let halves = if F::HALVES { 2 } else { 1 };
                for half in 0..halves {
                    let own = _mm512_loadu_ps(self.scales[2 * block + half].as_ptr());
                    let mut products = [_mm512_setzero_si512(); N];
                    for n in 0..N {
                        let sums = columns[n].sums.as_ptr().add(2 * block);
                        let sum = match F::HALVES {
                            true => *sums.add(half),
                            false => *sums + *sums.add(1),
                        };
                        // The offset's byte counts as unsigned.
                        let offset = i32::from(F::OFFSET.cast_unsigned());
                        products[n] = _mm512_set1_epi32(-offset * sum);
                    }
                    let fours = SCALES / halves;
                    for i in half * fours..(half + 1) * fours {
                        let weights = _mm512_loadu_si512(numbers.add(i).cast());
                        for n in 0..N {
                            let x = columns[n].numbers.as_ptr().add(block * BLOCK + 4 * i);
                            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
                            products[n] = _mm512_dpbusd_epi32(products[n], weights, x);
                        }
                    }
                    for n in 0..N {
                        let scale = *columns[n].scales.as_ptr().add(block * SCALES);
                        let scale = _mm512_mul_ps(own, _mm512_set1_ps(scale));
                        let product = _mm512_cvtepi32_ps(products[n]);
                        sums[n] = _mm512_fmadd_ps(product, scale, sums[n]);
                        if F::MINIMA && F::HALVES {
                            let minima = self.minima[2 * block + half].as_ptr();
                            let sum = *columns[n].sums.as_ptr().add(2 * block + half) as f32;
                            let share = sum * *columns[n].each.as_ptr().add(block);
                            let minima = _mm512_loadu_ps(minima);
                            sums[n] = _mm512_fnmadd_ps(minima, _mm512_set1_ps(share), sums[n]);
                        }
                    }
                }
                if F::MINIMA && !F::HALVES {
                    let minima = _mm512_loadu_ps(self.minima[2 * block].as_ptr());
                    for n in 0..N {
                        let share = _mm512_set1_ps(*columns[n].shares.as_ptr().add(block));
                        sums[n] = _mm512_fnmadd_ps(minima, share, sums[n]);
                    }
                }
            }
        }
        let mut out = [[0.0; ROWS]; N];
        for n in 0..N {
            // SAFETY: the array has room for the register.
            unsafe { _mm512_storeu_ps(out[n].as_mut_ptr(), sums[n]) };
        }
        out
    }
}

/// Sixteen registers of sixteen lanes become their transpose.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn transpose(a: &mut [__m512i; 16]) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut b = *a;
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        // Lane of four l of `a[4 * i + j]` then holds column 4 l + j of rows 4 i to 4 i + 3.
        for i in 0..4 {
            a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
            a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
        }
        for j in 0..4 {
            for half in [0, 8] {
                let (upper, lower) = (a[half + j], a[half + 4 + j]);
                b[half + j] = _mm512_shuffle_i32x4::<0x88>(upper, lower);
                b[half + 4 + j] = _mm512_shuffle_i32x4::<0xdd>(upper, lower);
            }
        }
        for j in 0..8 {
            a[j] = _mm512_shuffle_i32x4::<0x88>(b[j], b[8 + j]);
            a[8 + j] = _mm512_shuffle_i32x4::<0xdd>(b[j], b[8 + j]);
        }
    }
}
