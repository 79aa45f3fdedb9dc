//! Products of 8-bit activations with a single column, with AVX-512, of the formats whose blocks of 32
//! are sixteen bytes of nibbles: four blocks fill two registers, one of low nibbles and one of high
//! ones, and the products of a block end in the same four lanes of both, so that they are scaled
//! once.

#![allow(
    clippy::needless_range_loop,
    reason = "registers are kept by index; iterating would hide which is which"
)]

use std::arch::x86_64::*;

use super::avx2::{fetch_ahead, half};
use super::eight::RoundedColumn;
use super::unpack::{FP4, IQ4, iq4_xs_scales};
use super::{BLOCK, QuantType};

/// Blocks that are multiplied together.
const FOUR: usize = 4;

/// A way to store weights.
///
/// # Safety
/// The methods use AVX-512F, BW, DQ, VL, AVX2 and F16C without saying so, since traits can't: they are
/// called from [`row_products`] only, and inlined there.
unsafe trait Fours {
    /// Bytes of `GROUPS` times four blocks.
    const BYTES: usize;
    const GROUPS: usize = 1;
    /// Bytes of a block, where blocks can be read one by one.
    const BLOCK_BYTES: usize = Self::BYTES / FOUR;
    /// What is to be taken away from each weight's byte.
    const OFFSET: u8;
    const MINIMA: bool = false;
    type Head: Copy;
    /// # Safety
    /// As the trait says; `at` points to `BYTES` bytes.
    unsafe fn head(at: *const u8) -> Self::Head;
    /// The first and the last sixteen weights of four blocks, as bytes.
    ///
    /// # Safety
    /// As for the head, which is that of the same bytes.
    unsafe fn bytes(at: *const u8, head: Self::Head, group: usize) -> (__m512i, __m512i);
    /// The blocks' scales, each in four lanes.
    ///
    /// # Safety
    /// As for the bytes.
    unsafe fn scales(head: Self::Head, group: usize) -> __m512;
    /// What is added to each weight of the four blocks.
    ///
    /// # Safety
    /// As for the bytes.
    unsafe fn minima(_: Self::Head) -> __m128 {
        // SAFETY: as the trait says.
        unsafe { _mm_setzero_ps() }
    }
}

/// The dot product of each row of weights with a column, of one of these types.
///
/// # Safety
/// The processor has AVX-512F, BW, DQ, VL and VNNI; rows and column hold the same number of
/// weights.
pub(super) unsafe fn dot<const R: usize>(
    kind: QuantType,
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            QuantType::Q4_0 => row_products::<Q4_0, R>(rows, column),
            QuantType::Q5_0 => row_products::<Fives<22, 2, false>, R>(rows, column),
            QuantType::Q5_1 => row_products::<Fives<24, 4, true>, R>(rows, column),
            QuantType::Iq4Nl => row_products::<Iq4Nl, R>(rows, column),
            QuantType::Iq4Xs => row_products::<Iq4Xs, R>(rows, column),
            _ => row_products::<Mxfp4, R>(rows, column),
        }
    }
}

/// What of a column four blocks are multiplied with.
struct Beside {
    numbers: *const i8,
    each: *const f32,
    shares: *const f32,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn row_products<F: Fours, const R: usize>(
    rows: &[&[u8]; R],
    column: &RoundedColumn,
) -> [f32; R] {
    let length = rows[0].len();
    let whole = length / F::BYTES;
    let mut sums = [_mm512_setzero_ps(); R];
    let mut less = [_mm_setzero_ps(); R];
    // SAFETY: every pointer stays within a row's or the column's blocks; what is fetched ahead may lie
    // anywhere.
    unsafe {
        for index in 0..whole {
            let mut at = [std::ptr::null(); R];
            for r in 0..R {
                at[r] = rows[r].as_ptr().wrapping_add(index * F::BYTES);
                for line in (0..F::BYTES).step_by(64) {
                    // The rows that come next lie behind these.
                    fetch_ahead(at[r].wrapping_add(line), R * length);
                }
            }
            let first = index * F::GROUPS * FOUR;
            let beside = Beside {
                numbers: column.numbers.as_ptr().add(first * BLOCK),
                each: column.each.as_ptr().add(first),
                shares: column.shares.as_ptr().add(first),
            };
            add::<F, R>(&at, &beside, &mut sums, &mut less);
        }
        let left = (length - whole * F::BYTES) / F::BLOCK_BYTES;
        if left > 0 {
            // Filled up with blocks of nothing.
            let first = whole * FOUR;
            let mut blocks = [[0u8; 128]; R];
            for r in 0..R {
                let rest = &rows[r][whole * F::BYTES..];
                blocks[r][..rest.len()].copy_from_slice(rest);
            }
            let (mut numbers, mut each) = ([0i8; FOUR * BLOCK], [0.0f32; FOUR]);
            let mut shares = each;
            let of = &column.numbers[first * BLOCK..][..left * BLOCK];
            numbers[..left * BLOCK].copy_from_slice(of);
            each[..left].copy_from_slice(&column.each[first..first + left]);
            shares[..left].copy_from_slice(&column.shares[first..first + left]);
            let beside = Beside {
                numbers: numbers.as_ptr(),
                each: each.as_ptr(),
                shares: shares.as_ptr(),
            };
            let at = std::array::from_fn(|r| blocks[r].as_ptr());
            add::<F, R>(&at, &beside, &mut sums, &mut less);
        }
        let mut all = [0.0; R];
        for r in 0..R {
            all[r] = _mm512_reduce_add_ps(sums[r]);
            if F::MINIMA {
                all[r] += _mm512_reduce_add_ps(_mm512_zextps128_ps512(less[r]));
            }
        }
        all
    }
}

/// Adds the products of `GROUPS` times four blocks of each row, and what their minima add.
///
/// # Safety
/// As [`row_products`]; pointers are to as many blocks.
#[inline(always)]
unsafe fn add<F: Fours, const R: usize>(
    at: &[*const u8; R],
    beside: &Beside,
    sums: &mut [__m512; R],
    less: &mut [__m128; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, last) = (
            _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13),
            _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15),
        );
        let mut heads = [F::head(at[0]); R];
        for r in 1..R {
            heads[r] = F::head(at[r]);
        }
        for group in 0..F::GROUPS {
            let x = beside.numbers.add(group * FOUR * BLOCK);
            let (one, other) = (
                _mm512_loadu_si512(x.cast()),
                _mm512_loadu_si512(x.add(2 * BLOCK).cast()),
            );
            let low = _mm512_permutex2var_epi64(one, first, other);
            let high = _mm512_permutex2var_epi64(one, last, other);
            let mut start = _mm512_setzero_si512();
            if F::OFFSET > 0 {
                let offset = _mm512_set1_epi8(F::OFFSET.cast_signed());
                let both = _mm512_dpbusd_epi32(start, offset, low);
                start = _mm512_sub_epi32(start, _mm512_dpbusd_epi32(both, offset, high));
            }
            let each = _mm_loadu_ps(beside.each.add(group * FOUR));
            let each = _mm512_permutexvar_ps(fours(0), _mm512_castps128_ps512(each));
            for r in 0..R {
                let (bytes, more) = F::bytes(at[r], heads[r], group);
                let sum = _mm512_dpbusd_epi32(start, bytes, low);
                let sum = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(sum, more, high));
                let scales = _mm512_mul_ps(F::scales(heads[r], group), each);
                sums[r] = _mm512_fmadd_ps(sum, scales, sums[r]);
            }
        }
        if F::MINIMA {
            let shares = _mm_loadu_ps(beside.shares);
            for r in 0..R {
                less[r] = _mm_fmadd_ps(F::minima(heads[r]), shares, less[r]);
            }
        }
    }
}

/// Four lanes each of the lanes from `first` on.
#[inline(always)]
unsafe fn fours(first: i32) -> __m512i {
    // SAFETY: see `Fours`.
    unsafe {
        let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        _mm512_add_epi32(lanes, _mm512_set1_epi32(first))
    }
}

/// Where the sixteen-bit words lie that are wanted of four blocks of `bytes` bytes, read as the first and
/// the last 64 bytes of them: those at `from` of each block, of each `count` in turn.
const fn words<const N: usize>(bytes: usize, from: usize, count: usize) -> [i16; N] {
    let mut all = [0; N];
    let mut i = 0;
    while i < N {
        let at = i / count * bytes + from + 2 * (i % count);
        all[i] = if at + 2 <= 64 {
            at / 2
        } else {
            32 + (at + 64 - FOUR * bytes) / 2
        } as i16;
        i += 1;
    }
    all
}

/// Where the nibbles of four blocks lie that begin with their scale.
static NIBBLES_OF_18: [i16; 32] = words(18, 2, 8);
static NIBBLES_OF_22: [i16; 32] = words(22, 6, 8);
static NIBBLES_OF_24: [i16; 32] = words(24, 8, 8);
static HEADS_OF_18: [i16; 32] = heads(18, 0);
static HEADS_OF_22: [i16; 32] = heads(22, 2);
static HEADS_OF_24: [i16; 32] = heads(24, 4);

/// Where the words lie that are of a head: the scales, four times each; the first halves of the fifth
/// bits at `fifths`, and the others; and what stands before these.
const fn heads(bytes: usize, fifths: usize) -> [i16; 32] {
    let mut all = [0; 32];
    let own: [[i16; 4]; 4] = [
        words(bytes, 0, 1),
        words(bytes, fifths, 1),
        words(bytes, fifths + 2, 1),
        words(bytes, 2, 1),
    ];
    let mut i = 0;
    while i < 32 {
        all[i] = match i {
            0..16 => own[0][i / 4],
            _ => own[1 + (i - 16) / 4 % 3][i % 4],
        };
        i += 1;
    }
    all
}

/// The words of four blocks at the places that `words` says.
#[inline(always)]
unsafe fn gather(at: *const u8, bytes: usize, words: &[i16; 32]) -> __m512i {
    // SAFETY: the caller has `bytes` bytes there, at least 64.
    unsafe {
        let first = _mm512_loadu_si512(at.cast());
        let last = _mm512_loadu_si512(at.add(bytes - 64).cast());
        let words = _mm512_loadu_si512(words.as_ptr().cast());
        _mm512_permutex2var_epi16(first, words, last)
    }
}

/// Nibbles as bytes: the low ones, and the high ones.
#[inline(always)]
unsafe fn split(packed: __m512i) -> (__m512i, __m512i) {
    // SAFETY: see `Fours`.
    unsafe {
        let mask = _mm512_set1_epi8(15);
        (
            _mm512_and_si512(packed, mask),
            _mm512_and_si512(_mm512_srli_epi16::<4>(packed), mask),
        )
    }
}

/// The numbers of a table, each with `more` added, at the low nibbles and at the high ones.
#[inline(always)]
unsafe fn look_up(table: &[i8; 16], more: u8, packed: __m512i) -> (__m512i, __m512i) {
    // SAFETY: see `Fours`; the table has sixteen bytes.
    unsafe {
        let table = _mm_add_epi8(
            _mm_loadu_si128(table.as_ptr().cast()),
            _mm_set1_epi8(more.cast_signed()),
        );
        let table = _mm512_broadcast_i32x4(table);
        let (low, high) = split(packed);
        (
            _mm512_shuffle_epi8(table, low),
            _mm512_shuffle_epi8(table, high),
        )
    }
}

struct Q4_0;
// SAFETY: the methods read no more than the bytes that the caller promises.
unsafe impl Fours for Q4_0 {
    const BYTES: usize = 4 * 18;
    const OFFSET: u8 = 8;
    type Head = __m512;

    #[inline(always)]
    unsafe fn head(at: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let head = gather(at, Self::BYTES, &HEADS_OF_18);
            _mm512_cvtph_ps(_mm512_castsi512_si256(head))
        }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8, _: __m512, _: usize) -> (__m512i, __m512i) {
        // SAFETY: see above.
        unsafe { split(gather(at, Self::BYTES, &NIBBLES_OF_18)) }
    }

    #[inline(always)]
    unsafe fn scales(head: __m512, _: usize) -> __m512 {
        head
    }
}

struct Iq4Nl;
// SAFETY: the methods read no more than the bytes that the caller promises.
unsafe impl Fours for Iq4Nl {
    const BYTES: usize = 4 * 18;
    const OFFSET: u8 = 128;
    type Head = __m512;

    #[inline(always)]
    unsafe fn head(at: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe { Q4_0::head(at) }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8, _: __m512, _: usize) -> (__m512i, __m512i) {
        // SAFETY: see above.
        unsafe {
            let packed = gather(at, Self::BYTES, &NIBBLES_OF_18);
            look_up(&IQ4, Self::OFFSET, packed)
        }
    }

    #[inline(always)]
    unsafe fn scales(head: __m512, _: usize) -> __m512 {
        head
    }
}

/// `Q5_0` and `Q5_1`: blocks of `BYTES` bytes, whose fifth bits are at `FIFTHS`.
struct Fives<const BYTES: usize, const FIFTHS: usize, const MINIMA: bool>;
// SAFETY: the methods read no more than the bytes that the caller promises.
unsafe impl<const BYTES: usize, const FIFTHS: usize, const MINIMA: bool> Fours
    for Fives<BYTES, FIFTHS, MINIMA>
{
    const BYTES: usize = 4 * BYTES;
    const OFFSET: u8 = if MINIMA { 0 } else { 16 };
    const MINIMA: bool = MINIMA;
    /// The words of [`heads`].
    type Head = __m512i;

    #[inline(always)]
    unsafe fn head(at: *const u8) -> __m512i {
        let words = if MINIMA { &HEADS_OF_24 } else { &HEADS_OF_22 };
        // SAFETY: see above.
        unsafe { gather(at, 4 * BYTES, words) }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8, head: __m512i, _: usize) -> (__m512i, __m512i) {
        let words = if MINIMA {
            &NIBBLES_OF_24
        } else {
            &NIBBLES_OF_22
        };
        // SAFETY: see above.
        unsafe {
            let (low, high) = split(gather(at, 4 * BYTES, words));
            let fifths = _mm512_extracti32x4_epi32::<2>(head);
            let (first, last) = (
                _mm_cvtsi128_si64(fifths).cast_unsigned(),
                _mm_extract_epi64::<1>(fifths).cast_unsigned(),
            );
            let more = _mm512_set1_epi8(16);
            (
                _mm512_mask_add_epi8(low, first, low, more),
                _mm512_mask_add_epi8(high, last, high, more),
            )
        }
    }

    #[inline(always)]
    unsafe fn scales(head: __m512i, _: usize) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm512_castsi512_si256(head)) }
    }

    #[inline(always)]
    unsafe fn minima(head: __m512i) -> __m128 {
        // SAFETY: see above.
        unsafe { _mm_cvtph_ps(_mm512_extracti32x4_epi32::<3>(head)) }
    }
}

struct Iq4Xs;
// SAFETY: the methods read no more than the bytes that the caller promises.
unsafe impl Fours for Iq4Xs {
    const BYTES: usize = 136;
    const GROUPS: usize = 2;
    /// There is no smaller block.
    const BLOCK_BYTES: usize = 136;
    const OFFSET: u8 = 128;
    /// The scales of the eight blocks.
    type Head = __m256;

    #[inline(always)]
    unsafe fn head(at: *const u8) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let numbers = iq4_xs_scales(&*at.cast());
            let whole = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(numbers.cast_signed()));
            let whole = _mm256_sub_epi32(whole, _mm256_set1_epi32(32));
            _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_set1_ps(half(at)))
        }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8, _: __m256, group: usize) -> (__m512i, __m512i) {
        // SAFETY: see above.
        unsafe {
            let packed = _mm512_loadu_si512(at.add(8 + 64 * group).cast());
            look_up(&IQ4, Self::OFFSET, packed)
        }
    }

    #[inline(always)]
    unsafe fn scales(head: __m256, group: usize) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let lanes = fours((FOUR * group) as i32);
            _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(head))
        }
    }
}

struct Mxfp4;
// SAFETY: the methods read no more than the bytes that the caller promises.
unsafe impl Fours for Mxfp4 {
    const BYTES: usize = 4 * 17;
    const OFFSET: u8 = 12;
    type Head = __m512;

    #[inline(always)]
    unsafe fn head(at: *const u8) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let bytes = [*at, *at.add(17), *at.add(34), *at.add(51)];
            let all = _mm512_set1_epi32(i32::from_le_bytes(bytes));
            // A byte of the four, and zeros, in each lane.
            let none = -0x100;
            let lanes = _mm512_add_epi32(fours(0), _mm512_set1_epi32(none));
            let powers = _mm512_shuffle_epi8(all, lanes);
            // As `half_power` does it.
            let one = _mm512_set1_epi32(1);
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(powers, one));
            let small = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), powers);
            let is_small = _mm512_cmple_epi32_mask(powers, one);
            _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, is_small, small))
        }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8, _: __m512, _: usize) -> (__m512i, __m512i) {
        // SAFETY: see above.
        unsafe {
            let packed = _mm512_castsi128_si512(_mm_loadu_si128(at.add(1).cast()));
            let one = _mm_loadu_si128(at.add(18).cast());
            let packed = _mm512_inserti32x4::<1>(packed, one);
            let two = _mm_loadu_si128(at.add(35).cast());
            let packed = _mm512_inserti32x4::<2>(packed, two);
            let three = _mm_loadu_si128(at.add(52).cast());
            let packed = _mm512_inserti32x4::<3>(packed, three);
            look_up(&FP4, Self::OFFSET, packed)
        }
    }

    #[inline(always)]
    unsafe fn scales(head: __m512, _: usize) -> __m512 {
        head
    }
}
