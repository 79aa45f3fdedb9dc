//! What unpacking blocks of weights does with 32 bytes at a time: in registers where the build's own
//! target has AVX2, else in plain Rust.

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx2",
    target_feature = "f16c"
))]
pub(super) use vector::*;

#[cfg(not(all(
    target_arch = "x86_64",
    target_feature = "avx2",
    target_feature = "f16c"
)))]
pub(super) use plain::*;

/// Half of the power of two whose exponent is `byte` less 127.
#[inline(always)]
pub(super) fn half_power(byte: u8) -> f32 {
    match byte {
        0 | 1 => f32::from_bits(0x0020_0000 << byte),
        _ => f32::from_bits(u32::from(byte - 1) << 23),
    }
}

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx2",
    target_feature = "f16c"
))]
mod vector {
    use crate::nn::quant::BLOCK;
    use std::arch::x86_64::*;

    #[inline(always)]
    pub(crate) fn load(bytes: &[u8; BLOCK]) -> __m256i {
        // SAFETY: there are 32 bytes.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    pub(crate) fn store(bytes: __m256i, to: &mut [i8; BLOCK]) {
        // SAFETY: there is room for 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), bytes) };
    }

    /// Each byte moved right by `by` bits, of which those of `mask` stay.
    #[inline(always)]
    pub(crate) fn bits(bytes: __m256i, by: usize, mask: i8) -> __m256i {
        // SAFETY: the build's own target has the instructions. What comes from the byte above is
        // masked out.
        unsafe {
            let moved = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(by as i32));
            _mm256_and_si256(moved, _mm256_set1_epi8(mask))
        }
    }

    /// Each byte moved left by `by` bits; none of them leaves its byte.
    #[inline(always)]
    pub(crate) fn raised(bytes: __m256i, by: usize) -> __m256i {
        // SAFETY: as in `bits`.
        unsafe { _mm256_sll_epi16(bytes, _mm_cvtsi32_si128(by as i32)) }
    }

    /// The f16 at `at` of each of eight blocks of `BYTES` bytes, twice.
    #[inline(always)]
    pub(crate) fn halves<const BYTES: usize>(blocks: &[u8], at: usize, to: &mut [f32; 16]) {
        let half = |i: usize| {
            let at = i * BYTES + at;
            i16::from_le_bytes([blocks[at], blocks[at + 1]])
        };
        // SAFETY: as in `bits`; there is room for 16 floats.
        unsafe {
            let raw = _mm_setr_epi16(
                half(0),
                half(1),
                half(2),
                half(3),
                half(4),
                half(5),
                half(6),
                half(7),
            );
            let low = _mm256_cvtph_ps(_mm_unpacklo_epi16(raw, raw));
            let high = _mm256_cvtph_ps(_mm_unpackhi_epi16(raw, raw));
            _mm256_storeu_ps(to.as_mut_ptr(), low);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), high);
        }
    }

    #[inline(always)]
    pub(crate) fn or(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: as in `bits`.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    pub(crate) fn less(a: __m256i, by: i8) -> __m256i {
        // SAFETY: as in `bits`.
        unsafe { _mm256_sub_epi8(a, _mm256_set1_epi8(by)) }
    }

    /// `by` times each of sixteen numbers, less `offset`; eight bytes a word.
    #[inline(always)]
    pub(crate) fn scaled(numbers: [u64; 2], offset: i32, by: f32, to: &mut [f32; 16]) {
        for (half, word) in numbers.into_iter().enumerate() {
            // SAFETY: as in `bits`; there is room for 16 floats.
            unsafe {
                let whole = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(word.cast_signed()));
                let whole = _mm256_sub_epi32(whole, _mm256_set1_epi32(offset));
                let floats = _mm256_mul_ps(_mm256_set1_ps(by), _mm256_cvtepi32_ps(whole));
                _mm256_storeu_ps(to.as_mut_ptr().add(8 * half), floats);
            }
        }
    }

    /// [`super::half_power`] of sixteen bytes, eight a word.
    #[inline(always)]
    pub(crate) fn half_powers(exponents: [u64; 2], to: &mut [f32; 16]) {
        for (half, word) in exponents.into_iter().enumerate() {
            // SAFETY: as in `scaled`.
            unsafe {
                let (one, least) = (_mm256_set1_epi32(1), _mm256_set1_epi32(0x0020_0000));
                let whole = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(word.cast_signed()));
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(whole, one));
                let small = _mm256_sllv_epi32(least, whole);
                let is_normal = _mm256_cmpgt_epi32(whole, one);
                let bits = _mm256_blendv_epi8(small, normal, is_normal);
                _mm256_storeu_ps(to.as_mut_ptr().add(8 * half), _mm256_castsi256_ps(bits));
            }
        }
    }
    /// 32 numbers of 5 bits: the low nibbles of 16 bytes, then the high ones, each with its fifth bit;
    /// less `offset`.
    #[inline(always)]
    pub(crate) fn fives(high: &[u8], low: &[u8], offset: i8, to: &mut [i8; BLOCK]) {
        // SAFETY: the build's own target has the instructions; `low` has 16 bytes, `to` room for 32.
        unsafe {
            let packed = _mm_loadu_si128(low[..16].as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
            let four = _mm256_and_si256(both, _mm256_set1_epi8(15));
            // Each byte of the bits eight times over, of which each looks at a bit of its own.
            let bits = i32::from_le_bytes([high[0], high[1], high[2], high[3]]);
            let spread = _mm256_setr_epi64x(
                0,
                0x0101_0101_0101_0101,
                0x0202_0202_0202_0202,
                0x0303_0303_0303_0303,
            );
            let bits = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
            let own = _mm256_set1_epi64x(0x8040_2010_0804_0201u64.cast_signed());
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, own), own);
            let fifth = _mm256_and_si256(set, _mm256_set1_epi8(16));
            let number = _mm256_or_si256(four, fifth);
            let number = _mm256_sub_epi8(number, _mm256_set1_epi8(offset));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), number);
        }
    }

    /// 32 numbers of a table: those at the low nibbles of 16 bytes, then those at the high ones.
    #[inline(always)]
    pub(crate) fn look_up(table: &[i8; 16], bytes: &[u8], to: &mut [i8; BLOCK]) {
        // SAFETY: the build's own target has the instructions; every pointer is to 16 bytes.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            let packed = _mm_loadu_si128(bytes[..16].as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_shuffle_epi8(table, _mm_and_si128(packed, mask));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(packed), mask);
            let high = _mm_shuffle_epi8(table, high);
            _mm_storeu_si128(to.as_mut_ptr().cast(), low);
            _mm_storeu_si128(to.as_mut_ptr().add(16).cast(), high);
        }
    }
}

#[cfg(any(
    test,
    not(all(
        target_arch = "x86_64",
        target_feature = "avx2",
        target_feature = "f16c"
    ))
))]
mod plain {
    use crate::nn::quant::{BLOCK, half_at};

    #[inline(always)]
    pub(crate) fn load(bytes: &[u8; BLOCK]) -> [u8; BLOCK] {
        *bytes
    }

    #[inline(always)]
    pub(crate) fn store(bytes: [u8; BLOCK], to: &mut [i8; BLOCK]) {
        *to = bytes.map(u8::cast_signed);
    }

    #[inline(always)]
    pub(crate) fn bits(bytes: [u8; BLOCK], by: usize, mask: i8) -> [u8; BLOCK] {
        bytes.map(|byte| byte >> by & mask.cast_unsigned())
    }

    #[inline(always)]
    pub(crate) fn raised(bytes: [u8; BLOCK], by: usize) -> [u8; BLOCK] {
        bytes.map(|byte| byte << by)
    }

    #[inline(always)]
    pub(crate) fn halves<const BYTES: usize>(blocks: &[u8], at: usize, to: &mut [f32; 16]) {
        for (block, to) in blocks.chunks_exact(BYTES).zip(to.as_chunks_mut::<2>().0) {
            *to = [half_at(block, at); 2];
        }
    }

    #[inline(always)]
    pub(crate) fn or(a: [u8; BLOCK], b: [u8; BLOCK]) -> [u8; BLOCK] {
        let mut both = a;
        both.iter_mut().zip(b).for_each(|(a, b)| *a |= b);
        both
    }

    #[inline(always)]
    pub(crate) fn less(a: [u8; BLOCK], by: i8) -> [u8; BLOCK] {
        a.map(|byte| byte.wrapping_sub(by.cast_unsigned()))
    }

    #[inline(always)]
    pub(crate) fn scaled(numbers: [u64; 2], offset: i32, by: f32, to: &mut [f32; 16]) {
        let bytes = numbers.map(u64::to_le_bytes);
        for (to, number) in to.iter_mut().zip(bytes.as_flattened()) {
            *to = by * (i32::from(*number) - offset) as f32;
        }
    }

    #[inline(always)]
    pub(crate) fn half_powers(exponents: [u64; 2], to: &mut [f32; 16]) {
        let bytes = exponents.map(u64::to_le_bytes);
        for (to, exponent) in to.iter_mut().zip(bytes.as_flattened()) {
            *to = super::half_power(*exponent);
        }
    }
    #[inline(always)]
    pub(crate) fn fives(high: &[u8], low: &[u8], offset: i8, to: &mut [i8; BLOCK]) {
        let bits = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
        let low: &[u8; 16] = &low.as_chunks::<16>().0[0];
        for i in 0..16 {
            let fifth = |i: usize| ((bits >> i & 1) as u8) << 4;
            to[i] = (low[i] & 15 | fifth(i)).cast_signed() - offset;
            to[i + 16] = (low[i] >> 4 | fifth(i + 16)).cast_signed() - offset;
        }
    }

    #[inline(always)]
    pub(crate) fn look_up(table: &[i8; 16], bytes: &[u8], to: &mut [i8; BLOCK]) {
        for (i, byte) in bytes[..16].iter().enumerate() {
            to[i] = table[usize::from(byte & 15)];
            to[i + 16] = table[usize::from(byte >> 4)];
        }
    }
}

#[cfg(all(
    test,
    target_arch = "x86_64",
    target_feature = "avx2",
    target_feature = "f16c"
))]
mod tests {
    use super::{plain, vector};
    use crate::nn::quant::BLOCK;

    /// `N` bytes that begin elsewhere for every `seed`.
    fn some<const N: usize>(seed: usize) -> [u8; N] {
        std::array::from_fn(|i| ((i + 31 * seed) * 7919 % 251 + seed) as u8)
    }

    fn stored(store: impl Fn(&mut [i8; BLOCK])) -> [i8; BLOCK] {
        let mut to = [99; BLOCK];
        store(&mut to);
        to
    }

    fn floats(write: impl Fn(&mut [f32; 16])) -> [u32; 16] {
        let mut to = [0.0; 16];
        write(&mut to);
        to.map(f32::to_bits)
    }

    #[test]
    fn registers_and_plain_code_give_the_same() {
        for seed in 0..64 {
            let (one, other) = (some::<BLOCK>(seed), some::<BLOCK>(seed + 1000));
            for by in 0..8 {
                let (v, p) = (vector::load(&one), plain::load(&one));
                let mask = (0xff_u8 >> by).cast_signed() & 31;
                assert_eq!(
                    stored(|to| vector::store(vector::bits(v, by, mask), to)),
                    stored(|to| plain::store(plain::bits(p, by, mask), to))
                );
                let (v, p) = (vector::bits(v, 7, 1), plain::bits(p, 7, 1));
                let (v, p) = (vector::raised(v, by), plain::raised(p, by));
                let (v, p) = (
                    vector::or(v, vector::load(&other)),
                    plain::or(p, plain::load(&other)),
                );
                let less = by as i8;
                assert_eq!(
                    stored(|to| vector::store(vector::less(v, less), to)),
                    stored(|to| plain::store(plain::less(p, less), to))
                );
            }
            let table = some::<16>(seed).map(u8::cast_signed);
            assert_eq!(
                stored(|to| vector::look_up(&table, &one, to)),
                stored(|to| plain::look_up(&table, &one, to))
            );
            for offset in [0, 16] {
                assert_eq!(
                    stored(|to| vector::fives(&other, &one, offset, to)),
                    stored(|to| plain::fives(&other, &one, offset, to))
                );
            }
            let words = [0, 8].map(|at| u64::from_le_bytes(one[at..].as_chunks::<8>().0[0]));
            assert_eq!(
                floats(|to| vector::scaled(words, 32, 0.37, to)),
                floats(|to| plain::scaled(words, 32, 0.37, to))
            );
            let blocks = some::<144>(seed);
            assert_eq!(
                floats(|to| vector::halves::<18>(&blocks, 0, to)),
                floats(|to| plain::halves::<18>(&blocks, 0, to))
            );
        }
        // Every exponent.
        for first in (0..=240u8).step_by(16) {
            let bytes: [u8; 16] = std::array::from_fn(|i| first + i as u8);
            let words = [0, 8].map(|at| u64::from_le_bytes(bytes[at..].as_chunks::<8>().0[0]));
            assert_eq!(
                floats(|to| vector::half_powers(words, to)),
                floats(|to| plain::half_powers(words, to))
            );
        }
    }
}
